"""Low-dose and full-dose scans of the same place: matched by position, checked, read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ctclip.data.layouts import EXPECTED, FoundPair, find_layout, hashed
from ctclip.data.matching import (
    SAME_PLACE_MM,
    common_positions,
    contradict,
    mismatch,
    pair_by_position,
    place_of,
)
from ctclip.data.series import read_series
from ctclip.data.volumes import Volume, is_volume_file, read_volume
from ctclip.dicom import Series, SliceFile, scan
from ctclip.dicom.contents import DUPLICATE, SHARED_UID
from ctclip.errors import DataError, SeriesError
from ctclip.files import files_below
from ctclip.hu_window import require_hu
from ctclip.units import AIR_HU, PADDING_HU

REMEDY = "compare scans on one grid, or resample one of them"

HOLDS_AIR_HU = AIR_HU / 2
"""A scan that reaches lower holds air or lung, which no denoiser lifts to 0."""


@dataclass(frozen=True)
class ScanPair:
    """A scan at two doses.

    Args:
        patient: hashed.
        name: label without patient data, unique in its data set.
        low: slices in the order of their positions, or one volume.
        full: the same for the full dose, slice by slice.
        positions_mm: of the slices along their normal; empty for volumes.
    """

    patient: str
    name: str
    low: tuple[Path, ...]
    full: tuple[Path, ...]
    positions_mm: tuple[float, ...] = ()

    @property
    def is_dicom(self) -> bool:
        """Whether the scans are DICOM slices."""
        return bool(self.positions_mm)


@dataclass(frozen=True)
class PairHU:
    """A pair in memory; pixels outside the reconstruction of either are -2000 HU in both.

    Args:
        low_hu: (slices, rows, columns) float32.
        full_hu: the same.
    """

    low_hu: np.ndarray
    full_hu: np.ndarray


def find_pairs(data: Path, layout: str = "auto") -> tuple[list[ScanPair], list[str]]:
    """The usable pairs of a data set, and everything that is wrong with the others.

    Slices are paired by their position, never by file name. Slices without a partner, or with more than one, are left
    out and reported; pairs that differ in patient, kernel, thickness, matrix, pixel spacing, orientation or place in
    the plane are excluded and reported, and so is a pair that a list names again, under whichever patient. A different
    frame of reference is only reported: reconstructions made away from the scanner may get one of their own.

    Args:
        data: folder or list file, see :func:`~ctclip.data.layouts.find_layout`.
        layout: "auto", "mayo2016", "tcia" or "pairs".

    Returns:
        pairs, and one line per problem; neither holds patient data.

    Raises:
        ConfigError: for an unknown layout.
        DataError: when no pair is left, with the first problem.
    """
    found, problems = find_layout(data, layout)
    if not found and not problems:
        raise DataError(f"no pairs of low and full dose in {data.name}; {EXPECTED}")
    pairs: dict[tuple[str, str], ScanPair] = {}
    for number, each in enumerate(found, start=1):
        name = f"{each.patient[:6]}/{number}"
        try:
            pair = _volumes(each, name) if is_volume_file(each.low) else _series(each, name, problems)
            earlier = pairs.setdefault(_first_files(pair), pair)
            if earlier is not pair:
                raise DataError(
                    f"its two scans are those of pair {earlier.name}, expected each pair once; remove one entry"
                )
        except (DataError, SeriesError) as error:
            problems.append(f"pair {name} left out: {error}")
    if not pairs:
        raise DataError(f"no usable pair of low and full dose in {data.name}: {problems[0]}")
    return list(pairs.values()), problems


def _first_files(pair: ScanPair) -> tuple[str, str]:
    """Of both scans, without links. A file is part of one series only."""
    return os.path.realpath(pair.low[0]), os.path.realpath(pair.full[0])


def of_patients(pairs: Sequence[ScanPair], names: Sequence[str]) -> list[ScanPair]:
    """The pairs of some patients; all when no name is given.

    Args:
        pairs: from :func:`find_pairs`.
        names: of their folders, or the hashes.

    Raises:
        DataError: with the number of names that are unknown.
    """
    if not names:
        return list(pairs)
    known = {pair.patient for pair in pairs}
    unknown = [name for name in names if hashed(name) not in known and name not in known]
    if unknown:
        raise DataError(
            f"--patients: {len(unknown)} of {len(names)} names are not among the {len(known)} patients of the data: "
            "give the names of their folders"
        )
    wanted = {hashed(name) for name in names} | set(names)
    return [pair for pair in pairs if pair.patient in wanted]


def read_pair(pair: ScanPair) -> PairHU:
    """Read both scans of a pair.

    Raises:
        DataError: when two volumes differ in grid, a file cannot be read, or its values cannot be HU.
        SeriesError: when a slice cannot be read.
    """
    read = read_series if pair.is_dicom else _read_first
    with _blamed_on("low dose"):
        one = read(pair.low)
    with _blamed_on("full dose"):
        other = read(pair.full)
    low, full = one.hu, other.hu
    if not pair.is_dicom:
        require_same_grid(one, other)
        with _blamed_on("low dose"):
            require_hu(low)  # DICOM states its rescaling, a volume does not
        with _blamed_on("full dose"):
            require_hu(full)
    outside = (low <= PADDING_HU) | (full <= PADDING_HU)
    return PairHU(np.where(outside, np.float32(PADDING_HU), low), np.where(outside, np.float32(PADDING_HU), full))


def _read_first(paths: Sequence[Path]) -> Volume:
    return read_volume(paths[0])


@contextmanager
def _blamed_on(scan: str) -> Iterator[None]:
    """Errors say which scan of a pair they are about."""
    try:
        yield
    except (DataError, SeriesError) as error:
        raise type(error)(f"{scan}: {error}") from error


def require_same_grid(one: Volume, other: Volume) -> None:
    """Refuse to compare volumes whose voxels lie at different places.

    Raises:
        DataError: when they differ in size, spacing or place, with both sizes or spacings, or how far they are apart.
    """
    if one.hu.shape != other.hu.shape:
        raise DataError(
            f"volumes of one pair differ in size: {one.hu.shape} and {other.hu.shape} (slices, rows, columns); {REMEDY}"
        )
    # No voxel lies farther from its partner than this.
    shift_mm = np.abs(one.affine - other.affine) @ [*one.hu.shape[::-1], 1]
    if np.any(shift_mm > SAME_PLACE_MM):
        raise DataError(f"volumes of one pair differ in spacing or place: {_grid_difference(one, other)}; {REMEDY}")


def _grid_difference(one: Volume, other: Volume) -> str:
    """In words: the spacing where that differs, else how far voxels lie from their partners."""
    spacings = [" x ".join(f"{step:.4g}" for step in np.linalg.norm(x.affine[:3, :3], axis=0)) for x in (one, other)]
    if spacings[0] != spacings[1]:
        return f"spacing {spacings[0]} and {spacings[1]} mm"
    corners = np.array(list(product(*((0, length - 1) for length in one.hu.shape[::-1]), [1])))
    apart_mm = np.linalg.norm(corners @ (one.affine - other.affine).T, axis=1).max()
    return f"their places differ by up to {apart_mm:.3g} mm"


class Predictions:
    """Denoised results of another tool, to be judged by the same measures.

    A DICOM series belongs to a pair when it has slices at all of its positions and agrees with the low-dose scan in
    patient, study, frame of reference and way of reconstruction. A volume does when it is called like the low-dose file
    and lies directly in the folder, or below it in one that is called like the low-dose file's own folder.

    Args:
        folder: searched recursively.

    Raises:
        SeriesError: when the folder is empty.
        DataError: when it holds the same slices twice.
    """

    def __init__(self, folder: Path) -> None:
        found = scan(folder)
        reasons = [*found.skip_summary(), *(series.skip_reason or "" for series in found.series)]
        if any(DUPLICATE in reason or SHARED_UID in reason for reason in reasons):
            raise DataError("predicted slices repeat a SOPInstanceUID; give the results of one tool only")
        self.folder = folder
        self.volumes = [path for path in files_below(folder) if is_volume_file(path)]
        self.stacks = [stack for series in found.series if series.selectable for stack in series.stacks]

    def read(self, pair: ScanPair) -> np.ndarray:
        """The result for a pair, slice by slice.

        Returns:
            (slices, rows, columns) in HU; -2000 where the pair is.

        Raises:
            DataError: when there is none, or more than one, a volume lies on another grid, or values are not finite or
            not in HU.
            SeriesError: when a slice cannot be read.
        """
        predicted = read_series(self._slices(pair)) if pair.is_dicom else self._volume(pair.low[0])
        if not np.isfinite(predicted.hu).all():
            raise DataError("the prediction holds values that are not finite numbers (NaN or infinite)")
        low_hu = read_pair(pair).low_hu
        outside = low_hu == PADDING_HU
        _require_hu_of_prediction(predicted.hu[~outside], low_hu[~outside])
        return np.where(outside, np.float32(PADDING_HU), predicted.hu)

    def _slices(self, pair: ScanPair) -> tuple[Path, ...]:
        fitting = [_slices_at(stack, pair) for stack in self.stacks]
        complete = [paths for paths in fitting if len(paths) == len(pair.low)]
        if len(complete) != 1:
            most = max(map(len, fitting), default=0)
            raise DataError(
                "expected one predicted series with the positions, kernel, patient and study of the low-dose scan, "
                f"found {len(complete)}; keep one result per scan in the folder (at most {most} of {len(pair.low)} "
                "slices fit)"
            )
        return complete[0]

    def _volume(self, low: Path) -> Volume:
        named = [path for path in self.volumes if path.name == low.name]
        near = [path for path in named if path.parent == self.folder or path.parent.name == low.parent.name]
        if len(near) != 1:
            raise DataError(
                f"expected one prediction called {low.name}, found {len(near)}; put it directly into the folder, or "
                "into one below it that is called like the folder of the low-dose file"
            )
        predicted = read_volume(near[0])
        require_same_grid(predicted, read_volume(low))
        return predicted


def _require_hu_of_prediction(predicted_hu: np.ndarray, low_hu: np.ndarray) -> None:
    """Other tools leave results in [0, 1]. A crop without air may well have no value below 0 when it is denoised."""
    if predicted_hu.size and predicted_hu.min() >= 0 and low_hu.min() < HOLDS_AIR_HU:
        raise DataError(
            f"the prediction is not in HU: found {predicted_hu.min():g} to {predicted_hu.max():g} where the low dose "
            f"has {low_hu.min():g} to {low_hu.max():g}; save it in HU"
        )


def _slices_at(stack: Sequence[SliceFile], pair: ScanPair) -> tuple[Path, ...]:
    """The slices at the pair's positions; none when they do not belong to the pair."""
    places = common_positions(pair.positions_mm, [item.position_mm for item in stack])
    if not places:
        return ()
    low, predicted = pair.low[places[0][0]], stack[places[0][1]].path
    one, other = place_of(low), place_of(predicted)
    if contradict(one.study_uid, other.study_uid) or contradict(one.frame_uid, other.frame_uid):
        return ()
    return () if mismatch(low, predicted) else tuple(stack[index].path for _, index in places)


def _series(found: FoundPair, name: str, problems: list[str]) -> ScanPair:
    with _blamed_on("low dose"):
        low = _only_series(found.low, found.low_series)
    with _blamed_on("full dose"):
        full = _only_series(found.full, found.full_series)
    matched = pair_by_position(low.stacks[0], full.stacks[0])
    first, partner = matched[0][0].path, matched[0][1].path
    reason = mismatch(first, partner)
    if reason:
        raise DataError(f"low and full dose differ: {reason}")
    missing = (len(low.stacks[0]) - len(matched), len(full.stacks[0]) - len(matched))
    others = (low.slice_count - len(low.stacks[0]), full.slice_count - len(full.stacks[0]))
    if any(others):
        problems.append(
            f"pair {name}: {others[0]} low-dose and {others[1]} full-dose slices differ from most in size or "
            "orientation; left out"
        )
    if any(missing):
        problems.append(
            f"pair {name}: {missing[0]} low-dose and {missing[1]} full-dose slices have no partner; left out"
        )
    if contradict(place_of(first).frame_uid, place_of(partner).frame_uid):
        problems.append(f"pair {name}: FrameOfReferenceUID differs; paired by position all the same")
    return ScanPair(
        found.patient,
        name,
        tuple(one.path for one, _ in matched),
        tuple(other.path for _, other in matched),
        tuple(one.position_mm for one, _ in matched),
    )


def _only_series(folder: Path, uid: str) -> Series:
    found = scan(folder)
    # One that is named may also be one that is off by default.
    usable = [each for each in found.series if each.uid == uid and each.selectable] if uid else found.usual
    if len(usable) != 1:
        which = "with the listed SeriesInstanceUID in its folder" if uid else "in each folder of a pair"
        raise DataError(
            f"expected one axial CT series {which}, found {len(usable)}; low_series and full_series in a list choose "
            "one, and pairs of volumes need a list"
        )
    return usable[0]


def _volumes(found: FoundPair, name: str) -> ScanPair:
    if not is_volume_file(found.full):
        raise DataError("low dose is a volume, full dose is none")
    return ScanPair(found.patient, name, (found.low,), (found.full,))
