"""The tables of docs/results/natural_ood.md from trained networks.

    python benchmarks/natural_ood.py --checkpoints RUNS --data natural --output OUT \\
        --encoder natural-compact --encoder random --encoder timm:resnet50:RESNET50

``RUNS`` holds files ``VARIANT_SEED.pt``, as ``benchmarks/train_natural.py`` leaves them. Every network is measured as
it is; the variants of ``--adapt`` also with the adaptation of ``ctclip denoise``. Tables show mean and SD over seeds.
What is already measured is not measured again, so that the command can be stopped and started again, or started while
networks are still being trained.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ctclip.features.encoders import encoder_of
from ctclip.features.report import markdown
from ctclip.features.sources import noise_for_photographs
from ctclip.features.study import compare_features, middle_parts
from ctclip.natural.benchmark import Cell, CellResult, run_cells
from ctclip.natural.methods import MethodSpec
from ctclip.natural.noise import DEFAULT_FAMILIES, Noise, parse_noise
from ctclip.natural.sets import ImageSet, find_sets, read_image
from ctclip.report.markdown import mean_and_sd, table

FEATURE_IMAGES = 20

TRAINING_NOISE = Noise("gaussian", 15)

BEST, PEERS = "natural-compact, adapted", ("dncnn", "restormer")


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with VARIANT_SEED.pt")
    parser.add_argument("--data", type=Path, required=True, help="folder with CBSD68 and Kodak24")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["CBSD68", "Kodak24"])
    parser.add_argument("--noise", nargs="+", default=list(DEFAULT_FAMILIES))
    parser.add_argument("--variants", nargs="+", help="only these")
    parser.add_argument("--adapt", nargs="+", default=["natural-compact"], help="variants to measure adapted too")
    parser.add_argument("--images", type=int, help="per set, evenly spread; all without it")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--encoder", action="append", default=[], help="as for 'ctclip features'")
    args = parser.parse_args()
    methods = [MethodSpec(name="identity", is_model=False), *find_methods(args.checkpoints, args.variants, args.adapt)]
    sets, missing = find_sets(args.data, args.sets)
    for line in missing:
        print(f"not found: {line}")
    cells = [
        Cell(method, each.spread(args.images), noise)
        for method in methods
        for each in sets
        for noise in parse_noise(args.noise)
    ]
    with tqdm(total=len(cells), desc="cells") as bar:
        results = run_cells(cells, args.output / "cells", workers=args.workers, cell_done=lambda _: bar.update())
    text = "\n".join([*tables(results), *comparison(results), "", *similarity(args.encoder, sets[0])]) + "\n"
    (args.output / "tables.md").write_text(text)
    print(text)


def similarity(encoders: Sequence[str], images: ImageSet) -> list[str]:
    """Cosine and CKA of the encoders' features, clean against noisy, on images of a set."""
    noises = noise_for_photographs([])
    parts = middle_parts([read_image(path) for path in images.spread(FEATURE_IMAGES).clean])
    rows = [
        row
        for encoder in encoders
        for row in compare_features(encoder.rpartition("/")[2], encoder_of(encoder), parts, noises)
    ]
    return markdown(rows).splitlines() if rows else []


def find_methods(folder: Path, variants: Sequence[str] | None, adapted: Sequence[str]) -> list[MethodSpec]:
    """Every checkpoint as it is, and adapted where that is asked for."""
    found = []
    for path in sorted(folder.glob("*_[0-9].pt")):
        variant = path.stem.rsplit("_", 1)[0]
        if variants and variant not in variants:
            continue
        found += [
            MethodSpec(name=str(path), is_model=True, adapt=adapt, device="auto")
            for adapt in ([False, True] if variant in adapted else [False])
        ]
    return found


def variant_of(label: str) -> str:
    """The label without its seed: "dncnn_1, adapted" is "dncnn, adapted"."""
    name, comma, rest = label.partition(", ")
    stem, _, seed = name.rpartition("_")
    return (stem if seed.isdigit() and stem else name) + comma + rest


def by_variant(results: Sequence[CellResult]) -> dict[tuple[str, str, float], dict[str, list[float]]]:
    """PSNR of every seed, by set and noise and by variant."""
    grouped: dict[tuple[str, str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        grouped[result.set, result.family, result.level][variant_of(result.method)].append(
            float(np.mean(result.psnr_db))
        )
    return grouped


def tables(results: Sequence[CellResult]) -> list[str]:
    """A table per set: a row per noise, mean and SD of the PSNR over seeds."""
    grouped = by_variant(results)
    variants = list(dict.fromkeys(variant_of(result.method) for result in results))
    lines = []
    for name in dict.fromkeys(key[0] for key in grouped):
        count = next(len(result.psnr_db) for result in results if result.set == name)
        rows = [
            [Noise(family, level).title, *(mean_and_sd(found[variant]) for variant in variants)]
            for (set_name, family, level), found in grouped.items()
            if set_name == name
        ]
        seeds = [str(len(next(iter(grouped.values()))[variant])) for variant in variants]
        lines += [f"**{name}, {count} images**", "", *table(["noise", *variants], [*rows, ["seeds", *seeds]]), ""]
    return lines


def comparison(results: Sequence[CellResult]) -> list[str]:
    """In how many unseen cells the best method beats each peer, by mean over seeds."""
    lines = []
    grouped = by_variant(results)
    unseen = {key: found for key, found in grouped.items() if Noise(*key[1:]) != TRAINING_NOISE}
    present = {variant for found in grouped.values() for variant in found}
    for best in (BEST, "frozen-contrast, adapted"):
        for peer in (*PEERS, *(f"{peer}, adapted" for peer in PEERS)):
            if best in present and peer in present:
                gains = {key: np.mean(found[best]) - np.mean(found[peer]) for key, found in unseen.items()}
                won = sum(gain > 0 for gain in gains.values())
                strong = [f"{key[0]} {gain:+.2f} dB" for key, gain in gains.items() if key[1:] == ("gaussian", 50)]
                lines.append(f"- {best} beats {peer} in {won} of {len(gains)} unseen cells; {', '.join(strong)} at 50")
    return lines


if __name__ == "__main__":
    main()
