"""Results as JSON and Markdown, from plain rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

Value = str | int | float | None
Row = Mapping[str, Value]

SIGNIFICANT_DIGITS = 3
NOT_KNOWN = "-"


@dataclass(frozen=True)
class Case:
    """One table.

    Args:
        title: above it.
        note: how it was measured, in a sentence or two.
        rows: column names and values; all rows have the same columns in the same order.
    """

    title: str
    note: str
    rows: Sequence[Row]


def write_results(folder: Path, machine: Row, cases: Mapping[str, Case]) -> None:
    """Write ``results.json`` and ``results.md`` into a folder that is made when missing.

    Args:
        folder: files of these names in it are replaced.
        machine: facts of the machine.
        cases: by the names that ``--cases`` takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "cases": {name: asdict(case) for name, case in cases.items()}}
    (folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(machine, cases.values()), encoding="utf-8")


def markdown(machine: Row, cases: Iterable[Case]) -> str:
    """The whole page: facts of the machine, then a section per case."""
    facts = markdown_table([{"machine": name, "": value} for name, value in machine.items()])
    sections = [f"## {case.title}\n\n{case.note}\n\n{markdown_table(case.rows)}" for case in cases]
    return "\n\n".join(["# Speed and memory", facts, *sections]) + "\n"


def markdown_table(rows: Sequence[Row]) -> str:
    """A table with the columns of the first row.

    Raises:
        ValueError: when there is no row, or a row has other columns.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"expected the columns {columns}, found {list(row)}")
    lines = [columns, ["---"] * len(columns), *([text_of(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def text_of(value: Value) -> str:
    """Floats with three significant digits and without an exponent, "-" for what is not known."""
    if value is None:
        return NOT_KNOWN
    if not isinstance(value, float):
        return str(value).replace("|", "\\|")
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
