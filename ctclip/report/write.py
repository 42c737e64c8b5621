"""Writes a report."""

from __future__ import annotations

from pathlib import Path

from ctclip.report.content import Report
from ctclip.report.html import render_page
from ctclip.report.records import write_csv, write_json

REPORT_FILES = ("report.html", "summary.csv", "patients.csv", "slices.csv", "results.json")


def write_report(report: Report, folder: Path) -> None:
    """Write the ``REPORT_FILES``.

    Args:
        report: what to say.
        folder: exists; files of these names in it are replaced.
    """
    (folder / "report.html").write_text(render_page(report), encoding="utf-8")
    write_csv(folder / "summary.csv", report.summary)
    write_csv(folder / "patients.csv", report.patients)
    write_csv(folder / "slices.csv", report.slices)
    write_json(folder / "results.json", report)
