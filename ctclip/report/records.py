"""The numbers of a report for other programs: CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.report.content import Measure, Report

Record = dict[str, Any]


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Write rows, which are dataclasses, as :func:`write_records` does."""
    write_records(path, [record(row) for row in rows])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records as UTF-8 CSV, with all columns that any of them has; an unknown value is an empty cell."""
    columns = list(dict.fromkeys(name for each in records for name in each))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: "" if _is_nan(value) else value for name, value in each.items()} for each in records)


def write_json(path: Path, report: Report) -> None:
    """Write all but slices and images."""
    content = {
        "title": report.title,
        "settings": report.settings,
        "versions": report.versions,
        "methods": [record(method) for method in report.methods],
        "summary": [record(row) for row in report.summary],
        "acceptance": [record(row) for row in report.acceptance],
        "comparisons": [record(row) for row in report.comparisons],
        "patients": [record(row) for row in report.patients],
        "nps": [record(curve) for curve in report.nps],
        "ttf": [record(curve) for curve in report.ttf],
        "problems": report.problems,
    }
    path.write_text(json_text(content), encoding="utf-8")


def json_text(content: Record) -> str:
    """Content as JSON, with null for NaN and infinity."""
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def record(row: Any) -> Record:
    """The fields of a row; a measure becomes its own fields, and values one field per measure, with its window."""
    flat: Record = {}
    for each in fields(row):
        value = getattr(row, each.name)
        if isinstance(value, Measure):
            flat |= record(value)
        elif each.name == "values":
            flat |= {measure.name: number for measure, number in value.items()}
        else:
            flat[each.name] = value
    return flat


def _plain(value: Any) -> Any:
    """Only what JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
