"""``ctclip denoise``: a CT export, a volume or photographs in, the same denoised out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import typer

from ctclip.cli.config_file import read_config, typed
from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, one_line_errors
from ctclip.cli.export import ENGINES, LOCAL, RAY, ExportOptions, denoise_export
from ctclip.cli.imports import without_collecting
from ctclip.cli.options import Overwrite, Precision, Quiet, path
from ctclip.cli.photographs import denoise_photographs
from ctclip.cli.request import Request
from ctclip.cli.volume import denoise_volume
from ctclip.settings import DEFAULT_MODEL, DEFAULT_OVERLAP, NATURAL_MODEL, WORKERS_PER_GPU
from ctclip.strength import DEFAULT_STRENGTH, find_strength


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
    workers_per_gpu: int | None = typer.Option(
        None, min=1, help=f"With --engine ray, series at a time on each GPU. Default: up to {WORKERS_PER_GPU}."
    ),
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

    Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 some series failed; with --dry-run what they would be
    by the headers. Research use only; keep the original series.
    """
    console = plain_console(quiet=quiet)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(message)s")
    logging.getLogger("ctclip").setLevel(logging.INFO if verbose else logging.WARNING)
    with one_line_errors():
        with without_collecting():
            from ctclip.data.images import holds_images_only, is_photograph
            from ctclip.data.volumes import is_volume_file
            from ctclip.errors import ConfigError
            from ctclip.pipeline import DenoiserSpec

        photographs = holds_images_only(source) if source.is_dir() else is_photograph(source)
        request = Request(
            console=console,
            source=source,
            target=target,
            strength=find_strength(strength or (1.0 if photographs else DEFAULT_STRENGTH)),
            dry_run=dry_run,
            overwrite=overwrite,
            report=report,
        )
        for_series = {
            "series": series,
            "qc": qc,
            "check": check,
            "engine": engine != LOCAL,
            "workers_per_gpu": workers_per_gpu is not None,
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
            denoise_photographs(request, method)
            raise typer.Exit(ALL_DONE)
        if not roi:
            _refuse(context, for_windows, "whole slices")
        spec = DenoiserSpec(
            model=model or DEFAULT_MODEL,
            encoder_weights=encoder_weights,
            device=device,
            precision=precision,
            batch_size=_batch(batch),
            roi_size=roi or None,
            overlap=DEFAULT_OVERLAP if overlap is None else overlap,
            backend=backend,
        )
        if is_volume_file(source):
            _refuse(context, for_series, "a volume")
            denoise_volume(request, spec)
            raise typer.Exit(ALL_DONE)
        if resume and overwrite and typed(context, "resume") == typed(context, "overwrite"):
            raise ConfigError("--resume keeps what --overwrite replaces; give one of them")
        if resume and overwrite:  # one of them comes from the file of defaults, and gives way
            resume = typed(context, "resume")
            request = replace(request, overwrite=not resume)
        if engine not in ENGINES:
            raise ConfigError(f"--engine must be one of {', '.join(ENGINES)}, found {engine!r}")
        if engine != RAY:
            _refuse(context, {"workers_per_gpu": workers_per_gpu is not None}, "one process, without --engine ray")
        options = ExportOptions(
            series=series,
            resume=resume,
            strict=strict,
            keep_private=keep_private,
            check=check,
            qc=qc,
            engine=engine,
            workers_per_gpu=workers_per_gpu or WORKERS_PER_GPU,
            verbose=verbose,
        )
        denoise_export(request, options, spec)


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
