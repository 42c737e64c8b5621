"""Low-dose partners of scans in files, and the list that pairs them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ctclip import __version__
from ctclip.data.layouts import hashed
from ctclip.data.volumes import read_volume, write_volume
from ctclip.dicom import (
    CTSlice,
    NoiseInsertion,
    Series,
    derived_series_uid,
    patient_key,
    read_slice,
    write_derived_slices,
)
from ctclip.dicom.geometry import geometry_of
from ctclip.dicom.write import SLICE_FILES
from ctclip.errors import ConfigError, DataError
from ctclip.files import atomic_folder, atomic_path
from ctclip.hu_window import require_hu
from ctclip.sampling import evenly_spread
from ctclip.simulation.simulator import (
    BATCH,
    MOST_PHOTONS,
    MOST_SD_HU,
    NoiseSimulator,
    require_amount,
    require_dose,
    require_known,
    share_without_noise,
)

CALIBRATION_CANDIDATES = 64
"""Slices of a scan whose noise is measured beforehand; what is between them is interpolated."""

TRIED_CANDIDATES = 9
"""Slices among which some with soft tissue are found, to try out a number of photons on."""

MOST_WITHOUT_NOISE = 0.01
"""Share of the body without noise from which on it is said. Tables reach out of the circle a little."""

PAIRS_FILE = "pairs.json"

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Amount:
    """How much noise; exactly one of the three.

    Args:
        dose: fraction of the scan's dose.
        sd_hu: SD of the added noise in the flat soft tissue of every slice.
        photons: per ray without an object, in the projection domain; the same for every slice.
    """

    dose: float | None = None
    sd_hu: float | None = None
    photons: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.dose, self.sd_hu, self.photons) if value is not None]
        if len(given) != 1:
            raise ConfigError(f"give exactly one of dose, SD and photons, found {len(given)} of them")
        if self.dose is not None:
            require_dose(self.dose)
        elif self.sd_hu is not None:
            require_amount("the SD of the noise", self.sd_hu, MOST_SD_HU)
        else:
            require_amount("the number of photons", given[0], MOST_PHOTONS)

    def __str__(self) -> str:
        if self.dose is not None:
            return f"dose {self.dose:g}"
        return f"noise {self.sd_hu:g} HU" if self.sd_hu is not None else f"{self.photons:g} photons"


@dataclass(frozen=True)
class Settings:
    """How noise is made; see :class:`~ctclip.simulation.NoiseSimulator`.

    Raises:
        ConfigError: when a setting is unknown, or photons are given without the projection domain.
    """

    amount: Amount
    domain: str = "projection"
    texture: str = "standard"
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a constant)

    def __post_init__(self) -> None:
        require_known([self.domain], [self.texture])
        if self.amount.photons is not None and self.domain != "projection":
            raise ConfigError(f"photons need the projection domain, found {self.domain!r}")

    def measured(self, count: int) -> list[int]:
        """Which of a number of slices :meth:`simulator` needs."""
        return evenly_spread(count, CALIBRATION_CANDIDATES if self.amount.photons is None else TRIED_CANDIDATES)

    def simulator(
        self, slices_hu: Sequence[np.ndarray], pixel_mm: float, indices: Sequence[int] | None = None
    ) -> NoiseSimulator:
        """A simulator for a scan, calibrated on some of its slices; see the methods of the simulator."""
        simulator = NoiseSimulator(self.domain, self.texture, pixel_mm, self.seed, self.device)
        share = float(np.mean([share_without_noise(each) for each in slices_hu]))
        if share > MOST_WITHOUT_NOISE:
            logger.warning("%.0f %% of the body lies outside the inscribed circle and gets no noise", 100 * share)
        if self.amount.dose is not None:
            return simulator.for_dose(slices_hu, self.amount.dose, indices)
        if self.amount.sd_hu is not None:
            return simulator.for_sd(slices_hu, self.amount.sd_hu, indices)
        return simulator.for_photons(slices_hu, float(self.amount.photons or 0))

    @property
    def derivation(self) -> NoiseInsertion:
        """What derived slices say."""
        parameters = f"domain={self.domain} texture={self.texture} seed={self.seed} device={self.device.type}"
        return NoiseInsertion(str(self.amount), parameters, __version__)


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
    final = target / derived_series_uid(series.uid, settings.derivation)
    with atomic_folder(final, replaces=SLICE_FILES if overwrite else None) as folder:
        noisy = _noisy_slices(series, settings)
        for _ in write_derived_slices(noisy, folder, settings.derivation, series_number=series_number):
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
        ConfigError: when the target is the source, or exists and ``overwrite`` is not given.
        DataError: when the source cannot be read, or its noise cannot be measured.
    """
    if source.resolve() == target.resolve():
        raise ConfigError("the output is the input, which is never modified; choose another file")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; give --overwrite to replace it")
    volume = read_volume(source)
    require_hu(volume.hu)
    known = settings.measured(len(volume.hu))
    simulator = settings.simulator([volume.hu[i] for i in known], volume.pixel_mm, known)
    noisy_hu = np.empty_like(volume.hu)
    for first in range(0, len(volume.hu), BATCH):
        batch = slice(first, first + BATCH)
        noisy_hu[batch] = simulator.low_dose(volume.hu[batch], first)
        if progress:
            progress(min(first + BATCH, len(volume.hu)), len(volume.hu))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(target, replace(volume, hu=noisy_hu))


def write_pair(source: Path, series: Series, folder: Path) -> None:
    """Add a pair to the list that ``ctclip evaluate`` takes, beside the partner; others whose low dose is there stay.

    Args:
        source: the folder that was scanned.
        series: with full dose.
        folder: of its partner.
    """
    target = folder.parent
    entry = {
        "low": folder.name,
        "low_series": folder.name,
        "full": os.path.relpath(source.resolve(), target.resolve()),
        "full_series": series.uid,
        "patient": hashed(patient_key(series.stacks[0][0].path) or series.uid),
    }
    others = [other for other in earlier_pairs(target) if other["low"] != folder.name]
    kept = [other for other in others if (target / other["low"]).exists()]
    with atomic_path(target / PAIRS_FILE) as partial:
        partial.write_text(json.dumps([*kept, entry], indent=1) + "\n")


def earlier_pairs(target: Path) -> list[dict[str, str]]:
    """The pairs that earlier runs have listed in a folder.

    Raises:
        ConfigError: when the file of their name is something else.
    """
    path = target / PAIRS_FILE
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        known = all(isinstance(entry["low"], str) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise ConfigError(f"{path} exists and is no list of pairs; choose another folder")
    return entries


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
