"""The slices of one DICOM series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom

from ctclip.data.volumes import Volume
from ctclip.dicom import read_slice, source_series_uid, stack_affine
from ctclip.dicom.geometry import POSITION_TOLERANCE_MM, geometry_of, same_stack
from ctclip.errors import SeriesError


def read_series(paths: Sequence[Path]) -> Volume:
    """Slices behind each other as listed, each with its own slope and intercept; nothing is resampled.

    Args:
        paths: of the slices, in the order of their positions.

    Returns:
        a volume in HU whose padding is -2000 HU, whatever the files store there.

    Raises:
        SeriesError: when there is no slice, one cannot be read, or they are no volume: they belong to several series,
            differ in size, orientation, pixel spacing or frame of reference, lie at one place or in another order.
    """
    if not paths:
        raise SeriesError("found no files, expected a volume's file or the files of one DICOM series; give its files")
    slices = [read_slice(path) for path in paths]
    headers = [ct.header for ct in slices]
    _require_one_stack(headers)
    hu = np.stack([ct.without_padding(ct.hu) for ct in slices])
    return Volume(hu, stack_affine(headers), np.dtype(np.int16))


def _require_one_stack(headers: Sequence[pydicom.Dataset]) -> None:
    series = {source_series_uid(header) for header in headers}
    if len(series) != 1:
        raise SeriesError(f"slices of {len(series)} series cannot be one volume; give the files of one series")
    places = [geometry_of(header) for header in headers]
    different = sum(not same_stack(places[0], place) for place in places)
    if different:
        sizes = sorted({(place.rows, place.columns) for place in places})
        raise SeriesError(
            f"{different} of {len(places)} slices differ from the first in size, orientation, PixelSpacing or "
            f"FrameOfReferenceUID and cannot be one volume with it: found sizes {sizes}; leave them out"
        )
    steps_mm = np.diff([place.position_mm for place in places])
    if not ((steps_mm > POSITION_TOLERANCE_MM).all() or (steps_mm < -POSITION_TOLERANCE_MM).all()):
        raise SeriesError(
            f"slices cannot be one volume: found steps of {steps_mm.min():.2f} to {steps_mm.max():.2f} mm, expected "
            "each file once, in the order of their positions; ctclip.data.sources.find_items lists them so"
        )
