"""The tests that docs/dicom-conformance.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "dicom-conformance.md"


def test_every_row_names_tests_that_exist() -> None:
    defined = set()
    for path in TESTS.rglob("test_*.py"):
        defined |= set(re.findall(r"def (test_\w+)\(", path.read_text()))
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| ") and "test |" not in line]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"no test in: {row}"
        assert set(named) <= defined, f"no such test: {set(named) - defined}"
