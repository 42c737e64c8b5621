"""The feature analysis as a table and as curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ctclip import __version__
from ctclip.atomic import atomic_path
from ctclip.features.study import Similarity
from ctclip.files import make_folder
from ctclip.report.figures import name_all, plain_text, save_png
from ctclip.report.markdown import table
from ctclip.report.records import json_text, write_csv

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

FEATURES = ("F1", "F2", "F3", "F4")

DIFFERENT = "different images"
"""What noise is compared with."""


def markdown(rows: Sequence[Similarity], side_px: int | None = None) -> str:
    """A table per encoder: cosine and CKA of each feature, of clean and noisy and, last, of different images.

    Args:
        rows: what was found.
        side_px: of the middle part of every image that was looked at.
    """
    parts = ["# Similarity of features", ""]
    parts += ["Cosine / linear CKA of the features of clean and noisy images, means over images."]
    parts += ["An encoder is robust where these lie well above the last line, that of two different images.", ""]
    parts += [f"Looked at: the middle {side_px} x {side_px} pixels of every image.", ""] if side_px else []
    for encoder in dict.fromkeys(row.encoder for row in rows):
        of_encoder = [row for row in rows if row.encoder == encoder]
        by_cell = {(row.noise, row.feature): row for row in of_encoder}
        lines = []
        for noise in dict.fromkeys(row.noise for row in of_encoder):
            cells = [by_cell[noise, feature] for feature in FEATURES]
            lines.append([noise, *(f"{cell.cosine:.3f} / {cell.cka:.3f}" for cell in cells)])
        last = [f"{cell.cosine_different:.3f} / {cell.cka_different:.3f}" for cell in cells]
        parts += [f"## {encoder}", "", *table(["noise", *FEATURES], [*lines, [DIFFERENT, *last]]), ""]
    return "\n".join(parts).rstrip() + "\n"


def write_report(rows: Sequence[Similarity], images: int, folder: Path, *, side_px: int) -> None:
    """``features.md``, ``features.csv``, ``features.json`` and ``features.png``."""
    make_folder(folder)
    with atomic_path(folder / "features.md") as partial:
        partial.write_text(markdown(rows, side_px))
    with atomic_path(folder / "features.csv") as partial:
        write_csv(partial, rows)
    with atomic_path(folder / "features.json") as partial:
        content = {"ctclip": __version__, "images": images, "side_px": side_px, "rows": [asdict(row) for row in rows]}
        partial.write_text(json_text(content), encoding="utf-8")
    _write_plot(rows, folder / "features.png")


@plain_text()
def _write_plot(rows: Sequence[Similarity], path: Path) -> None:
    from matplotlib.figure import Figure

    encoders = list(dict.fromkeys(row.encoder for row in rows))
    figure = Figure(figsize=(3 * len(encoders) + 1.8, 5.5), layout="constrained")
    axes = figure.subplots(2, len(encoders), squeeze=False, sharey="row")
    lines: dict[str, Line2D] = {}
    for column, encoder in enumerate(encoders):
        of_encoder = [row for row in rows if row.encoder == encoder]
        for axis, measure in zip(axes[:, column], ("cosine", "cka"), strict=True):
            for noise in dict.fromkeys(row.noise for row in of_encoder):
                values = [getattr(row, measure) for row in of_encoder if row.noise == noise]
                lines[noise] = axis.plot(FEATURES, values, marker="o", markersize=3)[0]
            different = [getattr(row, f"{measure}_different") for row in of_encoder[: len(FEATURES)]]
            lines[DIFFERENT] = axis.plot(FEATURES, different, "k--")[0]
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=7)
        axes[0, column].set_title(encoder, fontsize=8)
    axes[0, 0].set_ylabel("cosine")
    axes[1, 0].set_ylabel("linear CKA")
    name_all(figure, lines)
    save_png(figure, path)
