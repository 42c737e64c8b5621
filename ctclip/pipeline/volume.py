"""A volume file in, a denoised volume file out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctclip.data.folders import require_no_file_above
from ctclip.data.volumes import read_volume, write_volume
from ctclip.errors import ConfigError
from ctclip.pipeline.job import SeriesResult
from ctclip.pipeline.noise import SeriesNoise

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser


def require_volume_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, or must not.

    Raises:
        ConfigError: when it is the source or a folder, lies below a file, or exists and ``overwrite`` is not given.
    """
    if source.resolve() == target.resolve():
        raise ConfigError("the output is the input, which is never modified; choose another file")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder, expected a file")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; give --overwrite to replace it")
    require_no_file_above(target, "the output")


def denoise_volume_file(
    source: Path,
    target: Path,
    denoiser: Denoiser,
    *,
    strength: float,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SeriesResult:
    """Denoise a NIfTI, NRRD or MetaImage volume into another file.

    Raises:
        ConfigError: as :func:`require_volume_target`.
        DataError: when the source cannot be read or is not in HU.
    """
    require_volume_target(source, target, overwrite=overwrite)
    start = time.monotonic()
    volume = read_volume(source)
    target.parent.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
    denoised = denoiser.denoise(volume.hu, strength=strength, progress=progress)
    write_volume(target, replace(volume, hu=np.asarray(denoised)))
    result = SeriesResult("volume", len(volume.hu), seconds=time.monotonic() - start)
    noise = SeriesNoise(len(volume.hu))
    for pair in zip(volume.hu, np.asarray(denoised), strict=True):
        noise.add(partial(tuple, pair))
    noise.put_into(result)
    # Afterwards: when memory runs out the device changes on the way.
    result.device, result.settings = str(denoiser.device), denoiser.parameters
    return result
