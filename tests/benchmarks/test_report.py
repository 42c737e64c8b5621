"""Plain rows in, Markdown and JSON out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Case, Value, markdown_table, text_of, write_results


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (3, "3"),
        (12345.6, "12346"),
        (123.45, "123"),
        (1.0, "1.00"),
        (0.012345, "0.0123"),
        (0.0, "0"),
        (float("inf"), "inf"),
        ("a|b", "a\\|b"),
    ],
)
def test_values_are_short(value: Value, text: str) -> None:
    assert text_of(value) == text


def test_a_table_has_a_line_per_row() -> None:
    rows = [{"form": "published", "ms": 4200.0}, {"form": "ctclip", "ms": None}]
    assert markdown_table(rows) == "| form | ms |\n| --- | --- |\n| published | 4200 |\n| ctclip | - |"


def test_rows_must_have_the_same_columns() -> None:
    with pytest.raises(ValueError, match=r"expected the columns \['a'\], found \['b'\]"):
        markdown_table([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="at least one row"):
        markdown_table([])


def test_results_are_written_as_json_and_markdown(tmp_path: Path) -> None:
    case = Case("Start-up", "Whole processes.", [{"process": "ctclip --help", "s": 0.25}])
    write_results(tmp_path / "new", {"CPU": "abacus"}, {"startup": case})
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert content["machine"] == {"CPU": "abacus"}
    assert content["cases"]["startup"]["rows"] == [{"process": "ctclip --help", "s": 0.25}]
    page = (tmp_path / "new" / "results.md").read_text()
    assert "| CPU | abacus |" in page
    assert "## Start-up\n\nWhole processes.\n\n| process | s |\n| --- | --- |\n| ctclip --help | 0.250 |\n" in page
