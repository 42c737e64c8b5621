"""One series: read, denoise and write slice by slice. Nothing half-written remains."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctclip import __version__
from ctclip.atomic import atomic_folder, put_back
from ctclip.dicom import (
    CTSlice,
    Denoising,
    Series,
    SliceFile,
    derived_series_number,
    derived_series_uid,
    read_slice,
    sop_instance_uid,
    write_derived_slices,
)
from ctclip.dicom.uids import printable_uid
from ctclip.dicom.write import SLICE_FILES
from ctclip.errors import CtclipError, DataError, SeriesError, one_line
from ctclip.pipeline.earlier import Earlier, EarlierResult, earlier_result
from ctclip.pipeline.job import READING_THREADS, SeriesJob, SeriesResult, SliceDone
from ctclip.pipeline.noise import SeriesNoise
from ctclip.threads import map_ahead

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.qc import QualityControl


LEAST_AHEAD = 4
"""Slices that are read before the network asks for them."""

logger = logging.getLogger(__name__)


def denoise_series(
    series: Series, job: SeriesJob, denoiser: Denoiser, slice_done: SliceDone | None = None
) -> SeriesResult:
    """Denoise one series into ``target/<derived SeriesInstanceUID>/0001.dcm ...``; all of it, or nothing.

    Args:
        series: from a scan.
        job: where to, and how.
        denoiser: does the work.
        slice_done: called after every slice.

    Returns:
        the result; a failure that lies in the data or the disk is a result too, with status "failed".
    """
    result = SeriesResult(series.uid, series.slice_count, warnings=series.warnings)
    start = time.monotonic()
    derivation = derivation_of(job, denoiser)
    result.derived = derived_series_uid(series.uid, derivation)
    if series.failure:
        result.status, result.message = "failed", _why(series)
        return result
    earlier = _earlier(series, job, derivation)
    if earlier.state is Earlier.COMPLETE:
        result.status = "kept"
        result.quality_report = _page(result) if job.qc_folder else ""
        if job.check:
            _check(result, series, job)
        return result
    if earlier.state is Earlier.LACKING:
        logger.warning("series %s: an earlier run had %s; to be made again", series.uid, earlier.has)
        job = replace(job, overwrite=True)
    try:
        _write(result, series, job, denoiser, derivation, slice_done)
        if earlier.state is Earlier.LACKING:
            result.warnings += (f"an earlier run had {earlier.has}; made again",)
        if job.check:
            _check(result, series, job)
    except (CtclipError, OSError, MemoryError) as error:
        result.status, result.message = "failed", one_line(error)
    result.seconds = time.monotonic() - start
    # Afterwards: when memory runs out the device changes on the way.
    result.device, result.settings = str(denoiser.device), denoiser.parameters
    return result


def _why(series: Series) -> str:
    """Why a series fails, from its slices without a place where there are some: their errors name them."""
    for item in series.slices:
        if not np.isfinite(item.position_mm):
            try:
                read_slice(item.path)
            except (SeriesError, OSError) as error:
                return one_line(error)
    return series.failure


def _earlier(series: Series, job: SeriesJob, derivation: Denoising) -> EarlierResult:
    """What can be resumed, after a run that was killed while it replaced a result has got that back."""
    if not job.resume:
        return EarlierResult(Earlier.NONE)  # whether there is something is found out when the folder is made
    put_back(job.target / derived_series_uid(series.uid, derivation))
    return earlier_result(series, job, derivation)


def _write(
    result: SeriesResult,
    series: Series,
    job: SeriesJob,
    denoiser: Denoiser,
    derivation: Denoising,
    slice_done: SliceDone | None,
) -> None:
    """Denoise and write the series, and put into the result what is measured on the way."""
    number = job.series_numbers.get(series.uid) or derived_series_number(series.series_number)
    guessed = 0
    with atomic_folder(job.target / result.derived, replaces=SLICE_FILES if job.overwrite else None) as folder:
        denoised = _denoised_slices(series, denoiser, job.strength)
        noise = SeriesNoise(series.slice_count)
        quality = _quality_control(series, job)
        for ct, stored in write_derived_slices(denoised, folder, derivation, series_number=number):
            noise.add(partial(ct.before_and_after_hu, stored))
            guessed += ct.untagged_padding
            if quality:
                quality.add(ct, stored)
            if slice_done:
                slice_done()
        noise.put_into(result)
        if guessed:
            result.warnings += (f"padding without PixelPaddingValue was guessed in {guessed} slices",)
        if quality and job.qc_folder:
            # Before the series gets its name: with --resume a finished series has its report.
            result.quality_warnings = quality.write(
                job.qc_folder, _facts(result, job, denoiser), name=result.derived
            ).warnings
            result.quality_report = _page(result)


def derived_folder(series: Series, job: SeriesJob, denoiser: Denoiser) -> Path:
    """The folder that :func:`denoise_series` writes."""
    return job.target / derived_series_uid(series.uid, derivation_of(job, denoiser))


def derivation_of(job: SeriesJob, denoiser: Denoiser) -> Denoising:
    """What derived slices say of how they were made; their UIDs follow from it."""
    return Denoising(
        model_name=denoiser.model_name,
        model_sha256=denoiser.model_sha256,
        strength=job.strength,
        hu_window=denoiser.hu_window,
        parameters=denoiser.parameters,
        version=__version__,
        keep_private=job.keep_private,
    )


def _quality_control(series: Series, job: SeriesJob) -> QualityControl | None:
    if job.qc_folder is None:
        return None
    from ctclip.qc import QualityControl  # draws charts: not needed otherwise

    return QualityControl(series.slice_count)


def _page(result: SeriesResult) -> str:
    return f"{result.derived}.html"


def _facts(result: SeriesResult, job: SeriesJob, denoiser: Denoiser) -> dict[str, Any]:
    """What a quality report says about the run; UIDs and settings, nothing about the patient."""
    return {
        "source series": result.source,
        "derived series": result.derived,
        "slices": result.slices,
        "model": denoiser.model_name,
        "model SHA-256": denoiser.model_sha256,
        "strength": job.strength,
        "settings": denoiser.parameters,
        "HU window": list(denoiser.hu_window),
        "ctclip": __version__,
    }


def _check(result: SeriesResult, series: Series, job: SeriesJob) -> None:
    """Turn the result into a failed one when the written series breaks a rule; it stays there to be looked at."""
    from ctclip.verification import check_against

    try:
        broken = [each for each in check_against(job.target / result.derived, [series]) if not each.passed]
    except (CtclipError, OSError) as error:
        result.status, result.message = "failed", f"written, but not checked: {one_line(error)}"
        return
    if broken:
        result.status = "failed"
        result.message = "written, but " + "; ".join(f"not: {each.rule} ({each.detail})" for each in broken)
    result.checked = not broken


def _denoised_slices(series: Series, denoiser: Denoiser, strength: float) -> Iterator[tuple[CTSlice, np.ndarray]]:
    """Each slice with its denoised HU, stack after stack, only a few of them in memory."""
    below_zero = False
    for stack in series.stacks:
        waiting: deque[CTSlice] = deque()
        for denoised in denoiser.denoise_slices(_network_input(stack, waiting, denoiser), strength=strength):
            ct = waiting.popleft()
            below_zero = below_zero or bool(ct.hu.min() < 0)
            yield ct, denoised
    if not below_zero:
        raise DataError(
            f"series {series.uid} holds no value below 0 HU, so it is not CT in HU (a mask, or stored values?)"
        )


def _network_input(stack: Sequence[SliceFile], waiting: deque[CTSlice], denoiser: Denoiser) -> Iterator[np.ndarray]:
    """HU of each slice for the network, with the lowest HU of its window in place of padding."""
    # A whole batch: the next one is read while the slices of this one are written.
    ahead = max(LEAST_AHEAD, denoiser.batch_of((stack[0].rows, stack[0].columns)))
    for ct in map_ahead(_read, stack, workers=READING_THREADS, ahead=ahead):
        waiting.append(ct)
        yield np.where(ct.padding, np.float32(denoiser.hu_window[0]), ct.hu)


def _read(item: SliceFile) -> CTSlice:
    ct = read_slice(item.path)
    if (sop_instance_uid(ct.header), *ct.stored.shape) != (item.sop_instance_uid, item.rows, item.columns):
        uid = printable_uid(item.sop_instance_uid)
        raise SeriesError(f"slice {uid} was replaced by another while the series was being read")
    return ct
