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
    contradict,
    mismatch,
    pair_by_position,
    place_of,
)
from ctclip.data.series import read_series
from ctclip.data.volumes import Volume, is_volume_file, read_volume
from ctclip.dicom import Series, scan
from ctclip.errors import DataError, SeriesError
from ctclip.hu_window import require_hu
from ctclip.units import PADDING_HU

REMEDY = "compare scans on one grid, or resample one of them"


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
