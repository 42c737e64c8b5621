"""The report of an evaluation: one HTML page without network, and the same as CSV and JSON."""

from ctclip.report.content import Report
from ctclip.report.write import REPORT_FILES, write_report

__all__ = ["REPORT_FILES", "Report", "write_report"]
