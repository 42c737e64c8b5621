"""``ctclip denoise`` of a volume."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ctclip.cli.outcome import print_result, reported
from ctclip.cli.progress import slice_progress
from ctclip.cli.request import Request, load_denoiser

if TYPE_CHECKING:
    from ctclip.pipeline import DenoiserSpec


def denoise_volume(request: Request, spec: DenoiserSpec) -> None:
    """Denoise a volume file into another one.

    Args:
        request: with a volume file as source.
        spec: of the model.

    Raises:
        DataError: when there is no source, or it cannot be denoised.
        ConfigError: when the target or the report cannot be written, or must not.
    """
    from ctclip.pipeline import denoise_volume_file

    source, target = request.source, request.target
    _require_places(request)
    with reported(None if request.dry_run else request.report, request.strength) as run:
        spec.require_settings()
        if request.dry_run:
            request.console.print("Would denoise one volume")
            return
        run.denoiser = load_denoiser(request.console, spec)
        with slice_progress(request.console) as bar:
            task = bar.add_task("denoising", total=None)
            result = denoise_volume_file(
                source,
                target,
                run.denoiser,
                strength=request.strength,
                overwrite=request.overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        run.results = [result]
        print_result(request.console, result)


def _require_places(request: Request) -> None:
    from ctclip.data.volumes import VOLUME_SUFFIXES, is_volume
    from ctclip.errors import ConfigError, DataError
    from ctclip.files import require_new_file

    source, target, report = request.source, request.target, request.report
    if not source.exists():
        raise DataError(f"no such file: {source}")
    if not is_volume(target):
        raise ConfigError(f"the input is a volume, so the output must be one of {', '.join(VOLUME_SUFFIXES)}")
    require_new_file(source, target, overwrite=request.overwrite)
    if report is not None and (report.is_dir() or os.path.realpath(report) in map(os.path.realpath, (source, target))):
        raise ConfigError("--report is the input, the output or a folder, expected a file of its own")
