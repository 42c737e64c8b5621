"""``ctclip denoise``: a CT export, a volume or photographs in, the same denoised out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.config_file import read_config, typed
from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, exit_code, one_line_errors
from ctclip.cli.imports import without_collecting
from ctclip.cli.options import Overwrite, Precision, Quiet, path
from ctclip.cli.outcome import print_results, reported
from ctclip.cli.photographs import denoise_photographs
from ctclip.cli.progress import slice_progress
from ctclip.model_names import DEFAULT_MODEL, NATURAL_MODEL
from ctclip.settings import COMPILED, DEFAULT_OVERLAP
from ctclip.strength import DEFAULT_STRENGTH, find_strength

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.dicom import Scan, Series
    from ctclip.pipeline import DenoiserSpec, SeriesJob, SeriesResult

LOCAL, RAY = ENGINES = ("local", "ray")


def denoise(
    context: typer.Context,
    source: Path = typer.Argument(
        ..., parser=path, metavar="SRC", help="DICOM folder, file or zip, a NIfTI, NRRD or MHA volume, or images."
    ),
    target: Path = typer.Argument(
        ..., parser=path, metavar="DST", help="Folder for the results, or a volume or image file."
    ),
    series: list[str] = typer.Option(
        [], help="SeriesInstanceUID to denoise, repeatable; 'all' adds reformats and projections."
    ),
    model: str = typer.Option(
        "", help=f"Name from 'ctclip weights list', or a checkpoint file. Default: {DEFAULT_MODEL}, or {NATURAL_MODEL}."
    ),
    encoder_weights: str = typer.Option("", help="CLIP weights for a checkpoint that holds no encoder."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    precision: Precision = "auto",
    backend: str = typer.Option("auto", help="What runs the network: auto, eager, compiled or openvino."),
    strength: str = typer.Option(
        "",
        help="low, medium, high, or 0 (the input) to 1 (the network's result). Default: medium; for photographs 1.",
    ),
    batch: str = typer.Option("auto", help="Slices per pass of the network, or auto."),
    roi: int = typer.Option(0, min=0, help="Side of sliding windows in pixels; 0 takes whole slices."),
    overlap: float | None = typer.Option(
        None, min=0.0, max=0.95, help=f"Part of a window shared with the next. Default: {DEFAULT_OVERLAP}."
    ),
    report: Path | None = typer.Option(None, parser=path, help="Write a JSON report without patient data."),
    keep_private: bool = typer.Option(False, "--keep-private", help="Copy private DICOM elements."),
    check: bool = typer.Option(False, "--check", help="Verify each derived series, as 'ctclip check' does."),
    qc: Path | None = typer.Option(
        None, parser=path, metavar="DIR", help="Write a quality report of each series, HTML and JSON."
    ),
    engine: str = typer.Option(LOCAL, help="local, or ray: series are spread over a Ray cluster."),
    dry_run: bool = typer.Option(False, "--dry-run", "--list", help="List what would be done and write nothing."),
    overwrite: Overwrite = False,
    resume: bool = typer.Option(False, "--resume", help="Keep series that an earlier run has finished."),
    strict: bool = typer.Option(False, "--strict", help="Read every slice first; write nothing when one is bad."),
    config: Path | None = typer.Option(
        None,
        parser=path,
        callback=read_config,
        is_eager=True,
        help='JSON file with defaults of these options, {"strength": "low"}.',
    ),
    quiet: Quiet = False,
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Print warnings about unusual input."),
) -> None:
    """Denoise every axial CT series in a folder, a volume, or photographs.

    Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 some series failed. Research use only; keep the original
    series.
    """
    console = plain_console(quiet=quiet)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(message)s")
    logging.getLogger("ctclip").setLevel(logging.INFO if verbose else logging.WARNING)
    with one_line_errors():
        with without_collecting():
            from ctclip.data.images import holds_images_only, is_photograph
            from ctclip.data.volumes import is_volume
            from ctclip.dicom import derived_series_numbers, opened_export
            from ctclip.errors import ConfigError
            from ctclip.pipeline import DenoiserSpec, SeriesJob, check_folders, choose_series

        photographs = holds_images_only(source) if source.is_dir() else is_photograph(source)
        share = find_strength(strength or (1.0 if photographs else DEFAULT_STRENGTH))
        for_series = {
            "series": series,
            "qc": qc,
            "check": check,
            "engine": engine != LOCAL,
            "resume": resume,
            "strict": strict,
            "keep_private": keep_private,
        }
        for_windows = {"roi": roi, "overlap": overlap is not None}
        if photographs:
            from ctclip.natural.methods import MethodSpec

            useless = {**for_series, "report": report, "batch": batch != "auto", **for_windows}
            _refuse(context, useless, "images")
            method = MethodSpec(
                name=model or NATURAL_MODEL,
                is_model=True,
                adapt=True,
                encoder_weights=encoder_weights,
                device=device,
                precision=precision,
                backend=backend,
            )
            denoise_photographs(console, source, target, method, share, dry_run, overwrite)
            raise typer.Exit(ALL_DONE)
        if not roi:
            _refuse(context, for_windows, "whole slices")
        spec = DenoiserSpec(
            model or DEFAULT_MODEL,
            encoder_weights,
            device,
            precision,
            _batch(batch),
            roi or None,
            DEFAULT_OVERLAP if overlap is None else overlap,
            backend,
        )
        if is_volume(source) and not source.is_dir():
            _refuse(context, for_series, "a volume")
            _volume(console, source, target, spec, share, dry_run, overwrite, report)
            raise typer.Exit(ALL_DONE)
        if resume and overwrite and typed(context, "resume") == typed(context, "overwrite"):
            raise ConfigError("--resume keeps what --overwrite replaces; give one of them")
        if resume and overwrite:  # one of them comes from the file of defaults, and gives way
            resume, overwrite = typed(context, "resume"), typed(context, "overwrite")
        if engine not in ENGINES:
            raise ConfigError(f"--engine must be one of {', '.join(ENGINES)}, found {engine!r}")
        check_folders(source, target, qc=qc, report=report)
        with reported(None if dry_run else report, share) as run, opened_export(source) as run.found:
            job = SeriesJob(
                target,
                strength=share,
                series_numbers=derived_series_numbers(run.found),
                overwrite=overwrite,
                resume=resume,
                keep_private=keep_private,
                check=check,
                qc_folder=qc,
            )
            run.chosen = choose_series(run.found, series)
            spec.require_settings()
            plans = _plans(run.chosen, job, spec) if dry_run else {}
            _print_scan(console, run.found, run.chosen, plans, verbose)
            if strict:
                _read_all(console, run.found, run.chosen)
            if dry_run:
                raise typer.Exit(ALL_DONE)
            run.denoiser = _load(console, spec, engine)
            run.results = _run(console, run.chosen, job, spec, run.denoiser, engine)
            print_results(console, run.results)
        failed = sum(result.status == "failed" for result in run.results)
        raise typer.Exit(exit_code(failed=failed, total=len(run.results)))


def _refuse(context: typer.Context, given: Mapping[str, object], what: str) -> None:
    """An option without an effect is refused, so that nobody relies on it; one from a file of defaults is for other
    input."""
    from ctclip.errors import ConfigError

    useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value and typed(context, name)]
    if useless:
        raise ConfigError(f"no effect on {what}: {', '.join(useless)}; leave it out")


def _batch(text: str) -> int | str:
    from ctclip.errors import ConfigError

    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"--batch must be 'auto' or a number of slices, found {text!r}")
    return text if text == "auto" else int(text)


def _load(console: Console, spec: DenoiserSpec, engine: str = LOCAL) -> Denoiser:
    with without_collecting():  # PyTorch and OpenVINO
        denoiser = spec.load()
    name = denoiser.config.encoder_name
    how = f"{denoiser.device}, {denoiser.precision}, {denoiser.backend}"
    if denoiser.backend == COMPILED:
        how += " (the first slice takes some ten seconds)"
    # The workers of a cluster have devices of their own, which the report names.
    console.print(f"Model {denoiser.model_name} ({name}), {how if engine == LOCAL else 'Ray'}")
    return denoiser


def _volume(
    console: Console,
    source: Path,
    target: Path,
    spec: DenoiserSpec,
    strength: float,
    dry_run: bool,
    overwrite: bool,
    report: Path | None,
) -> None:
    from ctclip.data.volumes import VOLUME_SUFFIXES, is_volume
    from ctclip.errors import ConfigError, DataError
    from ctclip.files import require_new_file
    from ctclip.pipeline import denoise_volume_file

    if not source.exists():
        raise DataError(f"no such file: {source}")
    if not is_volume(target):
        raise ConfigError(f"the input is a volume, so the output must be one of {', '.join(VOLUME_SUFFIXES)}")
    require_new_file(source, target, overwrite=overwrite)
    if report is not None and (report.is_dir() or os.path.realpath(report) in map(os.path.realpath, (source, target))):
        raise ConfigError("--report is the input, the output or a folder, expected a file of its own")
    with reported(None if dry_run else report, strength) as run:
        spec.require_settings()
        if dry_run:
            console.print("Would denoise one volume")
            return
        run.denoiser = _load(console, spec)
        with slice_progress(console) as bar:
            task = bar.add_task("denoising", total=None)
            result = denoise_volume_file(
                source,
                target,
                run.denoiser,
                strength=strength,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        run.results = [result]
        print_results(console, run.results)


def _read_all(console: Console, found: Scan, chosen: list[Series]) -> None:
    from ctclip.pipeline import require_readable, require_undamaged

    require_undamaged(found)
    with slice_progress(console) as bar:
        task = bar.add_task("reading", total=sum(series.slice_count for series in chosen))
        require_readable(chosen, partial(bar.advance, task))


def _run(
    console: Console,
    chosen: list[Series],
    job: SeriesJob,
    spec: DenoiserSpec,
    denoiser: Denoiser,
    engine: str,
) -> list[SeriesResult]:
    from ctclip.pipeline import denoise_series

    with slice_progress(console) as bar:
        if engine == RAY:
            from ctclip.pipeline.ray_engine import denoise_on_ray

            task = bar.add_task(f"{len(chosen)} series on Ray", total=sum(series.slice_count for series in chosen))
            # One backend for all, so that they give the same.
            spec = replace(spec, backend=denoiser.backend)
            return denoise_on_ray(chosen, job, spec, lambda result: bar.advance(task, result.slices))
        results = []
        for number, series in enumerate(chosen, start=1):
            task = bar.add_task(f"series {number} of {len(chosen)}", total=series.slice_count)
            results.append(denoise_series(series, job, denoiser, partial(bar.advance, task)))
        return results


def _plans(chosen: list[Series], job: SeriesJob, spec: DenoiserSpec) -> dict[str, str]:
    """What would become of each series. The model, which says what its result is called, is loaded only where there may
    be one: that takes seconds."""
    from ctclip.pipeline import planned

    if not (job.target.is_dir() and any(job.target.iterdir())):
        return {}
    with without_collecting():
        denoiser = spec.load()
    return {each.uid: planned(each, job, denoiser) for each in chosen}


def _print_scan(console: Console, found: Scan, chosen: list[Series], plans: Mapping[str, str], verbose: bool) -> None:
    from ctclip.pipeline import NOT_ASKED_FOR

    for series in found.series:
        what = plans.get(series.uid, "denoise") if series in chosen else f"skip ({series.skip_reason or NOT_ASKED_FOR})"
        console.print(f"series {series.uid}: {series.slice_count} slices, {what}")
        for warning in series.warnings if verbose else ():
            console.print(f"  {warning}")
    for reason, count in found.skip_summary().items():
        console.print(f"skipped {count} files: {reason}")
