"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

BAR = r"\|"
"""A bar inside a cell."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table.

    Args:
        header: names of the columns.
        rows: cells, as many as columns in each.
    """
    return [_line(header), "|---" * len(header) + "|", *map(_line, rows)]


def mean_and_sd(values: Sequence[float], mean_format: str = ".2f", sd_format: str = ".2f") -> str:
    """Such as "31.20 ± 0.04", over the seeds of a recipe; the SD only where there is one."""
    spread = f" ± {np.std(values, ddof=1):{sd_format}}" if len(values) > 1 else ""
    return f"{np.mean(values):{mean_format}}{spread}"


def _line(cells: Sequence[str]) -> str:
    """A bar in a name, such as that of a file, ends no cell."""
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"
