"""``ctclip demo``: the main job on a phantom, from DICOM to DICOM, with known truth."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table

from ctclip.cli.console import plain_console, say_error
from ctclip.cli.exit_codes import NOTHING_DONE, one_line_errors
from ctclip.cli.options import path


def demo(
    output: Path = typer.Option(Path("demo"), parser=path, help="Folder to write."),
    slices: int = typer.Option(20, min=1, help="Slices of the phantom."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier demonstration."),
) -> None:
    """Make a noisy phantom as DICOM, denoise it with ct-compact at full strength, and measure the result.

    The default strength of 'ctclip denoise' is less than that.
    """
    with one_line_errors():
        from ctclip.demo import run_demo

        console = plain_console()
        with console.status("making, denoising and measuring a phantom"):
            outcome = run_demo(output, slices=slices, overwrite=overwrite)
        if outcome.result.status == "failed":
            say_error(outcome.result.message)
            raise typer.Exit(NOTHING_DONE)
        table = Table(title="Mathematical phantom at full strength, against its noise-free truth")
        for column in ("window [HU]", "", "PSNR [dB]", "SSIM", "RMSE [HU]"):
            table.add_column(column)
        for window, name, q in outcome.quality:
            table.add_row(window, name, f"{q['psnr_db']:.2f}", f"{q['ssim']:.3f}", f"{q['rmse_hu']:.1f}")
        console.print(table)
        console.print(f"derived series: {outcome.series}\npicture: {outcome.picture}")
