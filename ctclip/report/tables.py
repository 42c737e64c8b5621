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
    tables = []
    comparable = _comparable(report)
    for measures in _by_window(report.measures):
        rows = []
        for name in report.method_names:
            found = {row.measure: row for row in report.summary if row.method == name and row.measure in measures}
            if found:
                most = max((row.patients, row.slices) for row in found.values())
                cells = [_mean_cell(found.get(each), most, comparable.get(each, [])) for each in measures]
                rows.append(Row(name, ", ".join(_counts(*most)), cells))
        tables.append(Table(window_label(measures[0]), [_head(measure) for measure in measures], rows))
    return tables


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


def _comparable(report: Report) -> dict[Measure, list[SummaryRow]]:
    """Rows by measure if at least two methods have a mean, and all that do have it over the same slices."""
    slices: dict[tuple[str, Measure], set[tuple[str, str, int]]] = {}
    for row in report.slices:
        for measure, value in row.values.items():
            if not math.isnan(value):
                slices.setdefault((row.method, measure), set()).add((row.patient, row.scan, row.index))
    found = {}
    for measure in report.measures:
        rows = [row for row in report.summary if row.measure == measure and not math.isnan(row.mean)]
        of_first, *others = [slices.get((row.method, measure), set()) for row in rows] or [set()]
        if others and all(each == of_first for each in others):
            found[measure] = rows
    return found


def _mean_cell(row: SummaryRow | None, most: tuple[int, int], comparable: list[SummaryRow]) -> Cell:
    """A mean, with the patients and slices behind it where they are fewer than beside the method's name."""
    if row is None or math.isnan(row.mean):
        return Cell(MISSING)
    fewer = _counts(row.patients, row.slices) if (row.patients, row.slices) != most else ()
    notes = _notes(between(row.ci_low, row.ci_high, row.measure.unit), *fewer)
    return Cell(number(row.mean, row.measure.unit), notes, "best" if _is_best(row, comparable) else "")


def _counts(patients: int, slices: int) -> tuple[str, str]:
    return count(patients, "patient"), count(slices, "slice")


def _is_best(row: SummaryRow, comparable: list[SummaryRow]) -> bool:
    distance = distance_from_best(row.measure)
    if distance is None or not comparable:
        return False
    return distance(row.mean) == min(distance(each.mean) for each in comparable)


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
    place = f"({row.place})" if row.place else ""
    return Cell(" ".join(_notes(number(row.value, row.unit), row.unit, place)), (verdict,), verdict)


def _notes(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)
