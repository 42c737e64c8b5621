"""Find the CT series in a folder: recognised by content, mostly from the headers, nothing written.

A hospital export mixes series, localizers, dose screenshots, reports and index files under names that mean nothing. The
scan sorts them into series that can be denoised and files that cannot, with a reason for each, and never merges two
series.
"""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctclip.dicom.classify import NO_INSTANCE_UID
from ctclip.dicom.contents import (
    DUPLICATE,
    EMPTY,
    MADE_BY_CTCLIP,
    SHARED_UID,
    UNREADABLE,
    Scan,
    Series,
    SkippedFile,
    SliceFile,
    UsedNumber,
)
from ctclip.dicom.derivation import DENOISED_BY
from ctclip.dicom.geometry import is_axial, same_stack, stack_warnings
from ctclip.dicom.headers import Header, find_files, read_header
from ctclip.dicom.lenient import quiet_pydicom
from ctclip.dicom.slices import read_slice
from ctclip.errors import SeriesError

__all__ = ["scan"]


def scan(source: Path) -> Scan:
    """Find the CT series in a folder or a single file.

    Folders are searched recursively, whatever the files are called; links are followed, each folder once. Of most
    files only the header is read; those with equal headers have their pixels compared. The result does not depend on
    the order in which the file system lists the files.

    A file becomes part of a series when it is a single-frame monochrome CT Image Storage object of Modality CT that
    is no localizer. A series whose slices are not axial, are projections, maps or differences by their ImageType, or
    have been denoised by ctclip gets a ``skip_reason``. Of copies of a slice the first by path that can be read is
    used. Different slices under one SOPInstanceUID, or several studies under one SeriesInstanceUID, make their series
    unusable: nobody can tell what belongs together. Whether the pixels of the others can be decoded is found out by
    ``read_slice``.

    Args:
        source: folder or file.

    Raises:
        SeriesError: if the source does not exist or holds no files.
    """
    paths, skipped = find_files(Path(source))
    headers: list[Header] = []
    with quiet_pydicom():  # once, not for every file
        for path in paths:
            found = read_header(path)
            if isinstance(found, SkippedFile):
                skipped.append(found)
            else:
                headers.append(found)

    skipped = _lost_among(headers, skipped)
    usable, unsuitable, shared = _split_usable(headers)
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in usable:
        by_uid[header.series_uid].append(header)
    left_out: dict[str, list[str]] = defaultdict(list)
    for header in headers:
        if header.unsuitable and header.may_be_slice:
            left_out[header.series_uid].append(header.unsuitable)
    series = (_build_series(group, shared, left_out[uid]) for uid, group in by_uid.items())
    return Scan(
        series=tuple(sorted(series, key=_series_order)),
        skipped=tuple(sorted([*skipped, *unsuitable], key=lambda item: item.path.as_posix())),
        series_numbers=frozenset(
            UsedNumber(h.study_uid, h.series_number, h.made_by) for h in headers if h.series_number is not None
        ),
    )


def _lost_among(headers: list[Header], skipped: list[SkippedFile]) -> list[SkippedFile]:
    """An empty file may be a lost slice where it is called like the DICOM files beside it; else it marks something."""
    names = {(header.path.parent, header.path.suffix.lower()) for header in headers}
    return [
        replace(each, damaged=False)
        if each.reason == EMPTY and (each.path.parent, each.path.suffix.lower()) not in names
        else each
        for each in skipped
    ]


def _split_usable(headers: Iterable[Header]) -> tuple[list[Header], list[SkippedFile], frozenset[str]]:
    """Part the slices from the files that are none, or copies; and the SOPInstanceUIDs that different slices share."""
    usable: dict[str, dict[object, Header]] = defaultdict(dict)
    skipped: list[SkippedFile] = []
    for header in headers:
        if header.unsuitable is not None:
            skipped.append(_skipped(header, header.unsuitable))
            continue
        same_uid = usable[header.sop_instance_uid]
        identity: tuple[object, ...] = (header.series_uid, header.geometry, header.instance_number)
        first = same_uid.setdefault(identity, header)
        if first is header:
            continue
        copy = _copy_among(first, header)
        if copy is None:
            same_uid[(*identity, header.path)] = header
            continue
        if copy is first:
            same_uid[identity] = header
        skipped.append(_skipped(copy, DUPLICATE))
    shared = frozenset(uid for uid, slices in usable.items() if len(slices) > 1)
    return [header for slices in usable.values() for header in slices.values()], skipped, shared


def _skipped(header: Header, reason: str) -> SkippedFile:
    damaged = reason in (UNREADABLE, NO_INSTANCE_UID)
    return SkippedFile(header.path, reason, damaged, header.series_uid, header.sop_instance_uid)


def _copy_among(first: Header, second: Header) -> Header | None:
    """Which of two files with equal headers the other one makes superfluous; None when they hold different pixels,
    which a tool may have changed without changing the UID.

    One that cannot be read is a copy all the same: what it would have shown is in the other.
    """
    if _same_bytes(first.path, second.path):
        return second
    one, two = _hu(first.path), _hu(second.path)
    if one is None and two is not None:
        return first
    return second if one is None or two is None or np.array_equal(one, two) else None


def _same_bytes(path: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _hu(path: Path) -> np.ndarray | None:
    """None when the slice cannot be read."""
    try:
        return read_slice(path).hu
    except (OSError, SeriesError):
        return None


def _build_series(headers: list[Header], shared: frozenset[str], left_out: list[str]) -> Series:
    stacks = _build_stacks(headers)
    skip_reason, selectable = _suitability(stacks)
    confusion = _confusion(headers, shared)
    if confusion:
        skip_reason, selectable = confusion, False
    numbers = [header.series_number for header in headers if header.series_number is not None]
    return Series(
        uid=headers[0].series_uid,
        series_number=min(numbers, default=None),
        stacks=tuple(tuple(_slice_file(header) for header in stack) for stack in stacks),
        study_uid=min(header.study_uid for header in headers),
        warnings=(
            *_series_warnings(headers[0], stacks),
            *_patients(headers),
            *_processed(headers),
            *_repetition(headers),
        ),
        skip_reason=skip_reason,
        selectable=selectable,
        left_out=tuple(left_out),
        made_by=max(header.made_by for header in headers),
        failure=_without_place(headers),
    )


def _confusion(headers: list[Header], shared: frozenset[str]) -> str:
    """Why nobody can tell which slices belong together; "" when the UIDs are as they must be."""
    ambiguous = sum(header.sop_instance_uid in shared for header in headers)
    if ambiguous:
        return f"{ambiguous} slices {SHARED_UID}: export again"
    studies = len({header.study_uid for header in headers})
    return f"{studies} studies under one SeriesInstanceUID: export again" if studies > 1 else ""


def _without_place(headers: list[Header]) -> str:
    """Say that slices cannot be read for what is in their headers; leaving them out would make a hole."""
    damaged = sum(not header.geometry.is_complete for header in headers)
    if not damaged:
        return ""
    lack = "no usable image size, position or orientation; export again"
    return f"damaged headers: {damaged} of {len(headers)} slices have {lack}"


def _build_stacks(headers: list[Header]) -> list[list[Header]]:
    """Group slices that may be stacked and sort each group along its normal."""
    stacks: list[list[Header]] = []
    # slices join the first stack that fits its first slice: a fixed order makes the groups reproducible
    for header in sorted(headers, key=lambda item: (item.sop_instance_uid, item.path.as_posix())):
        for stack in stacks:
            if same_stack(stack[0].geometry, header.geometry):
                stack.append(header)
                break
        else:
            stacks.append([header])
    for stack in stacks:
        stack.sort(key=_slice_order)
    return sorted(stacks, key=lambda stack: (not stack[0].geometry.is_complete, -len(stack), _slice_order(stack[0])))


def _slice_order(header: Header) -> tuple[float, int, str]:
    # NaN has no place in an order; slices without position are sorted by number and UID alone
    position = header.geometry.position_mm if header.geometry.is_complete else 0.0
    return position, header.instance_number or 0, header.sop_instance_uid


def _suitability(stacks: list[list[Header]]) -> tuple[str | None, bool]:
    """Return why the series is not denoised by default (None if it is), and whether it may be asked for anyway."""
    placed = [stack for stack in stacks if stack[0].geometry.is_complete]
    if not placed:
        return "no usable image size, position or orientation", False
    other = sum(len(stack) for stack in placed if not is_axial(stack[0].geometry))
    if other:
        total = sum(len(stack) for stack in placed)
        return f"not axial (reformat): {other} of {total} slices", True
    processed = _processed([header for stack in stacks for header in stack])
    if processed:
        return processed[0], True
    if any(header.made_by == DENOISED_BY for stack in stacks for header in stack):
        return MADE_BY_CTCLIP, True
    return None, True


def _series_warnings(first: Header, stacks: list[list[Header]]) -> list[str]:
    placed = [stack for stack in stacks if stack[0].geometry.is_complete]
    warnings = []
    if not first.states_series_uid:
        warnings.append("no SeriesInstanceUID: grouped by study, frame of reference, number, description and kernel")
    if not first.study_uid:
        warnings.append("no StudyInstanceUID: the derived series gets one of its own")
    if len(placed) > 1:
        warnings.append(f"{len(placed)} geometry groups: matrix, orientation, spacing or frame of reference differ")
    if len(placed) < len(stacks):
        return warnings  # a gap may be the place of a slice that states none, which fails the series
    for number, stack in enumerate(placed, start=1):
        where = f"group {number}: " if len(placed) > 1 else ""
        warnings.extend(where + text for text in stack_warnings([header.geometry for header in stack]))
    return warnings


def _patients(headers: list[Header]) -> list[str]:
    """Say that slices state several patients; never which."""
    count = len({header.patient_id for header in headers} - {""})
    return [f"{count} PatientIDs under one SeriesInstanceUID: check whose slices they are"] if count > 1 else []


def _processed(headers: list[Header]) -> list[str]:
    kinds = sorted({header.processed for header in headers if header.processed})
    count = sum(bool(header.processed) for header in headers)
    return [f"no plain slices (ImageType {', '.join(kinds)}): {count} of {len(headers)} slices"] if kinds else []


def _repetition(headers: list[Header]) -> list[str]:
    denoised = any(header.was_denoised for header in headers)
    return ["denoised by ctclip already: denoising it again takes more than its strength says"] if denoised else []


def _slice_file(header: Header) -> SliceFile:
    return SliceFile(
        path=header.path,
        sop_instance_uid=header.sop_instance_uid,
        position_mm=header.geometry.position_mm,
        instance_number=header.instance_number,
        rows=header.geometry.rows,
        columns=header.geometry.columns,
    )


def _series_order(series: Series) -> tuple[bool, int, str]:
    return series.series_number is None, series.series_number or 0, series.uid
