"""The benchmark as people look at it: Markdown tables, curves and panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctclip.natural.benchmark import REAL, Cell, CellResult
from ctclip.natural.methods import make_method
from ctclip.natural.noise import FAMILIES, Noise
from ctclip.natural.published import CBM3D_SOURCE, IDF_SOURCE, PUBLISHED
from ctclip.natural.sets import read_image
from ctclip.report.figures import name_all, plain_text, save_png
from ctclip.report.markdown import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANEL_PX = 160
"""Side of the part of an image that panels show."""

INCHES_PER_PANEL = 1.7


def markdown(results: Sequence[CellResult]) -> str:
    """One table per image set: PSNR and SSIM of every method under every noise, and what others published."""
    parts = ["# Benchmark on natural images", ""]
    parts += ["PSNR in dB / SSIM, range 1, values clipped to [0, 1]; mean over the images of the set.", ""]
    for set_name in dict.fromkeys(result.set for result in results):
        of_set = [result for result in results if result.set == set_name]
        parts += [f"## {set_name} ({len(of_set[0].psnr_db)} images)", "", *_table(of_set), ""]
        parts += _published(set_name, of_set)
    return "\n".join(parts).rstrip() + "\n"


def _table(results: Sequence[CellResult]) -> list[str]:
    methods = list(dict.fromkeys(result.method for result in results))
    by_cell = {(result.family, result.level, result.method): result.row() for result in results}
    lines = []
    for family, level in dict.fromkeys((result.family, result.level) for result in results):
        rows = [by_cell[family, level, method] for method in methods]
        lines.append([noise_title(family, level), *(f"{row['psnr_db']:.2f} / {row['ssim']:.3f}" for row in rows)])
    return table(["noise", *methods], lines)


def _published(set_name: str, results: Sequence[CellResult]) -> list[str]:
    noises = dict.fromkeys((result.family, result.level) for result in results)
    known = {noise: PUBLISHED[set_name, *noise] for noise in noises if (set_name, *noise) in PUBLISHED}
    if not known:
        return []
    names = list(dict.fromkeys(name for values in known.values() for name in values))
    rows = [
        [noise_title(*noise), *(f"{values[name]:.2f}" if name in values else "" for name in names)]
        for noise, values in known.items()
    ]
    lines = ["Published by others, PSNR in dB, not measured here:", "", *table(["noise", *names], rows)]
    return [*lines, "", f"CBM3D and DnCNN, one per level: {CBM3D_SOURCE}. Others: {IDF_SOURCE}.", ""]


def noise_title(family: str, level: float) -> str:
    """For tables, for example "Poisson 3.5"."""
    return "real noise" if family == REAL else Noise(family, level).title


@plain_text()
def write_curves(results: Sequence[CellResult], path: Path) -> None:
    """PSNR against the level of the noise: a row per image set, a column per family."""
    sets = list(dict.fromkeys(result.set for result in results))
    families = list(dict.fromkeys(result.family for result in results))
    methods = list(dict.fromkeys(result.method for result in results))
    figure = _figure(len(families) * 2.6 + 1.5, len(sets) * 2.6 + 0.6)
    axes = figure.subplots(len(sets), len(families), squeeze=False)
    lines: dict[str, Line2D] = {}
    for row, set_name in zip(axes, sets, strict=True):
        for axis, family in zip(row, families, strict=True):
            for color, method in enumerate(methods):
                points = sorted(
                    (result.level, float(np.mean(result.psnr_db)))
                    for result in results
                    if (result.set, result.family, result.method) == (set_name, family, method)
                )
                if points:
                    x, y = zip(*points, strict=True)
                    lines[method] = axis.plot(x, y, marker="o", markersize=3, color=f"C{color}")[0]
            title = "real noise" if family == REAL else FAMILIES[family].title
            axis.set_title(f"{set_name}: {title}", fontsize=8)
            axis.set_xlabel("" if family == REAL else FAMILIES[family].unit, fontsize=7)
            axis.set_xticks(sorted({result.level for result in results if result.family == family}))
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.3)
        row[0].set_ylabel("PSNR / dB", fontsize=8)
    name_all(figure, lines)
    save_png(figure, path)


@plain_text()
def write_panels(cells: Sequence[Cell], path: Path) -> None:
    """A part of the middle image of the first set, a row per family: clean, noisy, denoised by every method.

    The identity, which is the noisy one again, is left out.
    """
    first_set = cells[0].images
    methods = [
        each for each in dict.fromkeys(cell.method for cell in cells) if each.is_model or each.name != "identity"
    ]
    strongest: dict[str, Noise | None] = {}
    for cell in cells:
        if cell.images == first_set:
            strongest[cell.noise.family if cell.noise else REAL] = cell.noise
    middle = len(first_set.clean) // 2
    clean = read_image(first_set.clean[middle])
    figure = _figure((len(methods) + 2) * INCHES_PER_PANEL, len(strongest) * INCHES_PER_PANEL * 1.08)
    axes = figure.subplots(len(strongest), len(methods) + 2, squeeze=False)
    for row, noise in zip(axes, strongest.values(), strict=True):
        noisy = noise.add_to(clean) if noise else read_image(first_set.noisy[middle])
        shown = [("clean", clean), (noise_title(noise.family, noise.level) if noise else "noisy", noisy)]
        shown += [(method.label, make_method(method).denoise(noisy[np.newaxis])[0]) for method in methods]
        for axis, (title, image) in zip(row, shown, strict=True):
            part = _middle_part(np.clip(image, 0, 1))
            axis.imshow(part if part.shape[-1] == 3 else part[..., 0], cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, fontsize=7)
            axis.axis("off")
    save_png(figure, path)


def _middle_part(image: np.ndarray) -> np.ndarray:
    rows, columns = (slice(max(0, side // 2 - PANEL_PX // 2), side // 2 + PANEL_PX // 2) for side in image.shape[:2])
    return image[rows, columns]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
