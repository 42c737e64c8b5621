"""Short trainings that differ from the recipe of ct-compact in one point each, over several seeds.

    python benchmarks/compare_recipes.py --dataset_dir TRAIN --encoder ENCODER.pt --test_dir SERIES --output_dir OUT

Every run starts from a random decoder and trains it for the same number of steps on the same data; the encoder is
the one given, frozen, unless the variant says otherwise. Results are appended to ``OUT/results.jsonl``; runs that are
already there are not repeated, so that the comparison can be stopped and started again. ``--table`` prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

BUNDLE = Path(__file__).parents[1] / "bundles" / "ct_compact_denoising"

TEST_SD_HU = (25.0, 60.0)
"""Simulated noise of even level on the test series: about quarter dose, and far below."""

TEST_DOSE = 0.1
"""Dose of the test series with noise of simulated projections."""

VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "random frozen encoder": {"network_def#encoder_weights": None, "network_def#random_encoder": True},
    "all trained end to end": {
        "network_def": {
            "_target_": "ctclip.networks.DenseFeatureDenoiser",
            "config": "@network_config",
            "freeze_encoder": False,
            "augmentation_gamma": 0.0,
        }
    },
    "no feature augmentation": {"augmentation_gamma": 0.0},
    "three input slices": {"network_config#in_channels": 3},
    "drifting BatchNorm": {"network_def#drifting_batchnorm": True},
    "direct output": {"network_config#residual": False},
    "white noise of 80 HU": {"noise": {"_target_": "ctclip.transforms.RandWhiteNoise", "sd": [80.3, 80.3]}},
    "half of the noise from projections": {"projection_noise": 0.5},
    "no phantoms": {"phantoms": 0.0},
}


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", help="training scans")
    parser.add_argument("--encoder", help="weights file of the frozen encoder")
    parser.add_argument("--test_dir", help="a scan that is not among the training scans")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batches", type=int, default=50, help="per epoch")
    parser.add_argument("--patch_size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    results = args.output_dir / "results.jsonl"
    if args.table:
        print(table([json.loads(line) for line in results.read_text().splitlines()]))
        return
    args.output_dir.mkdir(parents=True, exist_ok=True)
    done = {(row["variant"], row["seed"]) for row in map(json.loads, results.open())} if results.exists() else set()
    for seed in args.seeds:
        for variant in args.variants:
            if (variant, seed) in done:
                continue
            row = {"variant": variant, "seed": seed, **run(variant, seed, args)}
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def run(variant: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train one variant and measure its best checkpoint."""
    from monai.bundle import ConfigWorkflow

    folder = args.output_dir / f"{variant.replace(' ', '_')}_{seed}"
    overrides: dict[str, Any] = {
        "network_def": {
            "_target_": "ctclip.weights.build_network",
            "config": "@network_config",
            "encoder_weights": args.encoder,
            "augmentation_gamma": "@augmentation_gamma",
        },
        "dataset_dir": args.dataset_dir,
        "output_dir": str(folder),
        "seed": seed,
        "epochs": args.epochs,
        "batches_per_epoch": args.batches,
        "patch_size": args.patch_size,
        "projection_noise": 0.0,
        "val_interval": 2,
        **VARIANTS[variant],
    }
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs/train.json"), workflow_type="train", bundle_root=str(BUNDLE), logging_file=False
    )
    for name, value in overrides.items():
        workflow.parser[name] = value
    workflow.initialize()
    workflow.run()
    return measure(folder / "model.pt", args.test_dir)


def measure(checkpoint: Path, test_dir: str) -> dict[str, float]:
    """PSNR in [-160, 240] HU on a scan with simulated noise, against the scan itself."""
    from ctclip import Denoiser
    from ctclip.data.sources import find_items
    from ctclip.metrics.image import image_quality
    from ctclip.phantom import low_dose
    from ctclip.simulation import NoiseSimulator
    from ctclip.transforms import LoadImageCTd
    from ctclip.units import SOFT_TISSUE_HU_WINDOW

    test = LoadImageCTd("image")(find_items(test_dir)[0])["image"]
    clean_hu = np.asarray(test)[0].T
    # As many slices as keep the comparison short, with neighbours for the variant that looks at them.
    clean_hu = clean_hu[len(clean_hu) // 2 - 4 : len(clean_hu) // 2 + 4]
    denoiser = Denoiser.load(checkpoint, device="auto")
    noisy_hu = {f"{sd_hu:g} HU": low_dose(clean_hu, sd_hu, seed=int(sd_hu)) for sd_hu in TEST_SD_HU}
    simulator = NoiseSimulator("projection", "standard", float(test.pixdim[0])).for_dose(list(clean_hu), TEST_DOSE)
    noisy_hu[f"{TEST_DOSE:.0%} dose"] = simulator.low_dose(clean_hu)
    row = {}
    for test, noisy in noisy_hu.items():
        for name, image in (("input", noisy), ("pred", denoiser.denoise(noisy))):
            quality = image_quality(image, clean_hu, SOFT_TISSUE_HU_WINDOW)
            row[f"{name} {test}"] = round(quality["psnr_db"], 3)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and SD over seeds as Markdown."""
    by_variant: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_variant[row["variant"]].append(row)
    names = [name.removeprefix("input ") for name in rows[0] if name.startswith("input ")]
    lines = ["| variant | seeds | " + " | ".join(f"PSNR, {name}" for name in names) + " |"]
    lines.append("|---" * (len(names) + 2) + "|")
    first = rows[0]
    lines.append("| input | | " + " | ".join(f"{first[f'input {name}']:.2f}" for name in names) + " |")
    for variant in (name for name in VARIANTS if name in by_variant):
        group = by_variant[variant]
        cells = []
        for name in names:
            values = [row[f"pred {name}"] for row in group]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
        lines.append(f"| {variant} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
