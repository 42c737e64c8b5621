"""Find the CT series in a folder: headers only, recognised by content, nothing written.

A hospital export mixes series, localizers, dose screenshots, reports and index files under names that mean nothing. The
scan sorts them into series that can be denoised and files that cannot, with a reason for each, and never merges two
series.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement

from ctclip.dicom.classify import (
    NO_INSTANCE_UID,
    START_BYTES,
    has_mark,
    looks_like_dicom,
    may_be_slice,
    processed_kind,
    starts_empty,
    why_unsuitable,
)
from ctclip.dicom.derivation import DENOISED_BY, made_by
from ctclip.dicom.geometry import Geometry, geometry_of, is_axial, same_stack, stack_warnings
from ctclip.dicom.lenient import int_of, quiet_pydicom, text_of
from ctclip.dicom.slices import read_slice
from ctclip.dicom.streams import require_modest_deflate
from ctclip.dicom.uids import SERIES_TRAITS, is_uid, sop_class_uid, sop_instance_uid, source_series_uid
from ctclip.errors import SeriesError

__all__ = ["Scan", "Series", "SkippedFile", "SliceFile", "UsedNumber", "scan"]

UNREADABLE = "unreadable DICOM header"

EMPTY = "empty, or zeros where a DICOM file starts"
"""What a full disk or a broken transfer leaves of a slice."""

DUPLICATE = "duplicate SOPInstanceUID"
"""Why a copy of a slice is skipped."""

MADE_BY_CTCLIP = "denoised by ctclip already; name it with --series to take it all the same"
"""Why an earlier result is left out; simulated low dose is not."""

SHARED_UID = "share their SOPInstanceUID with a different slice"
"""Why a series is, whose slices nobody can tell apart."""

UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a mark of its own (PS3.5 7.1)."""

_HEADER_KEYWORDS = [
    *SERIES_TRAITS,
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "RescaleType",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "DerivationDescription",
    "PatientID",
]


@dataclass(frozen=True)
class SkippedFile:
    """A file that belongs to no CT series. ``reason`` holds no patient data; ``damaged``: perhaps a slice."""

    path: Path
    reason: str
    damaged: bool = False


@dataclass(frozen=True)
class SliceFile:
    """One slice of a CT series.

    ``position_mm`` is ImagePositionPatient along the slice normal. It is NaN, and rows and columns may be 0, when the
    header is damaged: such a slice is kept so that reading it fails loudly, rather than leaving a hole in the series.
    """

    path: Path
    sop_instance_uid: str
    position_mm: float
    instance_number: int | None
    rows: int
    columns: int


@dataclass(frozen=True)
class Series:
    """All slices of one SeriesInstanceUID.

    Attributes:
        uid: SeriesInstanceUID, or a stand-in that is reported in ``warnings`` when the files have none.
        series_number: the smallest SeriesNumber that a slice states.
        stacks: groups of slices with the same matrix, orientation, pixel spacing and frame of reference, each sorted by
            position along the normal (then InstanceNumber, then UID). The largest stack comes first, damaged slices
            last.
        study_uid: StudyInstanceUID, "" when missing.
        warnings: what is unusual, for information only.
        skip_reason: None for a series that is denoised by default, otherwise why it is not.
        selectable: whether the user may ask for the series in spite of ``skip_reason``.
        left_out: for each skipped CT image of this series that is no localizer, why it is: perhaps a slice, and a hole.
        made_by: what ctclip did last to it, see :func:`~ctclip.dicom.derivation.made_by`.
    """

    uid: str
    series_number: int | None
    stacks: tuple[tuple[SliceFile, ...], ...]
    study_uid: str
    warnings: tuple[str, ...] = ()
    skip_reason: str | None = None
    selectable: bool = True
    left_out: tuple[str, ...] = ()
    made_by: str = ""

    @property
    def slices(self) -> tuple[SliceFile, ...]:
        """All slices, stack after stack."""
        return tuple(item for stack in self.stacks for item in stack)

    @property
    def slice_count(self) -> int:
        """Number of slices in all stacks."""
        return sum(len(stack) for stack in self.stacks)


class UsedNumber(NamedTuple):
    """A SeriesNumber in use: in which study, and by what, see :func:`~ctclip.dicom.derivation.made_by`."""

    study_uid: str
    number: int
    made_by: str = ""


@dataclass(frozen=True)
class Scan:
    """What a folder holds: series sorted by number and UID, skipped files sorted by path, all SeriesNumbers in use."""

    series: tuple[Series, ...]
    skipped: tuple[SkippedFile, ...]
    series_numbers: frozenset[UsedNumber]

    @property
    def usual(self) -> tuple[Series, ...]:
        """Series that are used unless others are named; where there is none, ctclip's own results: they are meant."""
        by_default = tuple(series for series in self.series if series.skip_reason is None)
        return by_default or tuple(series for series in self.series if series.skip_reason == MADE_BY_CTCLIP)

    def skip_summary(self) -> dict[str, int]:
        """Count the skipped files by reason, most frequent first."""
        counts = Counter(item.reason for item in self.skipped)
        return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


@dataclass(frozen=True)
class _Header:
    """What the scan keeps of a file's header."""

    path: Path
    sop_instance_uid: str
    series_uid: str
    states_series_uid: bool
    study_uid: str
    series_number: int | None
    instance_number: int | None
    geometry: Geometry
    processed: str
    made_by: str
    was_denoised: bool
    unsuitable: str | None
    may_be_slice: bool
    patient_id: str


def scan(source: Path, *, progress: Callable[[int, int], None] | None = None) -> Scan:
    """Find the CT series in a folder or a single file.

    Folders are searched recursively, whatever the files are called; links are followed, each folder once. Only
    headers are read, and the result does not depend on the order in which the file system lists the files.

    A file becomes part of a series when it is a single-frame monochrome CT Image Storage object of Modality CT that
    is no localizer. A series whose slices are not axial, are projections, maps or differences by their ImageType, or
    have been denoised by ctclip gets a ``skip_reason``. Of copies of a slice the first by path is used. Different
    slices under one SOPInstanceUID, or several studies under one SeriesInstanceUID, make their series unusable: nobody
    can tell what belongs together. Whether the pixels can be decoded is found out by ``read_slice``.

    Args:
        source: folder or file.
        progress: called with the number of files done and the number of all files.

    Raises:
        SeriesError: if the source does not exist or holds no files.
    """
    paths, skipped = _find_files(Path(source))
    headers: list[_Header] = []
    with quiet_pydicom():  # once, not for every file
        for done, path in enumerate(paths, start=1):
            found = _inspect(path)
            if isinstance(found, SkippedFile):
                skipped.append(found)
            else:
                headers.append(found)
            if progress is not None:
                progress(done, len(paths))

    skipped = _lost_among(headers, skipped)
    usable, unsuitable, shared = _split_usable(headers)
    by_uid: dict[str, list[_Header]] = defaultdict(list)
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


def _lost_among(headers: list[_Header], skipped: list[SkippedFile]) -> list[SkippedFile]:
    """An empty file may be a lost slice where it is called like the DICOM files beside it; else it marks something."""
    names = {(header.path.parent, header.path.suffix.lower()) for header in headers}
    return [
        replace(each, damaged=False)
        if each.reason == EMPTY and (each.path.parent, each.path.suffix.lower()) not in names
        else each
        for each in skipped
    ]


def _find_files(source: Path) -> tuple[list[Path], list[SkippedFile]]:
    """List all regular files below the source, sorted by path, and what could not be looked into."""
    if not source.exists():
        raise SeriesError("The input does not exist: expected a folder with DICOM files, or one file. Check the path.")
    if source.is_file():
        return [source], []
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    _walk(source, files, skipped)
    if not files and not skipped:
        raise SeriesError("The input folder is empty: expected DICOM files in it or below it. Check the export.")
    return sorted(files, key=lambda path: path.as_posix()), skipped


def _walk(top: Path, files: list[Path], skipped: list[SkippedFile]) -> None:
    visited: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            # links may lead back to a folder above; device and inode tell that it was seen
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            skipped.append(SkippedFile(folder, "folder cannot be read", damaged=True))
            continue
        folders = []
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError:
                skipped.append(SkippedFile(Path(entry.path), "file cannot be read", damaged=True))
                continue
            if stat.S_ISDIR(mode):
                folders.append(Path(entry.path))
            elif stat.S_ISREG(mode):
                files.append(Path(entry.path))
        waiting += reversed(folders)


def _inspect(path: Path) -> _Header | SkippedFile:
    """Read one header, or say why there is none."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
            if not looks_like_dicom(start):
                return _no_dicom(path, start)
            file.seek(0)
            require_modest_deflate(file)
            # force reads files without the DICM mark
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_HEADER_KEYWORDS)
            _drop_cut_value(dataset.file_meta)
            _drop_cut_value(dataset)
            return _summarise(path, dataset, has_mark(start))
    except OSError:
        return SkippedFile(path, "file cannot be read", damaged=True)
    except SeriesError as error:
        return SkippedFile(path, str(error), damaged=True)
    except Exception:
        # a damaged header makes pydicom raise nearly anything; one bad file must not end the scan
        return SkippedFile(path, UNREADABLE, damaged=True)


def _no_dicom(path: Path, start: bytes) -> SkippedFile:
    """What has no mark: a slice that was lost starts with zeros or is empty, as hidden files that mark a folder are."""
    lost = starts_empty(start) and not (start == b"" and path.name.startswith("."))
    return SkippedFile(path, EMPTY, damaged=True) if lost else SkippedFile(path, "not DICOM")


def _drop_cut_value(dataset: pydicom.Dataset) -> None:
    """Drop the value in which a file ends; pydicom takes it as it is, and the first half of a UID is another UID."""
    last = dataset.get_item(max(dataset.keys())) if len(dataset) else None
    if isinstance(last, RawDataElement) and last.value is not None and len(last.value) < last.length < UNDEFINED:
        del dataset[last.tag]


def _summarise(path: Path, dataset: pydicom.Dataset, marked: bool) -> _Header | SkippedFile:
    if not sop_class_uid(dataset) and not text_of(dataset, "Modality"):
        # without both, nothing says that this is an image; a text file can start like an element, but has no mark
        reason = "neither SOPClassUID nor Modality" if marked or len(dataset) else "not DICOM"
        return SkippedFile(path, reason, damaged=marked)
    geometry = geometry_of(dataset)
    derivation = text_of(dataset, "DerivationDescription")
    states_series_uid = is_uid(text_of(dataset, "SeriesInstanceUID"))
    unsuitable = why_unsuitable(dataset)
    if unsuitable is None and not states_series_uid and not geometry.is_complete:
        # nothing tells which series it belongs to, nor that it is an image
        unsuitable = UNREADABLE
    return _Header(
        path=path,
        sop_instance_uid=sop_instance_uid(dataset),
        series_uid=source_series_uid(dataset),
        states_series_uid=states_series_uid,
        study_uid=text_of(dataset, "StudyInstanceUID"),
        series_number=int_of(dataset, "SeriesNumber"),
        instance_number=int_of(dataset, "InstanceNumber"),
        geometry=geometry,
        processed=processed_kind(dataset),
        made_by=made_by(derivation),
        was_denoised=DENOISED_BY in derivation,
        unsuitable=unsuitable,
        may_be_slice=may_be_slice(dataset),
        patient_id=text_of(dataset, "PatientID"),
    )


def _split_usable(headers: Iterable[_Header]) -> tuple[list[_Header], list[SkippedFile], frozenset[str]]:
    """Part the slices from the files that are none, or copies; and the SOPInstanceUIDs that different slices share."""
    usable: dict[str, dict[object, _Header]] = defaultdict(dict)
    skipped: list[SkippedFile] = []
    for header in headers:
        reason = header.unsuitable
        same_uid = usable[header.sop_instance_uid] if reason is None else {}
        identity: tuple[object, ...] = (header.series_uid, header.geometry, header.instance_number)
        if identity in same_uid:
            if _is_copy(header.path, same_uid[identity].path):
                reason = DUPLICATE
            else:
                identity = (*identity, header.path)
        if reason is None:
            same_uid[identity] = header
        else:
            skipped.append(SkippedFile(header.path, reason, damaged=reason in (UNREADABLE, NO_INSTANCE_UID)))
    shared = frozenset(uid for uid, slices in usable.items() if len(slices) > 1)
    return [header for slices in usable.values() for header in slices.values()], skipped, shared


def _is_copy(path: Path, other: Path) -> bool:
    """Whether two files with equal headers hold the same pixels; a tool may have changed them and kept the UID.

    A copy that cannot be read is one all the same: what it would have shown is in the other.
    """
    try:
        if filecmp.cmp(path, other, shallow=False):
            return True
        one, two = read_slice(path), read_slice(other)
    except (OSError, SeriesError):
        return True
    return np.array_equal(one.hu, two.hu)


def _build_series(headers: list[_Header], shared: frozenset[str], left_out: list[str]) -> Series:
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
    )


def _confusion(headers: list[_Header], shared: frozenset[str]) -> str:
    """Why nobody can tell which slices belong together; "" when the UIDs are as they must be."""
    ambiguous = sum(header.sop_instance_uid in shared for header in headers)
    if ambiguous:
        return f"{ambiguous} slices {SHARED_UID}: export again"
    studies = len({header.study_uid for header in headers})
    return f"{studies} studies under one SeriesInstanceUID: export again" if studies > 1 else ""


def _build_stacks(headers: list[_Header]) -> list[list[_Header]]:
    """Group slices that may be stacked and sort each group along its normal."""
    stacks: list[list[_Header]] = []
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


def _slice_order(header: _Header) -> tuple[float, int, str]:
    # NaN has no place in an order; slices without position are sorted by number and UID alone
    position = header.geometry.position_mm if header.geometry.is_complete else 0.0
    return position, header.instance_number or 0, header.sop_instance_uid


def _suitability(stacks: list[list[_Header]]) -> tuple[str | None, bool]:
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


def _series_warnings(first: _Header, stacks: list[list[_Header]]) -> list[str]:
    placed = [stack for stack in stacks if stack[0].geometry.is_complete]
    damaged = sum(len(stack) for stack in stacks if not stack[0].geometry.is_complete)
    warnings = []
    if not first.states_series_uid:
        warnings.append("no SeriesInstanceUID: grouped by study, frame of reference, number, description and kernel")
    if not first.study_uid:
        warnings.append("no StudyInstanceUID: the derived series gets one of its own")
    if damaged:
        warnings.append(f"damaged headers: {damaged} slices without image size, position or orientation")
    if len(placed) > 1:
        warnings.append(f"{len(placed)} geometry groups: matrix, orientation, spacing or frame of reference differ")
    for number, stack in enumerate(placed, start=1):
        where = f"group {number}: " if len(placed) > 1 else ""
        warnings.extend(where + text for text in stack_warnings([header.geometry for header in stack]))
    return warnings


def _patients(headers: list[_Header]) -> list[str]:
    """Say that slices state several patients; never which."""
    count = len({header.patient_id for header in headers} - {""})
    return [f"{count} PatientIDs under one SeriesInstanceUID: check whose slices they are"] if count > 1 else []


def _processed(headers: list[_Header]) -> list[str]:
    kinds = sorted({header.processed for header in headers if header.processed})
    count = sum(bool(header.processed) for header in headers)
    return [f"no plain slices (ImageType {', '.join(kinds)}): {count} of {len(headers)} slices"] if kinds else []


def _repetition(headers: list[_Header]) -> list[str]:
    denoised = any(header.was_denoised for header in headers)
    return ["denoised by ctclip already: denoising it again takes more than its strength says"] if denoised else []


def _slice_file(header: _Header) -> SliceFile:
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
