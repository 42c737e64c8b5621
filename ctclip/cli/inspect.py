"""``ctclip inspect``: what is in this folder?"""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctclip.cli.console import plain_console, print_skipped
from ctclip.cli.exit_codes import ALL_DONE, NOTHING_DONE, one_line_errors
from ctclip.cli.options import path


def inspect(
    source: Path = typer.Argument(..., parser=path, metavar="SRC", help="DICOM folder, file or zip."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """List the series in a folder: geometry, kernel, dose, noise, and what would be denoised or skipped and why.

    Nothing is written. Exit codes: 0 something can be denoised, 1 nothing can.
    """
    with one_line_errors():
        from ctclip.data.volumes import is_volume_file
        from ctclip.dicom import opened_export
        from ctclip.errors import DataError
        from ctclip.inspection import inspect_series, inspection_report

        if is_volume_file(source) and source.is_file():
            raise DataError("the input is a volume; inspect reads DICOM, 'ctclip denoise' takes the volume as it is")
        console = plain_console(stderr=True, quiet=as_json)
        with opened_export(source) as found:
            bar = console.is_terminal  # elsewhere it would leave an empty line
            series = track(found.series, description="reading", console=console, transient=True, disable=not bar)
            facts = [inspect_series(each) for each in series]
        if as_json:
            typer.echo(json.dumps(inspection_report(facts, found), indent=1))
        else:
            _print(facts, found.skip_summary())
        raise typer.Exit(ALL_DONE if any(each.action == "denoise" for each in facts) else NOTHING_DONE)


def _print(facts: list, skipped: dict[str, int]) -> None:
    console = plain_console()
    if facts:
        _print_table(console, facts)
    else:
        console.print("no CT series")
    print_skipped(console, skipped)


def _print_table(console: Console, facts: list) -> None:
    table = Table(title="CT series", show_lines=True)
    for column in ("series", "slices", "geometry, mm", "kernel, kV, mAs, mGy", "noise", "what happens"):
        table.add_column(column, overflow="fold")
    for each in facts:
        rows, columns = each.matrix
        spacing = " x ".join(f"{value:.3g}" for value in each.PixelSpacing or ())
        thickness, step = (_text(value) for value in (each.SliceThickness, each.step_mm))
        noise = "not measured" if each.noise_sd_hu is None else f"{each.noise_sd_hu:g} HU, {each.noise_correlation:.2f}"
        scan_words = (each.ConvolutionKernel or "?", *(_text(v) for v in (each.KVP, each.Exposure, each.CTDIvol)))
        table.add_row(
            f"{_text(each.SeriesNumber)}: {each.SeriesInstanceUID}",
            str(each.slices),
            f"{rows} x {columns}, {spacing or '?'}; thick {thickness}, step {step}",
            ", ".join(scan_words),
            noise,
            "; ".join(part for part in (each.action, each.reason, each.remark, *each.warnings) if part),
        )
    console.print(table)
    console.print("noise: SD, and correlation of neighbouring pixels, in flat soft tissue; ? is not stated")


def _text(value: float | None) -> str:
    if isinstance(value, int):
        return str(value)  # :g would round a long number
    return "?" if value is None else f"{value:g}"
