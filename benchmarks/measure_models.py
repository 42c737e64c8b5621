"""What trained models do to simulated doses with a known truth, and to a scan that they have not seen.

    python benchmarks/measure_models.py MODEL [MODEL ...] --lcd_dir lcd_ct_fbp_sim_doses --test_dir SERIES

Prints Markdown: one column per model, then mean and SD over the models (the seeds of one recipe). Slices are denoised
one by one. The non-local means filter of scikit-image is the floor: its h is tuned on every second slice of the test
scan, and all columns report the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ctclip import Denoiser
from ctclip.data.scans import paths_of, read_scan
from ctclip.data.sources import find_items
from ctclip.metrics.image import image_quality
from ctclip.phantom import low_dose
from ctclip.report.markdown import mean_and_sd
from ctclip.units import SOFT_TISSUE_HU_WINDOW

DOSES = ("010", "055", "100")
LCD_SIZE = 256
LCD_OFFSET_HU = 1000
"""Stored values of the low-contrast data are HU + 1000."""

BODY_ABOVE_HU = -50
INSERT_HU = 14
INSERT_RADIUS_PX = 2.5
RING_PX = (8, 14)
"""Contrast is the mean of the 14 HU insert, 12 pixels, over the mean of a ring around it."""

TEST_SD_HU = (25.0, 60.0)
NLM_H = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Candidates for h, in units of the noise SD."""

Row = dict[str, float]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--lcd_dir", type=Path, required=True)
    parser.add_argument("--test_dir", required=True)
    args = parser.parse_args()
    test = read_scan(paths_of(find_items(args.test_dir)[0]["image"])).hu
    rows: dict[str, Row] = {}
    for model in args.models:
        denoiser = Denoiser.load(model, device="auto")
        rows[model] = {**lcd_row(args.lcd_dir, denoiser), **scan_row(test[1::2], denoiser)}
    baseline = {**lcd_row(args.lcd_dir, None), **scan_row(test[1::2], None)}
    print(table(baseline, rows))
    print("\nnon-local means:", {name: round(value, 2) for name, value in nlm_row(test).items()})


def lcd_row(folder: Path, denoiser: Denoiser | None) -> Row:
    """RMSE against the truth, bias against the input and contrast of the smallest insert, for each dose."""
    row: Row = {}
    for dose in DOSES:
        noisy, truth = lcd_images(folder, dose)
        body = truth > BODY_ABOVE_HU
        insert, ring = insert_masks(truth)
        pred = noisy if denoiser is None else np.stack([np.asarray(denoiser.denoise(each)) for each in noisy])
        error = pred - truth
        row[f"RMSE {dose} %"] = float(np.sqrt(np.mean(error**2)))
        row[f"body RMSE {dose} %"] = float(np.sqrt(np.mean(error[:, body] ** 2)))
        row[f"bias {dose} %"] = float(np.mean((pred - noisy)[:, body]))
        row[f"contrast {dose} %"] = float(pred[:, insert].mean() - pred[:, ring].mean())
    return row


def lcd_images(folder: Path, dose: str) -> tuple[np.ndarray, np.ndarray]:
    """The realisations with inserts, (10, 256, 256) in HU, and their truth."""
    files = sorted((folder / f"dose_{dose}" / "signal_present").glob("*.raw"))
    return np.stack([_raw(file, "<i2") for file in files]), _raw(folder / "ground_truth.raw", "<u2")


def _raw(path: Path, dtype: str) -> np.ndarray:
    return np.fromfile(path, dtype).reshape(LCD_SIZE, LCD_SIZE).astype(np.float32) - LCD_OFFSET_HU


def insert_masks(truth_hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest insert, and the ring around it."""
    rows, columns = np.nonzero(truth_hu == INSERT_HU)
    y, x = np.mgrid[:LCD_SIZE, :LCD_SIZE]
    radius = np.hypot(y - rows.mean(), x - columns.mean())
    return radius < INSERT_RADIUS_PX, (radius > RING_PX[0]) & (radius < RING_PX[1]) & (truth_hu == 0)


def scan_row(scan_hu: np.ndarray, denoiser: Denoiser | None) -> Row:
    """PSNR in [-160, 240] HU on a scan with simulated noise, against the scan itself."""
    row: Row = {}
    for sd_hu in TEST_SD_HU:
        noisy = low_dose(scan_hu, sd_hu, seed=int(sd_hu))
        pred = noisy if denoiser is None else np.stack([np.asarray(denoiser.denoise(each)) for each in noisy])
        row[f"PSNR {sd_hu:g} HU"] = image_quality(pred, scan_hu, SOFT_TISSUE_HU_WINDOW)["psnr_db"]
    return row


def nlm_row(scan_hu: np.ndarray) -> Row:
    """The same for non-local means with the best h."""
    row: Row = {}
    for sd_hu in TEST_SD_HU:
        scores = {}
        for h in NLM_H:
            noisy = low_dose(scan_hu[::2], sd_hu, seed=int(sd_hu) + 1)
            scores[h] = image_quality(_nlm(noisy, sd_hu, h), scan_hu[::2], SOFT_TISSUE_HU_WINDOW)["psnr_db"]
        best = max(scores, key=lambda h: scores[h])
        noisy = low_dose(scan_hu[1::2], sd_hu, seed=int(sd_hu))
        quality = image_quality(_nlm(noisy, sd_hu, best), scan_hu[1::2], SOFT_TISSUE_HU_WINDOW)
        row[f"h at {sd_hu:g} HU"], row[f"PSNR {sd_hu:g} HU"] = best, quality["psnr_db"]
    return row


def _nlm(slices_hu: np.ndarray, sd_hu: float, h: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    settings = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
    return np.stack([denoise_nl_means(each, h=h * sd_hu, sigma=sd_hu, **settings) for each in slices_hu])


def table(baseline: Row, rows: dict[str, Row]) -> str:
    """Markdown with a line per measure: input, each model, mean and SD."""
    lines = [f"| | input | {' | '.join(rows)} | mean ± SD |", "|---" * (len(rows) + 3) + "|"]
    for name, before in baseline.items():
        values = [row[name] for row in rows.values()]
        spread = mean_and_sd(values) if len(values) > 1 else ""
        lines.append(f"| {name} | {before:.2f} | {' | '.join(f'{value:.2f}' for value in values)} | {spread} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
