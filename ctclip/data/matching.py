"""Whether slices of two series show the same place of the same patient in the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from ctclip.dicom import SliceFile, acquisition_of
from ctclip.dicom.lenient import floats_of, quiet_pydicom, text_of
from ctclip.errors import DataError

SAME_PLACE_MM = 0.05
"""Slices of two reconstructions of one scan that lie closer than this show the same place."""


@dataclass(frozen=True)
class Place:
    """Whose slice it is and where it lies; empty or NaN where the header does not say. Never to be shown.

    Args:
        patient_id: PatientID.
        study_uid: StudyInstanceUID.
        frame_uid: FrameOfReferenceUID.
        position_mm: ImagePositionPatient.
    """

    patient_id: str
    study_uid: str
    frame_uid: str
    position_mm: tuple[float, ...]


def place_of(path: Path) -> Place:
    """Read whose slice is in a file and where it lies."""
    keywords = ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"]
    with quiet_pydicom():
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=keywords)
        patient_id, study_uid, frame_uid = (text_of(header, keyword) for keyword in keywords[:3])
        return Place(patient_id, study_uid, frame_uid, floats_of(header, keywords[3], 3) or (math.nan,) * 3)


def contradict(one: str, other: str) -> bool:
    """Whether both are stated and differ."""
    return bool(one and other and one != other)


def mismatch(one: Path, other: Path) -> str:
    """Why two slices that lie at one position along their normal cannot be compared; empty when they can."""
    here, there = place_of(one), place_of(other)
    if contradict(here.patient_id, there.patient_id):
        return "two patients"
    different = acquisition_of(one).difference(acquisition_of(other))
    if different:
        return different
    shift_mm = np.abs(np.subtract(here.position_mm, there.position_mm))
    return "ImagePositionPatient, shifted in the plane" if np.any(shift_mm > SAME_PLACE_MM) else ""


def pair_by_position(low: Sequence[SliceFile], full: Sequence[SliceFile]) -> list[tuple[SliceFile, SliceFile]]:
    """The slices that lie at the same positions in two series, in the order of their positions, one to one.

    Raises:
        DataError: when there is no such slice.
    """
    places = common_positions([item.position_mm for item in low], [item.position_mm for item in full])
    if not places:
        near = _near([item.position_mm for item in low], [item.position_mm for item in full])
        if near.any():
            raise DataError("every slice position that two series have in common occurs more than once")
        raise DataError("a low-dose and a full-dose series have no slice position in common; are they one scan?")
    return [(low[one], full[other]) for one, other in places]


def common_positions(one_mm: Sequence[float], other_mm: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of equal positions, in the order of the first; positions that occur twice are no partner of any."""
    near = _near(one_mm, other_mm)
    only = near & (near.sum(axis=0) == 1) & (near.sum(axis=1, keepdims=True) == 1)
    return [(int(one), int(other)) for one, other in np.argwhere(only)]


def _near(one_mm: Sequence[float], other_mm: Sequence[float]) -> np.ndarray:
    """Which positions are equal, (of one, of the other)."""
    return np.abs(np.subtract.outer(one_mm, other_mm)) <= SAME_PLACE_MM
