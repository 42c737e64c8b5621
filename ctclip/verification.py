"""Does a derived series keep the rules of docs/usage.md, and does it fit its source?"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctclip.dicom import CTSlice, Scan, frame_uid, opened_export, read_slice, scan
from ctclip.dicom.lenient import int_of, text_of, texts_of, value_of
from ctclip.dicom.uids import sop_instance_uid
from ctclip.errors import CtclipError, SeriesError
from ctclip.metrics.noise import compare_noise
from ctclip.units import MODEL_HU_WINDOW

MAX_BIAS_HU = 1.0
"""Mean shift in flat soft tissue, over the series."""

MAX_LO = 64
SOURCE_IMAGE, PROCESSING_EQUIPMENT = "121322", "109102"

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
    """Check a derived series, by itself and against its source.

    Args:
        derived: folder of the series.
        source: folder or file that holds the source slices, and may hold others.

    Returns:
        one finding per rule.

    Raises:
        SeriesError: when the folder holds no series, or several.
    """
    paths = _only_series(derived)
    try:
        slices = [read_slice(path) for path in paths]
    except CtclipError as error:
        return [Finding("every slice can be decoded", False, str(error))]
    findings = [
        Finding("every slice can be decoded", True),
        _uids_are_unique(slices),
        *(_every(rule, slices, holds) for rule, holds in OWN_RULES.items()),
    ]
    with nullcontext(None) if source is None else opened_export(source) as found:
        sources = {} if found is None else _slices_by_uid(found)
        if found is not None:
            findings += _against_source(slices, sources)
        if shutil.which("dciodvfy"):
            findings.append(_validated(paths, slices, sources))
    return findings


def _slices_by_uid(found: Scan) -> dict[str, Path]:
    return {item.sop_instance_uid: item.path for series in found.series for item in series.slices}


def _only_series(folder: Path) -> list[Path]:
    found = scan(folder).series
    if len(found) != 1:
        raise SeriesError(f"expected the folder of one derived series, found {len(found)} series")
    return [item.path for item in found[0].slices]


def _every(rule: str, slices: Sequence[CTSlice], holds: Callable[[CTSlice], bool]) -> Finding:
    broken = [sop_instance_uid(ct.header) for ct in slices if not holds(ct)]
    return Finding(rule, not broken, f"{len(broken)} slices, the first is {broken[0]}" if broken else "")


def _uids_are_unique(slices: Sequence[CTSlice]) -> Finding:
    unique = {sop_instance_uid(ct.header) for ct in slices}
    studies = {text_of(ct.header, "StudyInstanceUID") for ct in slices}
    passed = len(unique) == len(slices) and len(studies) == 1 and "" not in studies
    detail = f"{len(slices)} slices, {len(unique)} SOPInstanceUIDs, {len(studies)} StudyInstanceUIDs"
    return Finding("each slice has its own SOPInstanceUID, all have one StudyInstanceUID", passed, detail)


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


def _against_source(slices: Sequence[CTSlice], files: Mapping[str, Path]) -> list[Finding]:
    named = [_source_uid(ct.header) for ct in slices]
    missing = [uid for uid in named if uid not in files]
    rule = "every slice has its own source slice"
    if missing or len(set(named)) != len(named):
        detail = f"{len(missing)} of {len(named)} named source slices are not in the source"
        return [Finding(rule, False, detail)]
    pairs = [(ct, read_slice(files[uid])) for ct, uid in zip(slices, named, strict=True)]
    return [
        Finding(rule, True),
        _pairs("SOPInstanceUID and SeriesInstanceUID are new", pairs, _has_new_uids),
        *(_pairs(f"{name} is that of the source", pairs, _copies(name)) for name in COPIED),
        _pairs("StudyInstanceUID is that of the source, where it has one", pairs, _keeps_study),
        _pairs("padding is bit-exact", pairs, _keeps_padding),
        _pairs("values outside [-1024, 3072] HU are unchanged", pairs, _keeps_outside),
        _bias(pairs),
    ]


Pairs = Sequence[tuple[CTSlice, CTSlice]]
"""Derived slices with their sources."""


def _pairs(rule: str, pairs: Pairs, holds: Callable[[CTSlice, CTSlice], bool]) -> Finding:
    broken = [sop_instance_uid(derived.header) for derived, source in pairs if not holds(derived, source)]
    return Finding(rule, not broken, f"{len(broken)} slices, the first is {broken[0]}" if broken else "")


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


def _keeps_padding(derived: CTSlice, source: CTSlice) -> bool:
    padding = source.padding
    return derived.stored.shape == padding.shape and np.array_equal(derived.stored[padding], source.stored[padding])


def _keeps_outside(derived: CTSlice, source: CTSlice) -> bool:
    low, high = MODEL_HU_WINDOW
    outside = ~source.padding & ((source.hu < low) | (source.hu > high))
    return derived.stored.shape == outside.shape and np.array_equal(derived.stored[outside], source.stored[outside])


def _bias(pairs: Pairs) -> Finding:
    rule = f"mean shift in flat soft tissue is at most {MAX_BIAS_HU:g} HU"
    shifts = [compare_noise(source.hu, derived.hu).shift_hu for derived, source in pairs]
    known = [shift for shift in shifts if np.isfinite(shift)]
    if not known:
        return Finding(rule, True, "no soft tissue to measure it in")
    shift_hu = float(np.mean(known))
    return Finding(rule, abs(shift_hu) <= MAX_BIAS_HU, f"{shift_hu:+.2f} HU")


def _validated(paths: Sequence[Path], slices: Sequence[CTSlice], files: Mapping[str, Path]) -> Finding:
    """No error of dciodvfy that the source does not have already: sources fail too."""
    rule = "dciodvfy finds no new errors"
    for path, ct in zip(paths, slices, strict=True):
        known = set(_errors(files[_source_uid(ct.header)])) if _source_uid(ct.header) in files else set()
        new = [line for line in _errors(path) if line not in known]
        if new:
            return Finding(rule, False, f"slice {sop_instance_uid(ct.header)}: {new[0]}")
    return Finding(rule, True)


def _errors(path: Path) -> Iterator[str]:
    """Error lines; a wrong UID is wrong wherever it is referred to, so complaints about it lose the place."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("Error"):
            yield line.split(" in (0x")[0] if " for UID - " in line else line.strip()
