"""What a derived slice states by itself, and what all slices of a series have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctclip.dicom import CTSlice, sop_instance_uid
from ctclip.dicom.derivation import DENOISED_BY, SMOOTHING, made_by
from ctclip.dicom.derived import DATED, MAX_LO, PROCESSING_EQUIPMENT, SOURCE_IMAGE
from ctclip.dicom.lenient import items_of, text_of, texts_of
from ctclip.verification.checks import Check, Every, Finding, Pair, of_derived

__all__ = ["checks_of_statements"]

ONE_PER_SERIES = ("SeriesNumber", "SeriesDescription")


def checks_of_statements() -> list[Check]:
    """All rules that need no source."""
    return [
        _UniqueUIDs(),
        *(Every(rule, of_derived(holds)) for rule, holds in RULES.items()),
        *(_OneValue(keyword) for keyword in ONE_PER_SERIES),
    ]


class _UniqueUIDs:
    """UIDs within the series."""

    def __init__(self) -> None:
        self._count, self._uids, self._studies = 0, set[str](), set[str]()

    def add(self, pair: Pair) -> None:
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

    def add(self, pair: Pair) -> None:
        of_source = () if pair.source is None else texts_of(pair.source.header, self._keyword)
        self._values[of_source].add(texts_of(pair.derived.header, self._keyword))

    def finding(self) -> Finding:
        most = max((len(values) for values in self._values.values()), default=0)
        return Finding(f"all slices have one {self._keyword}", most <= 1, f"{most} values" if most > 1 else "")


def _has_purpose(ct: CTSlice, sequence: str, purpose: str) -> bool:
    return any(
        text_of(code, "CodeValue") == purpose
        for item in items_of(ct.header, sequence)
        for code in items_of(item, "PurposeOfReferenceCodeSequence")
    )


def _meta_agrees(ct: CTSlice) -> bool:
    meta = ct.header.file_meta
    return (text_of(meta, "MediaStorageSOPClassUID"), text_of(meta, "MediaStorageSOPInstanceUID")) == (
        text_of(ct.header, "SOPClassUID"),
        sop_instance_uid(ct.header),
    )


def _has_code(ct: CTSlice) -> bool:
    if made_by(text_of(ct.header, "DerivationDescription")) != DENOISED_BY:
        return True  # no code means what was done
    return any(text_of(code, "CodeValue") == SMOOTHING[0] for code in items_of(ct.header, "DerivationCodeSequence"))


RULES: dict[str, Callable[[CTSlice], bool]] = {
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
    "series, instance and content are dated": lambda ct: all(text_of(ct.header, keyword) for keyword in DATED),
    "DerivationDescription names ctclip": lambda ct: "ctclip" in text_of(ct.header, "DerivationDescription"),
    "DerivationCodeSequence names the smoothing, when denoised": _has_code,
    "SourceImageSequence names one source slice": lambda ct: (
        len(items_of(ct.header, "SourceImageSequence")) == 1
        and _has_purpose(ct, "SourceImageSequence", SOURCE_IMAGE[0])
    ),
    "ContributingEquipmentSequence names the processing": lambda ct: _has_purpose(
        ct, "ContributingEquipmentSequence", PROCESSING_EQUIPMENT[0]
    ),
}
"""What every slice must state, whatever its source."""
