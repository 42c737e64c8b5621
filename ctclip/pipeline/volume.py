"""A volume file in, a denoised volume file out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctclip.data.volumes import read_volume, write_volume
from ctclip.files import require_new_file
from ctclip.pipeline.job import SeriesResult
from ctclip.pipeline.noise import SeriesNoise

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser


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
        ConfigError: as :func:`~ctclip.files.require_new_file`.
        DataError: when the source cannot be read or is not in HU.
    """
    require_new_file(source, target, overwrite=overwrite)
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
