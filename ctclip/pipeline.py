"""One job: find the series, denoise them slice by slice, write derived series, report. Nothing half-written remains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctclip import __version__
from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.dicom import (
    CTSlice,
    Denoising,
    Scan,
    Series,
    SliceFile,
    derived_series_number,
    derived_series_uid,
    read_slice,
    sop_instance_uid,
    write_derived_slices,
)
from ctclip.errors import ConfigError, CtclipError, DataError, SeriesError
from ctclip.files import atomic_folder
from ctclip.metrics.noise import compare_noise

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser

SliceDone = Callable[[], None]


@dataclass
class SeriesResult:
    """What became of one series or volume; holds no patient data.

    Args:
        source: source SeriesInstanceUID, or "volume".
        slices: number of slices.
        status: "done", "failed", or "kept" for a result of an earlier run.
        message: why it failed.
        derived: derived SeriesInstanceUID.
        seconds: time that it took.
        noise_before_hu: median over slices of the noise SD in flat soft tissue; NaN without any.
        noise_after_hu: the same places after denoising.
        shift_hu: mean change of the mean value there.
        warnings: what was unusual.
    """

    source: str
    slices: int
    status: str = "done"
    message: str = ""
    derived: str = ""
    seconds: float = 0.0
    noise_before_hu: float = float("nan")
    noise_after_hu: float = float("nan")
    shift_hu: float = float("nan")
    warnings: tuple[str, ...] = ()


@dataclass
class _Noise:
    """Noise of the slices seen so far."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, before_hu: np.ndarray, after_hu: np.ndarray) -> None:
        found = compare_noise(before_hu, after_hu)
        if np.isfinite(found.before_hu):
            self.rows.append((found.before_hu, found.after_hu, found.shift_hu))

    def put_into(self, result: SeriesResult) -> None:
        if self.rows:
            before, after, shift = np.transpose(self.rows)
            result.noise_before_hu = float(np.median(before))
            result.noise_after_hu = float(np.median(after))
            result.shift_hu = float(np.mean(shift))


def choose_series(found: Scan, wanted: Sequence[str]) -> list[Series]:
    """The series to denoise: by default all axial CT series; ``["all"]`` adds the ones that are off by default.

    Args:
        found: of the input.
        wanted: SeriesInstanceUIDs, or "all", or nothing.

    Raises:
        SeriesError: when a UID is not there or can never be denoised, or when nothing is left to denoise.
    """
    if "all" in wanted:
        chosen = [series for series in found.series if series.selectable]
    elif wanted:
        by_uid = {series.uid: series for series in found.series}
        missing = [uid for uid in wanted if uid not in by_uid]
        if missing:
            raise SeriesError(
                f"series {missing[0]} is not in the input; 'ctclip denoise SRC DST --dry-run' lists what is"
            )
        chosen = [by_uid[uid] for uid in wanted]
        unusable = [series for series in chosen if not series.selectable]
        if unusable:
            raise SeriesError(f"series {unusable[0].uid} cannot be denoised: {unusable[0].skip_reason}")
    else:
        chosen = [series for series in found.series if series.skip_reason is None]
    if not chosen:
        reasons = [f"{count} x {reason}" for reason, count in found.skip_summary().items()]
        reasons += [f"series of {series.slice_count} slices: {series.skip_reason}" for series in found.series]
        raise SeriesError(f"no axial CT series in the input; found {'; '.join(reasons) or 'no DICOM files'}")
    return chosen


def check_folders(source: Path, target: Path) -> None:
    """Refuse to write into the input.

    Raises:
        ConfigError: when the target is the source, or lies inside it, or is a file.
    """
    origin, destination = source.resolve(), target.resolve()
    if destination == origin or (origin.is_dir() and destination.is_relative_to(origin)):
        raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
    if target.is_file():
        raise ConfigError("the output is a file, expected a folder for DICOM series")


def require_readable(chosen: Sequence[Series], slice_done: SliceDone | None = None) -> None:
    """Read every slice of the series, so that nothing is written when one of them is bad.

    Raises:
        SeriesError: for the first slice that cannot be read; the message says how.
    """
    for series in chosen:
        for item in series.slices:
            try:
                read_slice(item.path)
            except (CtclipError, OSError) as error:
                raise SeriesError(f"nothing was written: series {series.uid}: {_one_line(error)}") from error
            if slice_done:
                slice_done()


def denoise_series(
    series: Series,
    target: Path,
    denoiser: Denoiser,
    *,
    strength: float,
    taken_numbers: frozenset[int],
    overwrite: bool = False,
    resume: bool = False,
    keep_private: bool = False,
    slice_done: SliceDone | None = None,
) -> SeriesResult:
    """Denoise one series into ``target/<derived SeriesInstanceUID>/0001.dcm ...``; all of it, or nothing.

    Args:
        series: from a scan.
        target: folder for derived series; made when missing.
        denoiser: does the work.
        strength: 0 to 1.
        taken_numbers: SeriesNumbers in use.
        overwrite: replace an earlier result of the same series, model and settings.
        resume: keep such a result, which is complete because it has its final name; the status is "kept".
        keep_private: copy private elements.
        slice_done: called after every slice.

    Returns:
        the result; a failure that lies in the data or the disk is a result too, with status "failed".
    """
    result = SeriesResult(series.uid, series.slice_count, warnings=series.warnings)
    start = time.monotonic()
    derivation = Denoising(
        model_name=denoiser.model_name,
        model_sha256=denoiser.model_sha256,
        strength=strength,
        hu_window=denoiser.hu_window,
        parameters=denoiser.parameters,
        version=__version__,
        keep_private=keep_private,
    )
    result.derived = derived_series_uid(series.uid, derivation)
    if resume and (target / result.derived).is_dir():
        result.status = "kept"
        return result
    number = derived_series_number(series.series_number, taken_numbers)
    try:
        with atomic_folder(target / result.derived, overwrite=overwrite) as folder:
            noise = _Noise()
            denoised = _denoised_slices(series, denoiser, strength)
            for ct, written_hu in write_derived_slices(denoised, folder, derivation, series_number=number):
                noise.add(ct.hu, written_hu)
                if slice_done:
                    slice_done()
            noise.put_into(result)
    except (CtclipError, OSError) as error:
        result.status, result.message = "failed", _one_line(error)
    result.seconds = time.monotonic() - start
    return result


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
        ConfigError: when the target is the source, or exists and ``overwrite`` is not given.
        DataError: when the source cannot be read or is not in HU.
    """
    if source.resolve() == target.resolve():
        raise ConfigError("the output is the input, which is never modified; choose another file")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; give --overwrite to replace it")
    start = time.monotonic()
    volume = read_volume(source)
    denoised = denoiser.denoise(volume.hu, strength=strength, progress=progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(target, Volume(np.asarray(denoised), volume.affine, volume.dtype))
    result = SeriesResult("volume", len(volume.hu), seconds=time.monotonic() - start)
    noise = _Noise()
    for before, after in zip(volume.hu, denoised, strict=True):
        noise.add(before, after)
    noise.put_into(result)
    return result


def report(
    results: Sequence[SeriesResult], denoiser: Denoiser, *, strength: float, found: Scan | None
) -> dict[str, Any]:
    """Everything about a run as plain values for JSON; no patient data, and ``None`` where a number is not known."""
    import torch

    series = [
        {
            name: (None if isinstance(value, float) and np.isnan(value) else value)
            for name, value in vars(result).items()
        }
        for result in results
    ]
    return {
        "ctclip": __version__,
        "torch": torch.__version__,
        "model": denoiser.model_name,
        "model_sha256": denoiser.model_sha256,
        "hu_window": list(denoiser.hu_window),
        "device": str(denoiser.device),
        "settings": denoiser.parameters,
        "strength": strength,
        "series": series,
        "skipped_files": found.skip_summary() if found else {},
        "skipped_series": {s.uid: s.skip_reason for s in found.series if s.skip_reason} if found else {},
    }


def _denoised_slices(series: Series, denoiser: Denoiser, strength: float) -> Iterator[tuple[CTSlice, np.ndarray]]:
    """Each slice with its denoised HU, stack after stack, only a few of them in memory."""
    below_zero = False
    for stack in series.stacks:
        waiting: list[CTSlice] = []
        for denoised in denoiser.denoise_slices(_network_input(stack, waiting, denoiser), strength=strength):
            ct = waiting.pop(0)
            below_zero = below_zero or bool(ct.hu.min() < 0)
            yield ct, denoised
    if not below_zero:
        raise DataError(
            f"series {series.uid} holds no value below 0 HU, so it is not CT in HU (a mask, or stored values?)"
        )


def _network_input(stack: Sequence[SliceFile], waiting: list[CTSlice], denoiser: Denoiser) -> Iterator[np.ndarray]:
    """HU of each slice for the network, with the lowest HU of its window in place of padding."""
    for item in stack:
        ct = read_slice(item.path)
        if (sop_instance_uid(ct.header), *ct.stored.shape) != (item.sop_instance_uid, item.rows, item.columns):
            raise SeriesError(f"slice {item.sop_instance_uid} was replaced by another while the series was being read")
        waiting.append(ct)
        yield np.where(ct.padding, np.float32(denoiser.hu_window[0]), ct.hu)


def _one_line(error: Exception) -> str:
    """An error for people; OSErrors without the file name, which may hold patient data."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__} (while reading or writing)"
    return str(error)
