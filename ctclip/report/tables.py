"""The tables of the page: methods as rows, measures or criteria as columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctclip.report.content import AcceptanceRow, ComparisonRow, Measure, Report, SummaryRow
from ctclip.report.labels import (
    MISSING,
    between,
    count,
    distance_from_best,
    metric_label,
    number,
    p_label,
    signed,
    window_label,
)


@dataclass(frozen=True)
class Cell:
    """A value with small print below it.

    Args:
        text: the value.
        notes: lines below it.
        kind: "best", "passed", "failed" or "".
    """

    text: str
    notes: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column: what, and below it the unit or limit."""

    label: str
    note: str


@dataclass(frozen=True)
class Row:
    """A method and its cells."""

    method: str
    note: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: what all columns share.
        columns: heads.
        rows: one per method.
    """

    title: str
    columns: list[Column]
    rows: list[Row]


def summary_tables(report: Report) -> list[Table]:
    """Means with their intervals, one table per window, so that each fits on a phone and on paper."""
    found = {(row.method, row.measure): row for row in report.summary}
    counts = {row.method: f"{count(row.patients, 'patient')}, {count(row.slices, 'slice')}" for row in report.summary}
    return [
        Table(
            window_label(measures[0]),
            [_head(measure) for measure in measures],
            [
                Row(name, counts[name], [_mean_cell(found, name, measure) for measure in measures])
                for name in report.method_names
                if name in counts
            ],
        )
        for measures in _by_window(report.measures)
    ]


def comparison_tables(report: Report) -> list[Table]:
    """Differences with intervals and p-values, one table per window and method that is compared with."""
    tables = []
    for other in dict.fromkeys(row.against for row in report.comparisons):
        found = {(row.method, row.measure): row for row in report.comparisons if row.against == other}
        names = [name for name in report.method_names if any(method == name for method, _ in found)]
        for measures in _by_window(list(dict.fromkeys(measure for _, measure in found))):
            rows = [Row(name, "", [_difference_cell(found.get((name, each))) for each in measures]) for name in names]
            title = f"difference to {other}; {window_label(measures[0])}"
            tables.append(Table(title, [_head(measure) for measure in measures], rows))
    return tables


def acceptance_table(report: Report) -> Table:
    """Values of the criteria, and whether they are met."""
    found = {(row.method, row.criterion): row for row in report.acceptance}
    limits = {row.criterion: row.limit for row in report.acceptance}
    names = [name for name in report.method_names if any(method == name for method, _ in found)]
    return Table(
        "criterion and limit",
        [Column(criterion, signed(limit)) for criterion, limit in limits.items()],
        [Row(name, "", [_judged_cell(found.get((name, each))) for each in limits]) for name in names],
    )


def _by_window(measures: list[Measure]) -> list[list[Measure]]:
    groups: dict[str, list[Measure]] = {}
    for measure in measures:
        groups.setdefault(window_label(measure), []).append(measure)
    return list(groups.values())


def _head(measure: Measure) -> Column:
    return Column(metric_label(measure), measure.unit)


def _mean_cell(found: dict[tuple[str, Measure], SummaryRow], name: str, measure: Measure) -> Cell:
    row = found.get((name, measure))
    if row is None:
        return Cell(MISSING)
    kind = "best" if _is_best(row, [other for (_, each), other in found.items() if each == measure]) else ""
    return Cell(number(row.mean, measure.unit), _notes(between(row.ci_low, row.ci_high, measure.unit)), kind)


def _is_best(row: SummaryRow, column: list[SummaryRow]) -> bool:
    distance = distance_from_best(row.measure)
    known = [each.mean for each in column if not math.isnan(each.mean)]
    if distance is None or len(known) < 2 or math.isnan(row.mean):
        return False
    return distance(row.mean) == min(distance(value) for value in known)


def _difference_cell(row: ComparisonRow | None) -> Cell:
    if row is None:
        return Cell(MISSING)
    unit = row.measure.unit
    value = number(row.difference, unit)
    plus = "+" if row.difference > 0 else ""
    test = ", ".join(_notes(p_label(row.p_value), f"n {row.patients}"))
    return Cell(plus + value, _notes(between(row.ci_low, row.ci_high, unit), test))


def _judged_cell(row: AcceptanceRow | None) -> Cell:
    if row is None or math.isnan(row.value):
        return Cell(MISSING, ("not measured",))
    verdict = "passed" if row.passed else "failed"
    return Cell(f"{number(row.value, row.unit)} {row.unit}".strip(), (verdict,), verdict)


def _notes(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)
