"""Figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctclip.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure; nothing incomplete keeps the name."""
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
