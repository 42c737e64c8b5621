"""Figures as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ctclip.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

DPI = 130


@contextmanager
def plain_text() -> Iterator[None]:
    """While text is made, a dollar sign in a name begins no formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def name_all(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """A legend at the right, with the names that begin with "_" too, which matplotlib may leave out.

    Args:
        figure: with a constrained layout.
        handles: a line of each name.
    """
    numbers = [str(number) for number in range(len(handles))]
    legend = figure.legend(list(handles.values()), numbers, loc="outside right upper", fontsize=7)
    for text, name in zip(legend.get_texts(), handles, strict=True):
        text.set_text(name)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure; nothing incomplete keeps the name."""
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")
