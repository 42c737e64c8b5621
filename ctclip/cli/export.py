"""``ctclip denoise`` of the series of an export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.console import print_skipped
from ctclip.cli.exit_codes import exit_code
from ctclip.cli.imports import without_collecting
from ctclip.cli.outcome import Outcome, print_result, print_sum, reported
from ctclip.cli.progress import slice_progress
from ctclip.cli.request import Request, load_denoiser
from ctclip.settings import WORKERS_PER_GPU

if TYPE_CHECKING:
    from ctclip.dicom import Scan, Series
    from ctclip.pipeline import DenoiserSpec, Plan, SeriesJob, SeriesResult

LOCAL, RAY = ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What can be asked for with the series of an export only.

    Args:
        series: UIDs of those to denoise, and "all"; empty for the usual ones.
        resume: keep what an earlier run has finished.
        strict: read every slice first.
        keep_private: copy private elements.
        check: verify each derived series.
        qc: folder for quality reports.
        engine: one of :data:`ENGINES`.
        workers_per_gpu: at most, on Ray.
        verbose: say what is unusual in the input.
    """

    series: Sequence[str] = ()
    resume: bool = False
    strict: bool = False
    keep_private: bool = False
    check: bool = False
    qc: Path | None = None
    engine: str = LOCAL
    workers_per_gpu: int = WORKERS_PER_GPU
    verbose: bool = False


def denoise_export(request: Request, options: ExportOptions, spec: DenoiserSpec) -> None:
    """Denoise the series of an export, each into a folder; a series that fails does not stop the others.

    Args:
        request: with DICOM as source.
        options: for series.
        spec: of the model.

    Raises:
        typer.Exit: always, with the exit code.
        CtclipError: when nothing can be done.
    """
    from ctclip.data.folders import require_folders
    from ctclip.dicom import opened_export
    from ctclip.pipeline import choose_series

    console, report = request.console, request.report
    require_folders(request.source, request.target, qc=options.qc, report=report)
    with (
        reported(None if request.dry_run else report, request.strength) as run,
        opened_export(request.source) as run.found,
    ):
        job = _job(request, options, run.found)
        run.chosen = choose_series(run.found, options.series)
        spec.require_settings()
        plans = _plans(run.chosen, job, spec, in_detail=request.dry_run)
        _print_scan(console, run.found, plans, options.verbose)
        if options.strict:
            _read_all(console, run.found, run.chosen)
        if request.dry_run:
            raise typer.Exit(exit_code(failed=sum(plan.fails for plan in plans.values()), total=len(plans)))
        run.denoiser = load_denoiser(console, spec, on_ray=options.engine == RAY)
        _run(console, run, job, spec, options)
        print_sum(console, run.results)
        if options.qc and any(result.quality_report for result in run.results):
            console.print(f"Quality reports in {options.qc}")
    failed = sum(result.status == "failed" for result in run.results)
    raise typer.Exit(exit_code(failed=failed, total=len(run.results)))


def _job(request: Request, options: ExportOptions, found: Scan) -> SeriesJob:
    from ctclip.dicom import derived_series_numbers
    from ctclip.pipeline import SeriesJob

    return SeriesJob(
        request.target,
        strength=request.strength,
        series_numbers=derived_series_numbers(found),
        overwrite=request.overwrite,
        resume=options.resume,
        keep_private=options.keep_private,
        check=options.check,
        qc_folder=options.qc,
    )


def _plans(chosen: list[Series], job: SeriesJob, spec: DenoiserSpec, *, in_detail: bool) -> dict[str, Plan]:
    """What would become of each series. The model, which says what its result is called, is loaded only in detail and
    where there may be a result: that takes seconds."""
    from ctclip.pipeline import plan_series

    denoiser = None
    if in_detail and job.target.is_dir() and any(job.target.iterdir()):
        with without_collecting():
            denoiser = spec.load()
    return {each.uid: plan_series(each, job, denoiser) for each in chosen}


def _print_scan(console: Console, found: Scan, plans: Mapping[str, Plan], verbose: bool) -> None:
    from ctclip.pipeline import NOT_ASKED_FOR

    for series in found.series:
        plan = plans.get(series.uid)
        what = plan.what if plan else f"skip ({series.skip_reason or NOT_ASKED_FOR})"
        console.print(f"series {series.uid}: {series.slice_count} slices, {what}")
        for warning in series.warnings if verbose else ():
            console.print(f"  {warning}")
    print_skipped(console, found.skip_summary())


def _read_all(console: Console, found: Scan, chosen: list[Series]) -> None:
    from ctclip.pipeline import require_readable, require_undamaged

    require_undamaged(found)
    with slice_progress(console) as bar:
        task = bar.add_task("reading", total=sum(series.slice_count for series in chosen))
        require_readable(chosen, partial(bar.advance, task))


def _run(console: Console, run: Outcome, job: SeriesJob, spec: DenoiserSpec, options: ExportOptions) -> None:
    """Denoise what was chosen; each series is printed and kept for the report as soon as it is done."""
    unsaid: list[OSError] = []

    def done(result: SeriesResult) -> None:
        run.results.append(result)
        try:
            print_result(console, result)
        except OSError as error:  # the screen may be a file on a full disk, which is no reason to stop
            unsaid.append(error)

    _denoise(console, run, job, spec, options, done)
    if unsaid:
        raise unsaid[0]


def _denoise(
    console: Console,
    run: Outcome,
    job: SeriesJob,
    spec: DenoiserSpec,
    options: ExportOptions,
    done: Callable[[SeriesResult], None],
) -> None:
    from ctclip.pipeline import denoise_series

    chosen, denoiser = run.chosen, run.denoiser
    assert denoiser is not None
    with slice_progress(console) as bar:
        if options.engine == RAY:
            from ctclip.pipeline.ray_engine import denoise_on_ray

            task = bar.add_task(f"{len(chosen)} series on Ray", total=sum(series.slice_count for series in chosen))

            def done_on_ray(result: SeriesResult) -> None:
                bar.advance(task, result.slices)
                done(result)

            # One backend for all, so that they give the same.
            spec = replace(spec, backend=denoiser.backend)
            run.results = denoise_on_ray(chosen, job, spec, done_on_ray, workers_per_gpu=options.workers_per_gpu)
            return
        for number, series in enumerate(chosen, start=1):
            task = bar.add_task(f"series {number} of {len(chosen)}", total=series.slice_count)
            result = denoise_series(series, job, denoiser, partial(bar.advance, task))
            if result.status == "kept":
                bar.update(task, completed=series.slice_count)
            done(result)
