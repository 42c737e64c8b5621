"""``ctclip denoise``: a CT export, a volume or photographs in, the same denoised out."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.config_file import read_config, typed
from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, NOTHING_DONE, SOME_FAILED, one_line_errors
from ctclip.cli.imports import without_collecting
from ctclip.cli.progress import slice_progress
from ctclip.strength import DEFAULT_STRENGTH, find_strength

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.dicom import Scan, Series
    from ctclip.natural.methods import MethodSpec
    from ctclip.pipeline import DenoiserSpec, SeriesJob, SeriesResult

DEFAULT_OVERLAP = 0.25

LOCAL, RAY = ENGINES = ("local", "ray")


def denoise(
    context: typer.Context,
    source: Path = typer.Argument(
        ..., metavar="SRC", help="DICOM folder, file or zip, a NIfTI, NRRD or MHA volume, or images."
    ),
    target: Path = typer.Argument(..., metavar="DST", help="Folder for the results, or a volume or image file."),
    series: list[str] = typer.Option(
        [], help="SeriesInstanceUID to denoise, repeatable; 'all' adds what is off by default."
    ),
    model: str = typer.Option(
        "", help="Name from 'ctclip weights list', or a checkpoint file. Default: ct-compact, or natural-compact."
    ),
    encoder_weights: str = typer.Option("", help="CLIP weights for a checkpoint that holds no encoder."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    precision: str = typer.Option("auto", help="auto (bf16 where the device is faster with it), fp32 or bf16."),
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
    report: Path | None = typer.Option(None, help="Write a JSON report without patient data."),
    keep_private: bool = typer.Option(False, "--keep-private", help="Copy private DICOM elements."),
    check: bool = typer.Option(False, "--check", help="Verify each derived series, as 'ctclip check' does."),
    qc: Path | None = typer.Option(None, metavar="DIR", help="Write a quality report of each series, HTML and JSON."),
    engine: str = typer.Option(LOCAL, help="local, or ray: series are spread over a Ray cluster."),
    dry_run: bool = typer.Option(False, "--dry-run", "--list", help="List what would be done and write nothing."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace earlier output."),
    resume: bool = typer.Option(False, "--resume", help="Keep series that an earlier run has finished."),
    strict: bool = typer.Option(False, "--strict", help="Read every slice first; write nothing when one is bad."),
    config: Path | None = typer.Option(
        None, callback=read_config, is_eager=True, help='JSON file with defaults of these options, {"strength": "low"}.'
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Print errors only."),
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
            from ctclip.data.volumes import is_volume
            from ctclip.dicom import derived_series_numbers, opened_export
            from ctclip.errors import ConfigError
            from ctclip.model_names import DEFAULT_MODEL, NATURAL_MODEL
            from ctclip.natural.files import holds_images_only, is_image
            from ctclip.natural.methods import MethodSpec
            from ctclip.pipeline import DenoiserSpec, SeriesJob, check_folders, choose_series, require_undamaged

        photographs = is_image(source) or (source.is_dir() and holds_images_only(source))
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
            useless = {**for_series, "report": report, "batch": batch != "auto", **for_windows}
            _refuse(context, useless, "images")
            method = MethodSpec(model or NATURAL_MODEL, True, True, encoder_weights, device, precision, backend)
            _photographs(console, source, target, method, share, dry_run, overwrite)
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
        with opened_export(source) as found:
            job = SeriesJob(
                target,
                strength=share,
                series_numbers=derived_series_numbers(found),
                overwrite=overwrite,
                resume=resume,
                keep_private=keep_private,
                check_against=source if check else None,
                qc_folder=qc,
            )
            chosen = choose_series(found, series)
            _print_scan(console, found, chosen, verbose)
            if dry_run:
                raise typer.Exit(ALL_DONE)
            if strict:
                require_undamaged(found)
            denoiser = _load(console, spec, engine)
            results = _run(console, chosen, job, spec, denoiser, engine, strict)
            _print_results(console, results)
            _write_report(report, results, denoiser, share, found)
        failed = sum(result.status == "failed" for result in results)
        raise typer.Exit(ALL_DONE if not failed else SOME_FAILED if failed < len(results) else NOTHING_DONE)


def _refuse(context: typer.Context, given: Mapping[str, object], what: str) -> None:
    """An option without an effect is refused, so that nobody relies on it; one from a file of defaults is for other
    input."""
    from ctclip.errors import ConfigError

    useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value and typed(context, name)]
    if useless:
        raise ConfigError(f"no effect on {what}: {', '.join(useless)}; leave it out")


def _photographs(
    console: Console, source: Path, target: Path, spec: MethodSpec, strength: float, dry_run: bool, overwrite: bool
) -> None:
    from ctclip.cli.progress import cell_progress
    from ctclip.errors import CtclipError, one_line
    from ctclip.natural.files import denoise_image_file, image_jobs
    from ctclip.natural.methods import make_method

    jobs = image_jobs(source, target, overwrite=overwrite)
    if dry_run:
        console.print(f"Would denoise {len(jobs)} images")
        return
    method = make_method(spec)
    console.print(f"{method.label}: {method.description}")
    failed = 0
    with cell_progress(console) as bar:
        for origin, final in bar.track(jobs, description="denoising"):
            try:
                change = denoise_image_file(origin, final, method, strength=strength)
            except (CtclipError, OSError) as error:
                failed += 1
                console.print(f"failed: {one_line(error)}")
            else:
                console.print(f"{final.name}: changed by {change:.1f} of 255 (RMS)")
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(jobs) else NOTHING_DONE)


def _batch(text: str) -> int | str:
    from ctclip.errors import ConfigError

    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"--batch must be 'auto' or a number of slices, found {text!r}")
    return text if text == "auto" else int(text)


def _load(console: Console, spec: DenoiserSpec, engine: str = LOCAL) -> Denoiser:
    with without_collecting():  # PyTorch and OpenVINO
        from ctclip.backend import COMPILED

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
    from ctclip.pipeline import denoise_volume_file

    if not source.exists():
        raise DataError(f"no such file: {source}")
    if not is_volume(target):
        raise ConfigError(f"the input is a volume, so the output must be one of {', '.join(VOLUME_SUFFIXES)}")
    if report is not None and (report.is_dir() or os.path.realpath(report) in map(os.path.realpath, (source, target))):
        raise ConfigError("--report is the input, the output or a folder, expected a file of its own")
    if dry_run:
        console.print("Would denoise one volume")
        return
    denoiser = _load(console, spec)
    with slice_progress(console) as bar:
        task = bar.add_task("denoising", total=None)
        result = denoise_volume_file(
            source,
            target,
            denoiser,
            strength=strength,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_results(console, [result])
    _write_report(report, [result], denoiser, strength, None)


def _run(
    console: Console,
    chosen: list[Series],
    job: SeriesJob,
    spec: DenoiserSpec,
    denoiser: Denoiser,
    engine: str,
    strict: bool,
) -> list[SeriesResult]:
    from ctclip.pipeline import denoise_series, require_readable

    with slice_progress(console) as bar:
        total = sum(series.slice_count for series in chosen)
        if strict:
            require_readable(chosen, partial(bar.advance, bar.add_task("reading", total=total)))
        if engine == RAY:
            from ctclip.pipeline.ray_engine import denoise_on_ray

            task = bar.add_task(f"{len(chosen)} series on Ray", total=total)
            # One backend for all, so that they give the same.
            spec = replace(spec, backend=denoiser.backend)
            return denoise_on_ray(chosen, job, spec, lambda result: bar.advance(task, result.slices))
        results = []
        for number, series in enumerate(chosen, start=1):
            task = bar.add_task(f"series {number} of {len(chosen)}", total=series.slice_count)
            results.append(denoise_series(series, job, denoiser, partial(bar.advance, task)))
        return results


def _print_scan(console: Console, found: Scan, chosen: list[Series], verbose: bool) -> None:
    for series in found.series:
        what = "denoise" if series in chosen else f"skip ({series.skip_reason or 'not asked for'})"
        console.print(f"series {series.uid}: {series.slice_count} slices, {what}")
        for warning in series.warnings if verbose else ():
            console.print(f"  {warning}")
    for reason, count in found.skip_summary().items():
        console.print(f"skipped {count} files: {reason}")


def _print_results(console: Console, results: list[SeriesResult]) -> None:
    for result in results:
        _print_result(console, result)
    if len(results) > 1:
        status = Counter(result.status for result in results)
        slices = sum(result.slices for result in results if result.status == "done")
        console.print(
            f"{len(results)} series: {status['done']} done ({slices} slices), {status['kept']} kept, "
            f"{status['failed']} failed",
        )


def _print_result(console: Console, result: SeriesResult) -> None:
    if result.status == "failed":
        typer.secho(f"ctclip: series {result.source} failed: {result.message}", fg="red", err=True)
        return
    if result.status == "kept":
        console.print(f"{result.source}: {result.slices} slices, done by an earlier run")
        return
    noise = (
        f"noise {result.noise_before_hu:.1f} -> {result.noise_after_hu:.1f} HU, mean shift {result.shift_hu:+.2f} HU"
        if math.isfinite(result.noise_before_hu)
        else "no soft tissue to measure noise in"
    )
    console.print(f"{result.source}: {result.slices} slices in {result.seconds:.1f} s, {noise}")
    for warning in result.quality_warnings:
        console.print(f"  quality: {warning}")


def _write_report(
    path: Path | None, results: list[SeriesResult], denoiser: Denoiser, strength: float, found: Scan | None
) -> None:
    from ctclip.files import atomic_path
    from ctclip.pipeline import report

    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(report(results, denoiser, strength=strength, found=found), indent=1))
