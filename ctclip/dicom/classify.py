"""What a file is: DICOM or not, a CT slice or something else. Decided by content, never by name."""

from __future__ import annotations

import re

import pydicom
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, MediaStorageDirectoryStorage
from pydicom.valuerep import VR

from ctclip.dicom.lenient import int_of, text_of, texts_of
from ctclip.dicom.uids import sop_class_uid, sop_instance_uid

__all__ = [
    "ENHANCED",
    "NO_INSTANCE_UID",
    "START_BYTES",
    "has_mark",
    "looks_like_dicom",
    "may_be_slice",
    "processed_kind",
    "starts_empty",
    "why_unsuitable",
]

PREAMBLE_BYTES = 128
"""A DICOM file starts with this many free bytes, then "DICM" (PS3.10 7.1)."""

START_BYTES = PREAMBLE_BYTES + 4
"""Bytes that ``looks_like_dicom`` needs."""

MAX_FIRST_LENGTH = 1024
"""Longest plausible first element of a file without preamble: it is a group length, a character set, an image type or
a UID."""

LEGACY_CONVERTED_ENHANCED_CT = UID("1.2.840.10008.5.1.4.1.1.2.2")

SECONDARY_CAPTURE_PREFIX = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture and its multi-frame variants .7.1 to .7.4."""

ENHANCED = "Enhanced multi-frame CT: to be split into frames"
"""What the scan says of an object that :mod:`ctclip.dicom.export` makes slices of."""

NO_INSTANCE_UID = "no SOPInstanceUID"

HU_RESCALE_TYPES = ("", "HU", "US")
"""RescaleType of images in HU: it may be missing, and US (unspecified) is what some scanners write."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")

KNOWN_MODALITIES = frozenset(
    (
        *("AR", "AU", "BI", "BMD", "CR", "CT", "DG", "DOC", "DX", "ECG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO"),
        *("IVOCT", "IVUS", "KO", "LS", "MG", "MR", "NM", "OCT", "OP", "OPT", "OT", "PLAN", "PR", "PT", "PX", "REG"),
        *("RF", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SMR", "SR"),
        *("TG", "US", "XA", "XC"),
    )
)
"""Common defined terms of PS3.3 C.7.3.1.1.1: anything else may be a name, and is not shown."""

KNOWN_RESCALE_TYPES = frozenset(("OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"))
"""Further defined terms of RescaleType (PS3.3 C.11.1.1.2)."""

PROJECTION_WORDS = r"MIPS?|MAX[ _-]?IP|MIN[ _-]?IP|MAXIMUM|MINIMUM|PROJECTIONS?"
MAP_WORDS = r"PERFUSION|CBF|CBV|MTT|TTP|TMAX"
DIFFERENCE_WORDS = r"SUBTRACTION|SUBTRACTED"
PROCESSED = re.compile(rf"(?<![A-Z])({PROJECTION_WORDS}|{MAP_WORDS}|{DIFFERENCE_WORDS})(?![A-Z])")
"""Words of ImageType for images that are no plain slices: projections of slabs, maps and differences. The third value
of the standard is AXIAL or LOCALIZER (PS3.3 C.8.2.1.1.1); vendors put such words there, or into a further value."""

_VRS = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)


def has_mark(start: bytes) -> bool:
    """Whether the DICM mark stands where a DICOM file has it."""
    return start[PREAMBLE_BYTES:START_BYTES] == b"DICM"


def starts_empty(start: bytes) -> bool:
    """Whether there is nothing, or nothing but zeros, where the preamble of a DICOM file stands."""
    return not start[:PREAMBLE_BYTES].strip(b"\0")


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file starts as DICOM: with the DICM mark, or without it with an element of group 0002 or 0008."""
    if has_mark(start):
        return True
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    is_explicit = start[4:6] in _VRS
    return is_explicit or int.from_bytes(start[4:8], "little") <= MAX_FIRST_LENGTH


def why_unsuitable(dataset: pydicom.Dataset) -> str | None:
    """Say why a file is no CT slice, None when it is one. Modality alone proves nothing: screenshots have CT too."""
    sop_class = sop_class_uid(dataset)
    if sop_class == MediaStorageDirectoryStorage:
        return "DICOMDIR (an index, not an image)"
    modality = text_of(dataset, "Modality")
    if modality not in ("", "CT"):
        return f"Modality {modality if modality in KNOWN_MODALITIES else 'unknown'}"
    if sop_class in (EnhancedCTImageStorage, LEGACY_CONVERTED_ENHANCED_CT):
        return ENHANCED
    if sop_class.startswith(SECONDARY_CAPTURE_PREFIX):
        return "Secondary Capture"
    if sop_class and sop_class != CTImageStorage:
        return f"no CT image ({sop_class.name if sop_class.name != sop_class else 'unknown SOP class'})"
    return _unsuitable_image(dataset)


def may_be_slice(dataset: pydicom.Dataset) -> bool:
    """Whether an unsuitable file may be a slice of its series all the same: a grey CT image that is no localizer."""
    is_ct = sop_class_uid(dataset) in ("", CTImageStorage)
    return is_ct and not _is_localizer(dataset) and not _why_not_grey(dataset)


def _is_localizer(dataset: pydicom.Dataset) -> bool:
    return "LOCALIZER" in texts_of(dataset, "ImageType")[2:3]


def processed_kind(dataset: pydicom.Dataset) -> str:
    """The word of ImageType by which an image is a projection, a map or a difference of others; "" for plain slices.

    An original image may be of a perfusion study: then its pixels are HU as any scan's.
    """
    values = [value.upper() for value in texts_of(dataset, "ImageType")]
    found = [word for value in values for word in PROCESSED.findall(value)]
    original = values[:1] == ["ORIGINAL"]
    return next((word for word in found if not (original and re.fullmatch(MAP_WORDS, word))), "")


def _why_not_grey(dataset: pydicom.Dataset) -> str:
    if (int_of(dataset, "SamplesPerPixel") or 1) > 1:
        return "colour image"
    photometric = text_of(dataset, "PhotometricInterpretation")
    return "not monochrome" if photometric and photometric not in MONOCHROME else ""


def _unsuitable_image(dataset: pydicom.Dataset) -> str | None:
    if (int_of(dataset, "NumberOfFrames") or 1) > 1:
        return "multi-frame image: not supported yet"
    not_grey = _why_not_grey(dataset)
    if not_grey:
        return not_grey
    if _is_localizer(dataset):
        return "localizer"
    rescale_type = text_of(dataset, "RescaleType").upper()
    if rescale_type not in HU_RESCALE_TYPES:
        # material density, effective atomic number and the like of spectral CT
        shown = rescale_type if rescale_type in KNOWN_RESCALE_TYPES else "unknown"
        return f"RescaleType {shown}: not HU"
    return None if sop_instance_uid(dataset) else NO_INSTANCE_UID
