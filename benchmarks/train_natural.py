"""Trains, over several seeds, the RGB networks that docs/results/natural_ood.md compares: same images, noise and steps.

    python benchmarks/train_natural.py --dataset_dir CBSD432 --encoder ENCODER.pt --imagenet RESNET50 --output_dir OUT

``ENCODER.pt`` holds the encoder that ctclip trained itself (first stage of ``natural_clip_denoising``), ``RESNET50`` an
ImageNet ResNet-50 with timm's names. Every run is one call of the bundle; the best checkpoint of a run becomes
``OUT/VARIANT_SEED.pt``, and runs that are already there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).parents[1] / "bundles" / "natural_clip_denoising"

DECODER_ON = {
    "_target_": "ctclip.weights.build_network",
    "config": "@network_config",
    "encoder_weights": "@encoder_weights",
    "augmentation_gamma": "@augmentation_gamma",
}
"""A decoder from random weights on a frozen encoder."""

END_TO_END = {
    "_target_": "ctclip.networks.DenseFeatureDenoiser",
    "config": "@network_config",
    "freeze_encoder": False,
    "augmentation_gamma": 0.0,
}

VARIANTS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "frozen": (None, {"network_def": DECODER_ON, "contrast_prob": 0.0}),
    "frozen-contrast": (None, {"network_def": DECODER_ON}),
    "dncnn": ("train_dncnn.json", {}),
    "restormer": ("train_restormer.json", {}),
    "end-to-end": (None, {"network_def": END_TO_END, "contrast_prob": 0.0}),
    "end-to-end-contrast": (None, {"network_def": END_TO_END}),
    "random-encoder": (
        None,
        {
            "network_def": {**DECODER_ON, "encoder_weights": None, "random_encoder": True},
            "contrast_prob": 0.0,
        },
    ),
    "no-augmentation": (None, {"network_def": DECODER_ON, "contrast_prob": 0.0, "augmentation_gamma": 0.0}),
    "dncnn-contrast": ("train_dncnn.json", {"contrast_prob": 0.5}),
    "imagenet": (None, {"network_def": DECODER_ON, "contrast_prob": 0.0}),
}
"""Override file of the bundle and further overrides of each variant; ``train_compact.json`` comes first."""

IMAGENET_CONFIG = {"network_config#encoder_width": 64, "network_config#backbone": "resnet50"}


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="training images")
    parser.add_argument("--encoder", type=Path, help="weights file of the frozen encoder")
    parser.add_argument("--imagenet", type=Path, help="weights file of timm's resnet50")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batches", type=int, default=250, help="per epoch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for variant in args.variants:
            final = args.output_dir / f"{variant}_{seed}.pt"
            if not final.exists():
                train(variant, seed, args)
                os.replace(args.output_dir / f"{variant}_{seed}" / "model.pt", final)
                print(final, flush=True)


def train(variant: str, seed: int, args: argparse.Namespace) -> None:
    """One run of the bundle, resumed when an earlier one was interrupted."""
    folder = args.output_dir / f"{variant}_{seed}"
    override, values = VARIANTS[variant]
    names = ["train.json", "train_compact.json", *([override] if override else [])]
    overrides = {
        "dataset_dir": str(args.dataset_dir.resolve()),
        "output_dir": str(folder.resolve()),
        "resume": (folder / "last.pt").exists(),
        "seed": seed,
        "epochs": args.epochs,
        "early_stop_epochs": args.epochs,
        "batches_per_epoch": args.batches,
        "learning_rate": 1e-3,
        **values,
    }
    if variant == "imagenet":
        overrides |= {**IMAGENET_CONFIG, "encoder_weights": str(args.imagenet.resolve())}
    elif values.get("network_def", {}).get("encoder_weights"):
        overrides["encoder_weights"] = str(args.encoder.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "run.json"
    settings.write_text(json.dumps(overrides, indent=1))
    files = [str(BUNDLE / "configs" / name) for name in names] + [str(settings)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    subprocess.run([*command, "--bundle_root", str(BUNDLE)], check=True)


if __name__ == "__main__":
    main()
