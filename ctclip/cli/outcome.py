"""What has become of a run of ``ctclip denoise``: on the screen, and in its report."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.console import say_error
from ctclip.cli.exit_codes import NOTHING_DONE, SOME_FAILED

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.dicom import Scan, Series
    from ctclip.pipeline import SeriesResult


@dataclass
class Outcome:
    """What there is of a run so far."""

    found: Scan | None = None
    chosen: list[Series] = field(default_factory=list)
    denoiser: Denoiser | None = None
    results: list[SeriesResult] = field(default_factory=list)
    error: str | None = None


@contextmanager
def reported(path: Path | None, strength: float) -> Iterator[Outcome]:
    """A run whose report is written whatever becomes of it, also when it is told to end, and refused before it when
    that cannot be done.

    Args:
        path: of the report; ``None`` for none.
        strength: 0 to 1.
    """
    from ctclip.errors import CtclipError, one_line
    from ctclip.pipeline import SeriesResult, require_writable

    if path is not None:
        require_writable(path)
    run = Outcome()
    try:
        yield run
    except (CtclipError, OSError, MemoryError, KeyboardInterrupt, SystemExit) as error:
        run.error = one_line(error) if isinstance(error, Exception) else "the run was told to end"
        finished = {result.source for result in run.results}
        run.results += [
            SeriesResult(each.uid, each.slice_count, "failed", run.error)
            for each in run.chosen
            if each.uid not in finished
        ]
        _write_report(path, run, strength)
        raise
    _write_report(path, run, strength)


def _write_report(path: Path | None, run: Outcome, strength: float) -> None:
    from ctclip.atomic import atomic_path
    from ctclip.errors import one_line
    from ctclip.pipeline import report

    if path is None:
        return
    content = report(run.results, run.denoiser, strength=strength, found=run.found, error=run.error)
    try:
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(content, indent=1))
    except OSError as error:
        say_error(f"the report was not written: {one_line(error)}")
        failed = all(result.status == "failed" for result in run.results)
        raise typer.Exit(NOTHING_DONE if failed else SOME_FAILED) from None


def print_sum(console: Console, results: list[SeriesResult]) -> None:
    """A line for several series."""
    if len(results) > 1:
        status = Counter(result.status for result in results)
        slices = sum(result.slices for result in results if result.status == "done")
        console.print(
            f"{len(results)} series: {status['done']} done ({slices} slices), {status['kept']} kept, "
            f"{status['failed']} failed",
        )


def print_result(console: Console, result: SeriesResult) -> None:
    """A line for a series or a volume, more where its quality report has warnings."""
    if result.status == "failed":
        say_error(f"series {result.source} failed: {result.message}")
        return
    if result.status == "kept":
        console.print(f"{result.source}: {result.slices} slices, done by an earlier run{_checked(result)}")
        return
    noise = (
        f"noise {result.noise_before_hu:.1f} -> {result.noise_after_hu:.1f} HU, mean shift {result.shift_hu:+.2f} HU"
        if math.isfinite(result.noise_before_hu)
        else "no soft tissue to measure noise in"
    )
    console.print(f"{result.source}: {result.slices} slices in {result.seconds:.1f} s, {noise}{_checked(result)}")
    for warning in result.quality_warnings:
        console.print(f"  quality: {warning}")


def _checked(result: SeriesResult) -> str:
    return ", all rules kept" if result.checked else ""
