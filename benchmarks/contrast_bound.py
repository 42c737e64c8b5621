"""How much noise any linear filter must leave when it keeps the contrast of the smallest insert of CCT189.

    python benchmarks/contrast_bound.py lcd_ct_fbp_sim_doses [MODEL]

Among all shift-invariant filters H that keep a given share of the mean contrast of a disc (radius 2 pixels, blurred
by 0.9 pixels), the one that leaves the least noise is H proportional to S / NPS, where S is the cross-spectrum of
the disc and the region in which its contrast is measured (Cauchy-Schwarz). The NPS is measured on the realisations
without inserts.

With a model, also what it costs to put back the low frequencies of all that the model takes out, so that the insert
stays: RMSE, noise and contrast with a Butterworth low-pass that passes 90 % of the disc; and where the model errs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from measure_models import BODY_ABOVE_HU, DOSES, insert_masks, lcd_images
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ctclip import Denoiser

SIZE, ROI, CORNERS = 256, 64, (64, 96, 128)
DISC_RADIUS_PX, MEASURED_RADIUS_PX, BLUR_PX = 2.0, 2.5, 0.9

CUTOFF, ORDER = 0.17, 4
"""Of the Butterworth low-pass, in cycles per pixel."""

EDGE_PX = 4
"""Distance from the phantom's edge, on either side, within which a pixel counts to it."""

UNIFORM = np.s_[:, 100:150, 100:150]
"""Part of the body without inserts."""


def radial_nps(folder: Path) -> np.ndarray:
    """NPS of the uniform body, averaged over rings: its mean over all frequencies is the variance in HU^2."""
    images = np.stack([np.fromfile(file, "<i2").reshape(SIZE, SIZE) for file in sorted(folder.glob("*.raw"))])
    noise = (images - images.mean(axis=0)) * np.sqrt(len(images) / (len(images) - 1))
    rois = [noise[:, y : y + ROI, x : x + ROI] for y in CORNERS for x in CORNERS]
    power = np.mean([np.abs(np.fft.fft2(roi)) ** 2 for roi in rois], axis=(0, 1)) / ROI**2
    f = np.fft.fftfreq(ROI)
    ring = (np.hypot(f[:, None], f[None, :]) * ROI).astype(int)
    return np.array([power[ring == each].mean() for each in range(ring.max() + 1)])[ring]


def least_noise_hu(nps: np.ndarray, kept: float) -> float:
    """SD after the best filter that keeps the share ``kept`` of the disc's measured contrast."""
    y, x = np.mgrid[:ROI, :ROI] - ROI / 2
    radius = np.hypot(y, x)
    disc = gaussian_filter((radius < DISC_RADIUS_PX).astype(float), BLUR_PX)
    region = (radius < MEASURED_RADIUS_PX) / (radius < MEASURED_RADIUS_PX).sum()
    cross = (np.fft.fft2(disc) * np.conj(np.fft.fft2(region))).real
    weights = cross / nps
    weights *= kept * (disc * region).sum() / np.mean(weights * cross)
    return float(np.sqrt(np.mean(weights**2 * nps)))


def low_pass(images: np.ndarray) -> np.ndarray:
    """(images, rows, columns) without their high frequencies; mirrored at the border."""
    padding = SIZE // 8
    wide = np.pad(images, ((0, 0), (padding, padding), (padding, padding)), mode="symmetric")
    f = np.hypot(np.fft.fftfreq(wide.shape[1])[:, None], np.fft.rfftfreq(wide.shape[2])[None])
    passed = np.fft.irfft2(np.fft.rfft2(wide) / (1 + (f / CUTOFF) ** (2 * ORDER)), s=wide.shape[1:])
    return passed[:, padding:-padding, padding:-padding]


def with_low_frequencies(folder: Path, dose: str, denoiser: Denoiser) -> str:
    """What is left of error, noise and contrast when low frequencies come back."""
    noisy, truth = lcd_images(folder, dose)
    insert, ring = insert_masks(truth)
    network = np.stack([np.asarray(denoiser.denoise(each)) for each in noisy])
    images = {"input": noisy, "network": network, "low frequencies put back": network + low_pass(noisy - network)}
    return "; ".join(
        f"{name}: RMSE {np.sqrt(np.mean((image - truth) ** 2)):.2f} HU, "
        f"noise {image[UNIFORM].std(axis=0).mean():.1f} HU, "
        f"contrast {image[:, insert].mean() - image[:, ring].mean():.2f} HU"
        for name, image in images.items()
    )


def error_shares(folder: Path, dose: str, denoiser: Denoiser) -> str:
    """Where the squared error of the denoised images lies: near the phantom's edge, in the air, in the body."""
    noisy, truth = lcd_images(folder, dose)
    body = truth > BODY_ABOVE_HU
    edge = np.where(body, distance_transform_edt(body), distance_transform_edt(~body)) <= EDGE_PX
    error = np.mean([(np.asarray(denoiser.denoise(each)) - truth) ** 2 for each in noisy], axis=0)
    places = {"edge": edge, "air": ~body & ~edge, "body": body & ~edge}
    shares = (f"{name} {100 * error[where].sum() / error.sum():.0f} %" for name, where in places.items())
    return f"squared error of the network: {', '.join(shares)}"


def main() -> None:
    """Print the bound for each dose."""
    folder = Path(sys.argv[1])
    denoiser = Denoiser.load(sys.argv[2]) if len(sys.argv) > 2 else None
    for dose in DOSES:
        nps = radial_nps(folder / f"dose_{dose}" / "signal_absent")
        bounds = ", ".join(f"{100 * kept:.0f} % kept: {least_noise_hu(nps, kept):.1f} HU" for kept in (0.9, 0.6, 0.3))
        print(f"dose {dose} %: noise {np.sqrt(nps.mean()):.1f} HU; least noise with {bounds}")
        if denoiser:
            print("  " + with_low_frequencies(folder, dose, denoiser))
            print("  " + error_shares(folder, dose, denoiser))


if __name__ == "__main__":
    main()
