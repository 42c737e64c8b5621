"""What a folder holds, and whether denoising it makes sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from ctclip.dicom import Scan, Series, printable_kernel, read_slice
from ctclip.dicom.geometry import POSITION_TOLERANCE_MM
from ctclip.dicom.lenient import float_of, floats_of, quiet_pydicom, texts_of
from ctclip.errors import SeriesError
from ctclip.metrics.noise import noise_correlation, noise_sd_hu
from ctclip.sampling import evenly_spread

TRAINED_SD_HU = (8.0, 110.0)
"""Noise that the shipped model was trained with."""

HIGHEST_TRAINED_CORRELATION = 0.65
"""Of neighbouring pixels in the noise of its training."""

TRAINED_KV = (100.0, 120.0)
TRAINED_THICKNESS_MM = (1.25, 5.0)
"""Of the scans that it was trained on."""

MEASURED_SLICES = 5
"""Slices per series that are decoded to measure noise."""

_KEYWORDS = [
    "SliceThickness",
    "PixelSpacing",
    "ConvolutionKernel",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "CTDIvol",
]


@dataclass(frozen=True)
class SeriesFacts:
    """A series in a folder; no patient data. Numbers are ``None`` where the header does not state them.

    Args:
        SeriesInstanceUID: or its stand-in.
        SeriesNumber: the smallest that a slice states.
        slices: number of slices.
        matrix: rows and columns of the largest group of equal slices.
        PixelSpacing: row and column spacing, mm.
        SliceThickness: mm.
        step_mm: median distance of neighbouring positions.
        ConvolutionKernel: as stated; "unknown name" for a text that is none, since it may be a person's.
        KVP: kV.
        XRayTubeCurrent: mA.
        Exposure: mAs.
        CTDIvol: mGy.
        noise_sd_hu: median over some slices, in flat soft tissue; ``None`` without any.
        noise_correlation: of neighbouring pixels, likewise.
        action: "denoise", "skip", or "fail" for a series that denoise would take and refuse.
        reason: why it is skipped or fails, as far as the slices that are read here tell.
        remark: what to expect of denoising.
        warnings: what is unusual.
    """

    SeriesInstanceUID: str
    SeriesNumber: int | None
    slices: int
    matrix: tuple[int, int]
    PixelSpacing: tuple[float, ...] | None
    SliceThickness: float | None
    step_mm: float | None
    ConvolutionKernel: str
    KVP: float | None
    XRayTubeCurrent: float | None
    Exposure: float | None
    CTDIvol: float | None
    noise_sd_hu: float | None
    noise_correlation: float | None
    action: str
    reason: str
    remark: str
    warnings: tuple[str, ...]


def inspect_series(series: Series) -> SeriesFacts:
    """Read the header of the middle slice, and the pixels of some slices."""
    stack = series.stacks[0]
    middle = stack[len(stack) // 2]
    header = _header(middle.path)
    failure, warnings = series.failure, tuple(each for each in series.warnings if each != series.skip_reason)
    noise: tuple[float | None, float | None] = (None, None)
    remark = ""
    try:
        measured = [read_slice(stack[index].path) for index in evenly_spread(len(stack), MEASURED_SLICES)]
        noise, remark = _noise([ct.without_padding(ct.hu) for ct in measured])
        warnings += _mixtures([ct.header for ct in measured])
        lowest_hu = min(ct.hu.min() for ct in measured)
        if series.skip_reason is None and lowest_hu >= 0 and not _reaches_below_zero(series):
            failure = failure or "no value below 0 HU: not HU, or a mask"
    except SeriesError as error:
        failure = failure or str(error)
    steps = np.diff([item.position_mm for item in stack])
    steps = steps[~(np.abs(steps) < POSITION_TOLERANCE_MM)]  # without those of slices at one position
    return SeriesFacts(
        SeriesInstanceUID=series.uid,
        SeriesNumber=series.series_number,
        slices=series.slice_count,
        matrix=(middle.rows, middle.columns),
        PixelSpacing=floats_of(header, "PixelSpacing", 2),
        SliceThickness=float_of(header, "SliceThickness"),
        step_mm=round(float(np.median(steps)), 3) if len(steps) and np.isfinite(steps).all() else None,
        ConvolutionKernel=printable_kernel(texts_of(header, "ConvolutionKernel")),
        KVP=float_of(header, "KVP"),
        XRayTubeCurrent=float_of(header, "XRayTubeCurrent"),
        Exposure=float_of(header, "Exposure"),
        CTDIvol=float_of(header, "CTDIvol"),
        noise_sd_hu=noise[0],
        noise_correlation=noise[1],
        action="skip" if series.skip_reason else "fail" if failure else "denoise",
        reason=series.skip_reason or failure,
        remark="; ".join(part for part in (remark, *_unfamiliar(header)) if part),
        warnings=warnings,
    )


def _reaches_below_zero(series: Series) -> bool:
    return any(read_slice(item.path).hu.min() < 0 for item in series.slices)


def inspection_report(facts: list[SeriesFacts], found: Scan) -> dict[str, Any]:
    """Everything as plain values for JSON."""
    return {"series": [vars(each) for each in facts], "skipped_files": found.skip_summary()}


def _header(path: Path) -> pydicom.Dataset:
    with quiet_pydicom():
        return pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_KEYWORDS)


def _noise(slices_hu: list[np.ndarray]) -> tuple[tuple[float | None, float | None], str]:
    """SD and correlation, and what they mean for denoising."""
    found = [(noise_sd_hu(each), noise_correlation(each)) for each in slices_hu]
    known = [each for each in found if np.isfinite(each).all()]
    if not known:
        measured = any(np.isfinite(sd_hu) for sd_hu, _ in found)
        return (None, None), "no noise at all" if measured else "no soft tissue to measure noise in"
    sd_hu, correlation = (float(value) for value in np.median(known, axis=0))
    return (round(sd_hu, 1), round(correlation, 2)), _remark(sd_hu, correlation)


def _mixtures(headers: Sequence[pydicom.Dataset]) -> tuple[str, ...]:
    """What should be one in a series and is not, in the slices that were read; the table shows that of the middle."""
    found = []
    for keyword in ("ConvolutionKernel", "KVP", "SliceThickness"):
        number = keyword != "ConvolutionKernel"  # 5 and 5.0 are one
        values = {float_of(header, keyword) if number else texts_of(header, keyword) for header in headers}
        if len(values) > 1:
            found.append(f"{len(values)} values of {keyword} in one series")
    return tuple(found)


def _unfamiliar(header: pydicom.Dataset) -> list[str]:
    """What the scan has that no scan of the training had."""
    found = []
    for keyword, unit, (low, high) in (("KVP", "kV", TRAINED_KV), ("SliceThickness", "mm thick", TRAINED_THICKNESS_MM)):
        value = float_of(header, keyword)
        if value is not None and not low <= value <= high:
            found.append(f"{value:g} {unit}: the model was trained with {low:g} to {high:g}")
    return found


def _remark(sd_hu: float, correlation: float) -> str:
    if sd_hu < TRAINED_SD_HU[0]:
        return "already smooth: little to gain"
    if sd_hu > TRAINED_SD_HU[1]:
        return "more noise than the model was trained with"
    if correlation > HIGHEST_TRAINED_CORRELATION:
        return "smoother noise than the model was trained with"
    return "within what the model was trained with"
