"""Short trainings that differ from the recipe or the network of ct-compact in one point each, over several seeds.

    python -m benchmarks.compare_recipes --dataset_dir TRAIN --test_dir SERIES --output_dir OUT

Every run starts from a random decoder and trains it for the same number of steps on the same data; the encoder is that
of ct-compact, or the one given, frozen unless the variant says otherwise.

Results are appended to ``OUT/results.jsonl``; runs that are already there are not repeated, so that the comparison can
be stopped and started again. ``--table`` prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ctclip.report.markdown import mean_and_sd

BUNDLE = Path(__file__).parents[1] / "bundles" / "ct_compact_denoising"

TEST_SD_HU = (25.0, 60.0)
"""Simulated noise of even level on the test series: about quarter dose, and far below."""

TEST_DOSE = 0.1
"""Dose of the test series with noise of simulated projections."""

BLEND = 0.8
"""Share of the network's result that has the best PSNR where the scan's own noise counts as truth, see
docs/results/ldct.md."""

BODY_ABOVE_HU = -200
"""Where the SD of the added noise is measured."""

TOLD = "told the noise level"

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
    "half-resolution head": {"network_def#_target_": "benchmarks.decoder_heads.half_resolution"},
    "narrow head": {"network_config#head_width": 16},
    "depthwise head": {"network_def#_target_": "benchmarks.decoder_heads.depthwise"},
    TOLD: {
        "network_def#_target_": "benchmarks.noise_level_map.NoiseLevelDenoiser",
        "target_self_weight": 1.0,  # the scan's own noise stays: only what was added is to go
    },
}

Predict = Callable[[np.ndarray], np.ndarray]
"""(slices, rows, columns) in HU to the same."""


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", help="training scans")
    parser.add_argument("--encoder", help="weights file of the frozen encoder; ct-compact's when it is not given")
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
        print(table([json.loads(line) for line in results.read_text().splitlines()], args.variants))
        return
    args.output_dir.mkdir(parents=True, exist_ok=True)
    args.encoder = args.encoder or save_encoder(args.output_dir / "encoder.pt")
    done = {(row["variant"], row["seed"]) for row in map(json.loads, results.open())} if results.exists() else set()
    for seed in args.seeds:
        for variant in args.variants:
            if (variant, seed) in done:
                continue
            row = {"variant": variant, "seed": seed, **run(variant, seed, args)}
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def save_encoder(path: Path) -> Path:
    """The encoder of the shipped model as a weights file."""
    from ctclip.weights import load_network

    torch.save(load_network("ct-compact").encoder.state_dict(), path)
    return path


def run(variant: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train one variant and measure its best checkpoint."""
    from monai.bundle import ConfigWorkflow

    from ctclip.weights.checkpoint import read_checkpoint

    folder = args.output_dir / f"{variant.replace(' ', '_')}_{seed}"
    overrides: dict[str, Any] = {
        "network_def": {
            "_target_": "ctclip.weights.build_network",
            "config": "@network_config",
            "encoder_weights": str(args.encoder),
            "augmentation_gamma": "@augmentation_gamma",
        },
        "dataset_dir": args.dataset_dir,
        "output_dir": str(folder),
        "seed": seed,
        "epochs": args.epochs,
        "batches_per_epoch": args.batches,
        "patch_size": args.patch_size,
        "projection_noise": 0.0,  # it takes minutes to prepare
        "val_interval": 2,
        **VARIANTS[variant],
    }
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs/train.json"), workflow_type="train", bundle_root=str(BUNDLE), logging_file=False
    )
    for name, value in overrides.items():
        workflow.parser[name] = value
    told = variant == TOLD
    if told:
        from benchmarks.noise_level_map import with_level_maps

        with_level_maps(workflow.parser)
    workflow.initialize()
    workflow.run()
    network = workflow.network_def.eval()
    network.load_state_dict(read_checkpoint(folder / "model.pt")[1])
    return measure(told_denoisers(network) if told else blind_denoisers(network), args.test_dir)


def blind_denoisers(network: nn.Module) -> Callable[[float], dict[str, Predict]]:
    """At full strength, and blended."""
    full = partial(denoise, network)
    return lambda added_sd_hu: {
        "full": full,
        "blended": lambda noisy: noisy + BLEND * (full(noisy) - noisy),
    }


def told_denoisers(network: nn.Module) -> Callable[[float], dict[str, Predict]]:
    """Told what was added to the test image, which is known here only; and told all the noise that is found in it."""
    from ctclip.metrics.noise import volume_noise_sd_hu

    def predict(sd_hu: float | None, noisy: np.ndarray) -> np.ndarray:
        if sd_hu is None:
            sd_hu = volume_noise_sd_hu(noisy)
        return denoise(network, noisy, sd_hu)

    return lambda added_sd_hu: {"full": partial(predict, None), "told what was added": partial(predict, added_sd_hu)}


def denoise(network: nn.Module, volume_hu: np.ndarray, level_sd_hu: float | None = None) -> np.ndarray:
    """Slice by slice as :class:`ctclip.Denoiser` does, but with a network of any form; with a map of a noise level."""
    from ctclip.hu_window import hu_to_unit, restore_outside_window, unit_to_hu
    from ctclip.inferers import predict_stacks
    from ctclip.inferers.stacks import batched_stacks
    from ctclip.units import MODEL_HU_WINDOW

    low, high = MODEL_HU_WINDOW
    results = []
    for (stack,) in batched_stacks(volume_hu, network.config.in_channels, lambda shape: 1):
        stack_hu = torch.from_numpy(stack)[None].float()
        image = hu_to_unit(stack_hu, MODEL_HU_WINDOW)
        if level_sd_hu is not None:
            image = torch.cat([image, torch.full_like(image, level_sd_hu / (high - low))], dim=1)
        result_hu = unit_to_hu(predict_stacks(image, network, device="cpu"), MODEL_HU_WINDOW)[0, 0]
        results.append(restore_outside_window(result_hu, stack_hu[0, len(stack) // 2], MODEL_HU_WINDOW).numpy())
    return np.stack(results)


def measure(denoisers: Callable[[float], dict[str, Predict]], test_dir: str) -> dict[str, float]:
    """PSNR in [-160, 240] HU on a scan with simulated noise, against the scan itself.

    Args:
        denoisers: by name, for the SD in HU of the noise that was added.
        test_dir: the scan.
    """
    from ctclip.data.scans import paths_of, read_scan
    from ctclip.data.sources import find_items
    from ctclip.metrics.image import image_quality
    from ctclip.phantom import low_dose
    from ctclip.simulation import NoiseSimulator
    from ctclip.units import SOFT_TISSUE_HU_WINDOW

    test = read_scan(paths_of(find_items(test_dir)[0]["image"]))
    middle = len(test.hu) // 2
    # As many slices as keep the comparison short, with neighbours for the variant that looks at them.
    clean_hu = test.hu[middle - 4 : middle + 4]
    noisy_hu = {f"{sd_hu:g} HU": low_dose(clean_hu, sd_hu, seed=int(sd_hu)) for sd_hu in TEST_SD_HU}
    simulator = NoiseSimulator("projection", "standard", test.pixel_mm).for_dose(list(clean_hu), TEST_DOSE)
    noisy_hu[f"{TEST_DOSE:.0%} dose"] = simulator.low_dose(clean_hu)
    row = {}
    body = clean_hu > BODY_ABOVE_HU
    for name, noisy in noisy_hu.items():
        added_sd_hu = float((noisy - clean_hu)[body].std())
        images = {"input": noisy}
        images |= {how: predict(noisy) for how, predict in denoisers(added_sd_hu).items()}
        for how, image in images.items():
            row[f"{how}: {name}"] = round(image_quality(image, clean_hu, SOFT_TISSUE_HU_WINDOW)["psnr_db"], 3)
    return row


def table(rows: list[dict[str, Any]], variants: list[str]) -> str:
    """Mean and SD over seeds as Markdown: PSNR in dB, a line for each variant and way to use it."""
    by_variant: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_variant[row["variant"]].append(row)
    inputs = {key: value for key, value in rows[0].items() if key.startswith("input: ")}
    tests = [key.removeprefix("input: ") for key in inputs]
    lines = ["| variant | | seeds | " + " | ".join(f"PSNR, {test}" for test in tests) + " |"]
    lines.append("|---" * (len(tests) + 3) + "|")
    lines.append("| input | | | " + " | ".join(f"{value:.2f}" for value in inputs.values()) + " |")
    for variant in (name for name in variants if name in by_variant):
        group = by_variant[variant]
        hows = dict.fromkeys(key.split(": ")[0] for key in group[0] if ": " in key and not key.startswith("input"))
        for how in hows:
            cells = [mean_and_sd([row[f"{how}: {test}"] for row in group]) for test in tests]
            lines.append(f"| {variant} | {how} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
