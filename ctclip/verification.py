"""Does a derived series keep the rules of docs/usage.md, and does it fit its source?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctclip import dciodvfy
from ctclip.dicom import CTSlice, Series, frame_uid, opened_export, read_slice, scan
from ctclip.dicom.lenient import int_of, text_of, texts_of, value_of
from ctclip.dicom.uids import printable_uid, sop_instance_uid
from ctclip.errors import CtclipError, SeriesError
from ctclip.files import is_of_the_system
from ctclip.metrics.noise import compare_noise
from ctclip.units import MODEL_HU_WINDOW

MAX_BIAS_HU = 1.0
"""Mean shift in flat soft tissue, over the series."""

DECODED = "every slice can be decoded"

MAX_LO = 64
SOURCE_IMAGE, PROCESSING_EQUIPMENT = "121322", "109102"

ONE_PER_SERIES = ("SeriesNumber", "SeriesDescription")

COPIED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "FrameOfReferenceUID",
    "PatientPosition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "GantryDetectorTilt",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "InstanceNumber",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "BurnedInAnnotation",
    "PatientIdentityRemoved",
)
"""Elements that a derived slice has from its source, unchanged or equally missing."""


@dataclass(frozen=True)
class Finding:
    """A rule and whether a series keeps it; ``detail`` says where it does not, without patient data."""

    rule: str
    passed: bool
    detail: str = ""


def check_series(derived: Path, source: Path | None = None) -> list[Finding]:
    """Check a derived series, by itself and against its source; holds one slice and its source at a time.

    Args:
        derived: folder of the series.
        source: folder or file that holds the source slices, and may hold others.

    Returns:
        one finding per rule.

    Raises:
        SeriesError: when the folder holds no series, or several, or when a source slice cannot be read.
    """
    if source is None:
        return check_against(derived, None)
    with opened_export(source) as found:
        return check_against(derived, found.series)


def check_against(derived: Path, sources: Sequence[Series] | None) -> list[Finding]:
    """As :func:`check_series`, for a source that has been scanned already, or for none."""
    paths, only_slices = _only_series(derived)
    files = _slices_by_uid(sources or ())
    own: list[_Check] = [_UniqueUIDs(), *(_Every(rule, _own(holds)) for rule, holds in OWN_RULES.items())]
    own += [_OneValue(keyword) for keyword in ONE_PER_SERIES]
    complete = None if sources is None else _Complete(sources)
    compared: list[_Check] = [] if sources is None else _comparisons()
    validated: list[_Check] = [_Validated()] if dciodvfy.is_installed() else []
    checks = (*own, *([complete] if complete else []), *compared, *validated)
    try:
        for path in paths:
            _check_slice(path, files, checks)
    except _UnreadableError as error:
        return [only_slices, Finding(DECODED, False, str(error))]
    findings = [only_slices, Finding(DECODED, True), *(check.finding() for check in own)]
    if complete:
        findings += complete.findings()
        # without its sources nothing can be said of a series
        findings += [check.finding() for check in compared if complete.has_sources]
    return findings + [check.finding() for check in validated]


def _check_slice(path: Path, files: Mapping[str, Path], checks: Iterable[_Check]) -> None:
    """Show one slice to every check; nothing of it stays in memory."""
    try:
        ct = read_slice(path)
    except CtclipError as error:
        raise _UnreadableError(str(error)) from None
    source_path = files.get(_source_uid(ct.header))
    pair = _Pair(path, ct, source_path, None if source_path is None else read_slice(source_path))
    for check in checks:
        check.add(pair)


class _UnreadableError(Exception):
    """A slice of the derived series cannot be decoded."""


@dataclass(frozen=True)
class _Pair:
    """A derived slice, and its source where the source is at hand."""

    path: Path
    derived: CTSlice
    source_path: Path | None
    source: CTSlice | None


class _Check(Protocol):
    """A rule that sees one slice after the other."""

    def add(self, pair: _Pair) -> None:
        """The next slice."""

    def finding(self) -> Finding:
        """What came out, after the last slice."""


def _slices_by_uid(sources: Iterable[Series]) -> dict[str, Path]:
    return {item.sop_instance_uid: item.path for series in sources for item in series.slices}


def _only_series(folder: Path) -> tuple[list[Path], Finding]:
    """The slices of the series, and whether there is nothing else beside them: it may be a slice that was lost."""
    found = scan(folder)
    if len(found.series) != 1:
        raise SeriesError(f"expected the folder of one derived series, found {len(found.series)} series")
    paths = [item.path for item in found.series[0].slices]
    places = {path.parent for path in paths}
    beside = [item for item in found.skipped if item.path.parent in places and not is_of_the_system(item.path.name)]
    others = Counter(item.reason for item in beside)
    detail = "; ".join(f"{count} x {reason}" for reason, count in others.items())
    return paths, Finding("every file in the folder is a slice of the series", not others, detail)


class _Every:
    """A rule that every slice must keep."""

    def __init__(self, rule: str, holds: Callable[[_Pair], bool]) -> None:
        self._rule, self._holds = rule, holds
        self._broken, self._first = 0, ""

    def add(self, pair: _Pair) -> None:
        if not self._holds(pair):
            self._first = self._first or printable_uid(sop_instance_uid(pair.derived.header))
            self._broken += 1

    def finding(self) -> Finding:
        detail = f"{self._broken} slices, the first is {self._first}" if self._broken else ""
        return Finding(self._rule, not self._broken, detail)


def _own(holds: Callable[[CTSlice], bool]) -> Callable[[_Pair], bool]:
    return lambda pair: holds(pair.derived)


def _both(holds: Callable[[CTSlice, CTSlice], bool]) -> Callable[[_Pair], bool]:
    return lambda pair: pair.source is None or holds(pair.derived, pair.source)


class _UniqueUIDs:
    """UIDs within the series."""

    def __init__(self) -> None:
        self._count, self._uids, self._studies = 0, set[str](), set[str]()

    def add(self, pair: _Pair) -> None:
        self._count += 1
        self._uids.add(sop_instance_uid(pair.derived.header))
        self._studies.add(text_of(pair.derived.header, "StudyInstanceUID"))

    def finding(self) -> Finding:
        passed = len(self._uids) == self._count and len(self._studies) == 1 and "" not in self._studies
        detail = f"{self._count} slices, {len(self._uids)} SOPInstanceUIDs, {len(self._studies)} StudyInstanceUIDs"
        return Finding("each slice has its own SOPInstanceUID, all have one StudyInstanceUID", passed, detail)


class _OneValue:
    """An element that all slices of a series have in common, as far as their sources have."""

    def __init__(self, keyword: str) -> None:
        self._keyword = keyword
        self._values: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)

    def add(self, pair: _Pair) -> None:
        of_source = () if pair.source is None else texts_of(pair.source.header, self._keyword)
        self._values[of_source].add(texts_of(pair.derived.header, self._keyword))

    def finding(self) -> Finding:
        most = max((len(values) for values in self._values.values()), default=0)
        return Finding(f"all slices have one {self._keyword}", most <= 1, f"{most} values" if most > 1 else "")


def _has_code(ct: CTSlice, sequence: str, purpose: str) -> bool:
    return any(
        text_of(code, "CodeValue") == purpose
        for item in value_of(ct.header, sequence) or []
        for code in value_of(item, "PurposeOfReferenceCodeSequence") or []
    )


def _meta_agrees(ct: CTSlice) -> bool:
    meta = ct.header.file_meta
    return text_of(meta, "MediaStorageSOPInstanceUID") == sop_instance_uid(ct.header)


OWN_RULES: dict[str, Callable[[CTSlice], bool]] = {
    "SOPClassUID is CT Image Storage, Modality CT": lambda ct: (
        text_of(ct.header, "SOPClassUID") == CTImageStorage and text_of(ct.header, "Modality") == "CT"
    ),
    "transfer syntax is Explicit VR Little Endian": lambda ct: ct.source_transfer_syntax == ExplicitVRLittleEndian,
    "the file meta names the slice": _meta_agrees,
    r"ImageType begins with DERIVED\SECONDARY\AXIAL": lambda ct: (
        texts_of(ct.header, "ImageType")[:3] == ("DERIVED", "SECONDARY", "AXIAL")
    ),
    "RescaleType is HU": lambda ct: text_of(ct.header, "RescaleType") == "HU",
    "SeriesDescription is there, with 64 characters at most": lambda ct: (
        0 < len(text_of(ct.header, "SeriesDescription")) <= MAX_LO
    ),
    "SeriesNumber is there": lambda ct: bool(text_of(ct.header, "SeriesNumber")),
    "DerivationDescription names ctclip": lambda ct: "ctclip" in text_of(ct.header, "DerivationDescription"),
    "SourceImageSequence names one source slice": lambda ct: (
        len(value_of(ct.header, "SourceImageSequence") or []) == 1
        and _has_code(ct, "SourceImageSequence", SOURCE_IMAGE)
    ),
    "ContributingEquipmentSequence names the processing": lambda ct: _has_code(
        ct, "ContributingEquipmentSequence", PROCESSING_EQUIPMENT
    ),
}
"""What every slice must state, whatever its source."""


def _source_uid(header: Dataset) -> str:
    items = value_of(header, "SourceImageSequence") or [Dataset()]
    uid, frame = text_of(items[0], "ReferencedSOPInstanceUID"), int_of(items[0], "ReferencedFrameNumber")
    return frame_uid(uid, frame) if frame else uid


class _Complete:
    """One derived slice for each slice of the source series, and the other way round."""

    def __init__(self, sources: Sequence[Series]) -> None:
        self._sources = sources
        self._named: list[str] = []
        self._missing = 0

    def add(self, pair: _Pair) -> None:
        self._named.append(_source_uid(pair.derived.header))
        self._missing += pair.source is None

    @property
    def has_sources(self) -> bool:
        """Whether every slice so far has a source slice of its own."""
        return not self._missing and len(set(self._named)) == len(self._named)

    def finding(self) -> Finding:
        detail = f"{self._missing} of {len(self._named)} named source slices are not in the source"
        return Finding("every slice has its own source slice", self.has_sources, "" if self.has_sources else detail)

    def findings(self) -> list[Finding]:
        """Both directions; the second only where the first holds."""
        return [self.finding(), *([self._nothing_left_out()] if self.has_sources else [])]

    def _nothing_left_out(self) -> Finding:
        named = set(self._named)
        by_series = ({item.sop_instance_uid for item in series.slices} for series in self._sources)
        left_out = sum(len(slices - named) for slices in by_series if slices & named)
        detail = f"{left_out} source slices have none" if left_out else ""
        return Finding("every slice of the source series has a derived slice", not left_out, detail)


def _comparisons() -> list[_Check]:
    """What each slice must share with its source."""
    return [
        _Every("SOPInstanceUID and SeriesInstanceUID are new", _both(_has_new_uids)),
        *(_Every(f"{name} is that of the source", _both(_copies(name))) for name in COPIED),
        _Every("StudyInstanceUID is that of the source, where it has one", _both(_keeps_study)),
        _Every("LossyImageCompression does not go back from 01", _both(_keeps_lossy)),
        _Every("padding is bit-exact", _both(_keeps_padding)),
        _Every("values outside [-1024, 3072] HU are unchanged", _both(_keeps_outside)),
        _Bias(),
    ]


def _has_new_uids(derived: CTSlice, source: CTSlice) -> bool:
    return all(
        text_of(derived.header, name) != text_of(source.header, name)
        for name in ("SOPInstanceUID", "SeriesInstanceUID")
    )


def _copies(keyword: str) -> Callable[[CTSlice, CTSlice], bool]:
    return lambda derived, source: texts_of(derived.header, keyword) == texts_of(source.header, keyword)


def _keeps_study(derived: CTSlice, source: CTSlice) -> bool:
    study = text_of(source.header, "StudyInstanceUID")
    return not study or text_of(derived.header, "StudyInstanceUID") == study


def _keeps_lossy(derived: CTSlice, source: CTSlice) -> bool:
    was_lossy = source.lossy or text_of(source.header, "LossyImageCompression") == "01"
    return not was_lossy or text_of(derived.header, "LossyImageCompression") == "01"


def _keeps_padding(derived: CTSlice, source: CTSlice) -> bool:
    padding = source.padding
    return derived.stored.shape == padding.shape and np.array_equal(derived.stored[padding], source.stored[padding])


def _keeps_outside(derived: CTSlice, source: CTSlice) -> bool:
    low, high = MODEL_HU_WINDOW
    outside = ~source.padding & ((source.hu < low) | (source.hu > high))
    return derived.stored.shape == outside.shape and np.array_equal(derived.stored[outside], source.stored[outside])


class _Bias:
    """Mean shift of the series."""

    def __init__(self) -> None:
        self._shifts_hu: list[float] = []

    def add(self, pair: _Pair) -> None:
        if pair.source is not None and pair.source.hu.shape == pair.derived.hu.shape:
            before_hu, after_hu = (pair.source.without_padding(each.hu) for each in (pair.source, pair.derived))
            self._shifts_hu.append(compare_noise(before_hu, after_hu).shift_hu)

    def finding(self) -> Finding:
        rule = f"mean shift in flat soft tissue is at most {MAX_BIAS_HU:g} HU"
        known = [shift for shift in self._shifts_hu if np.isfinite(shift)]
        if not known:
            return Finding(rule, True, "no soft tissue to measure it in")
        shift_hu = float(np.mean(known))
        return Finding(rule, abs(shift_hu) <= MAX_BIAS_HU, f"{shift_hu:+.2f} HU")


class _Validated:
    """No error of dciodvfy that the source does not have already: sources fail too."""

    def __init__(self) -> None:
        self._detail = ""

    def add(self, pair: _Pair) -> None:
        if self._detail:
            return
        new = dciodvfy.new_errors(pair.path, pair.source_path)
        if new:
            self._detail = f"slice {printable_uid(sop_instance_uid(pair.derived.header))}: {new[0]}"

    def finding(self) -> Finding:
        return Finding("dciodvfy finds no new errors", not self._detail, self._detail)
