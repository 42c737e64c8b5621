"""A scan in, its low-dose partner out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctclip import __version__
from ctclip.atomic import atomic_folder
from ctclip.data.volumes import read_volume, write_volume
from ctclip.dicom import CTSlice, NoiseInsertion, Series, derived_series_uid, read_slice, write_derived_slices
from ctclip.dicom.geometry import geometry_of
from ctclip.dicom.write import SLICE_FILES
from ctclip.errors import DataError
from ctclip.files import require_new_file
from ctclip.hu_window import require_hu
from ctclip.simulation import BATCH, NoiseSimulator
from ctclip.simulation.settings import Settings


def simulate_series(
    series: Series,
    target: Path,
    settings: Settings,
    *,
    series_number: int,
    overwrite: bool = False,
    slice_done: Callable[[], None] | None = None,
) -> Path:
    """Write a low-dose partner of a series into ``target/<derived SeriesInstanceUID>``; all of it, or nothing.

    Args:
        series: from a scan.
        target: folder for derived series; made when missing.
        settings: of the noise.
        series_number: of the partner.
        overwrite: replace an earlier result of the same series and settings.
        slice_done: called after every slice.

    Returns:
        the folder.

    Raises:
        DataError: when the noise of the scan cannot be measured, or its pixel size is unknown.
        SeriesError: when a slice cannot be read.
        ConfigError: when the folder exists, or a setting is out of range.
    """
    derivation = derivation_of(settings)
    final = target / derived_series_uid(series.uid, derivation)
    with atomic_folder(final, replaces=SLICE_FILES if overwrite else None) as folder:
        noisy = _noisy_slices(series, settings)
        for _ in write_derived_slices(noisy, folder, derivation, series_number=series_number):
            if slice_done:
                slice_done()
    return final


def simulate_volume_file(
    source: Path,
    target: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a low-dose partner of a volume.

    Raises:
        ConfigError: as :func:`~ctclip.files.require_new_file`.
        DataError: when the source cannot be read, or its noise cannot be measured.
    """
    require_new_file(source, target, overwrite=overwrite)
    volume = read_volume(source)
    require_hu(volume.hu)
    target.parent.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
    known = settings.measured(len(volume.hu))
    simulator = settings.simulator([volume.hu[i] for i in known], volume.pixel_mm, known)
    noisy_hu = np.empty_like(volume.hu)
    for first in range(0, len(volume.hu), BATCH):
        batch = slice(first, first + BATCH)
        noisy_hu[batch] = simulator.low_dose(volume.hu[batch], first)
        if progress:
            progress(min(first + BATCH, len(volume.hu)), len(volume.hu))
    write_volume(target, replace(volume, hu=noisy_hu))


def derivation_of(settings: Settings) -> NoiseInsertion:
    """What derived slices say of the noise in them."""
    noise = f"domain={settings.domain} texture={settings.texture} seed={settings.seed} device={settings.device.type}"
    return NoiseInsertion(str(settings.amount), noise, __version__)


def _noisy_slices(series: Series, settings: Settings) -> Iterator[tuple[CTSlice, np.ndarray]]:
    pixel_mm = [_pixel_mm(series, read_slice(stack[0].path)) for stack in series.stacks]
    sizes_mm = [size for size, stack in zip(pixel_mm, series.stacks, strict=True) for _ in stack]  # by slice
    simulators = {size: _simulator(series, settings, size, sizes_mm) for size in dict.fromkeys(pixel_mm)}
    done = 0
    for size, stack in zip(pixel_mm, series.stacks, strict=True):
        for first, batch in _batches(read_slice(item.path) for item in stack):
            slices_hu = np.stack([ct.without_padding(ct.hu) for ct in batch])
            noisy_hu = simulators[size].low_dose(slices_hu, done + first)
            yield from zip(batch, noisy_hu, strict=True)
        done += len(stack)


def _simulator(series: Series, settings: Settings, pixel_mm: float, sizes_mm: Sequence[float]) -> NoiseSimulator:
    """For the slices with pixels of a size, on which noise depends."""
    alike = [index for index, size in enumerate(sizes_mm) if size == pixel_mm]
    known = [alike[i] for i in settings.measured(len(alike))]
    files = series.slices
    slices = [read_slice(files[index].path) for index in known]
    require_hu(np.concatenate([ct.hu.ravel() for ct in slices]))
    return settings.simulator([ct.without_padding(ct.hu) for ct in slices], pixel_mm, known)


def _pixel_mm(series: Series, ct: CTSlice) -> float:
    spacing = geometry_of(ct.header).spacing
    if spacing is None or min(spacing) <= 0:
        raise DataError(f"series {series.uid} does not state PixelSpacing above 0, which the noise depends on")
    return float(np.mean(spacing))


def _batches(slices: Iterable[CTSlice]) -> Iterator[tuple[int, list[CTSlice]]]:
    """Up to :data:`BATCH` neighbours of one size, with the index of the first."""
    first, waiting = 0, list[CTSlice]()
    for ct in slices:
        if waiting and (len(waiting) == BATCH or ct.hu.shape != waiting[0].hu.shape):
            yield first, waiting
            first, waiting = first + len(waiting), []
        waiting.append(ct)
    if waiting:
        yield first, waiting
