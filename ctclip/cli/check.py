"""``ctclip check``: does a derived series keep the rules?"""

from __future__ import annotations

from pathlib import Path

import typer

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, NOTHING_DONE, one_line_errors
from ctclip.cli.options import path


def check(
    series: Path = typer.Argument(..., parser=path, metavar="SERIES", help="Folder of one derived series."),
    source: Path | None = typer.Option(
        None, parser=path, help="Folder with the source series: also geometry, padding and HU."
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Print what fails only."),
) -> None:
    """Verify a derived series: what it states, and that it fits its source.

    Uses dciodvfy (dicom3tools) when it is installed. Exit codes: 0 all rules are kept, 1 some are not.
    """
    with one_line_errors():
        from ctclip.verification import check_series

        findings = check_series(series, source)
        console = plain_console()
        for finding in findings:
            if quiet and finding.passed:
                continue
            mark = "ok    " if finding.passed else "FAILED"
            detail = f" ({finding.detail})" if finding.detail else ""
            console.print(f"{mark} {finding.rule}{detail}")
        failed = sum(not finding.passed for finding in findings)
        if not quiet:
            console.print(f"{failed} of {len(findings)} rules broken" if failed else f"all {len(findings)} rules kept")
        raise typer.Exit(NOTHING_DONE if failed else ALL_DONE)
