"""Identifiers: the ones a file states, with their substitutes, and the ones ctclip makes."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path

import pydicom
from pydicom.uid import UID

from ctclip.dicom.lenient import int_of, items_of, quiet_pydicom, text_of, texts_of

__all__ = [
    "derived_uid",
    "frame_uid",
    "instance_uids",
    "is_uid",
    "patient_key",
    "printable_name",
    "printable_uid",
    "sop_class_uid",
    "sop_instance_uid",
    "source_series_uid",
    "split_from",
]

CTCLIP_NAMESPACE = uuid.UUID("6b1d5c5e-3f0a-5d0c-9a57-0c7a6a1f2e43")
"""Namespace of all UIDs that ctclip makes. Changing it changes every derived UID, so a re-run would no longer be
idempotent."""

PIXEL_DATA_HEADER_BYTES = 12
"""Tag, VR and length in explicit VR (PS3.5 7.1.2), in which derived slices are written, uncompressed."""

_PIXEL_COUNT = ["Rows", "Columns", "BitsAllocated"]

_UID_PATTERN = re.compile(r"[0-9.]{1,64}")


def derived_uid(*parts: str) -> str:
    """Return a UID that depends on nothing but the parts.

    The form is ``2.25.<UUID as integer>`` (PS3.5 B.2) with a name-based UUID (RFC 4122 version 5), at most 44
    characters.

    Args:
        parts: texts that name the object; their order and their boundaries count.
    """
    # JSON keeps the boundaries: ("a", "bc") and ("ab", "c") must not give the same UID
    return f"2.25.{uuid.uuid5(CTCLIP_NAMESPACE, json.dumps(parts)).int}"


def frame_uid(instance_uid: str, frame: int) -> str:
    """The SOPInstanceUID under which ctclip reads one frame, counted from 1, of a multi-frame object."""
    return derived_uid("frame", instance_uid, str(frame))


def split_from(header: pydicom.Dataset) -> pydicom.Dataset | None:
    """The reference to the frame of an Enhanced object that ctclip read as this image; None for a file of its own.

    A file may name a frame too, when another program converted it: then the file is the source.
    """
    origin = next(iter(items_of(header, "ConversionSourceAttributesSequence")), None)
    frame = None if origin is None else int_of(origin, "ReferencedFrameNumber")
    if origin is None or not frame:
        return None
    is_ours = sop_instance_uid(header) == frame_uid(text_of(origin, "ReferencedSOPInstanceUID"), frame)
    return origin if is_ours else None


def printable_name(header: pydicom.Dataset) -> str:
    """What a message calls a slice: its SOPInstanceUID, or that of the Enhanced object and the number of the frame."""
    origin = split_from(header)
    if origin is None:
        return printable_uid(sop_instance_uid(header))
    uid = printable_uid(text_of(origin, "ReferencedSOPInstanceUID"))
    return f"{uid}, frame {int_of(origin, 'ReferencedFrameNumber')}"


def is_uid(text: str) -> bool:
    """Whether a text holds nothing but what a UID may."""
    return _UID_PATTERN.fullmatch(text) is not None


def printable_uid(uid: str) -> str:
    """Return the UID for use in a message, or "unknown" when the text is no UID and might be anything."""
    return uid if is_uid(uid) else "unknown"


def sop_class_uid(header: pydicom.Dataset) -> UID:
    """Return the SOP class, from the file meta when the data set lacks it; an empty UID when both do."""
    return UID(text_of(header, "SOPClassUID") or _meta_text(header, "MediaStorageSOPClassUID"))


def sop_instance_uid(header: pydicom.Dataset) -> str:
    """Return the SOPInstanceUID, from the file meta when the data set lacks it; "" when both do."""
    return text_of(header, "SOPInstanceUID") or _meta_text(header, "MediaStorageSOPInstanceUID")


def instance_uids(folder: Path) -> dict[str, bool]:
    """SOPInstanceUIDs of the ``*.dcm`` files of a derived series, by their file meta, and whether the files have their
    whole length. A file without a readable header is left out."""
    with quiet_pydicom():
        return dict(found for path in folder.glob("*.dcm") for found in _instance(path))


def _instance(path: Path) -> list[tuple[str, bool]]:
    try:
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_PIXEL_COUNT)
            end = file.tell() + PIXEL_DATA_HEADER_BYTES + header.Rows * header.Columns * header.BitsAllocated // 8
            return [(_meta_text(header, "MediaStorageSOPInstanceUID"), end <= file.seek(0, os.SEEK_END))]
    except Exception:  # a damaged file makes pydicom raise nearly anything
        return []


def source_series_uid(header: pydicom.Dataset) -> str:
    """Return the SeriesInstanceUID, or a stand-in when the file lacks it.

    De-identification sometimes empties the UID. The stand-in is then made from what else tells series apart: study,
    frame of reference, series number and description, kernel and slice thickness. Two scans of one frame of reference
    that agree in all of these share it, which is why the scan reports it with a warning. A text that is no UID and may
    be anything gets a stand-in too, since UIDs are shown.
    """
    stated = text_of(header, "SeriesInstanceUID")
    if is_uid(stated):
        return stated
    traits = (part for key in SERIES_TRAITS for part in _trait(header, key))
    return derived_uid("series without UID", *traits, *([stated] if stated else []))


SERIES_TRAITS = (
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ConvolutionKernel",
    "SliceThickness",
)
"""Elements that stand in for a missing SeriesInstanceUID."""


def _trait(header: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    return keyword, *texts_of(header, keyword)


def _meta_text(header: pydicom.Dataset, keyword: str) -> str:
    meta = getattr(header, "file_meta", None)
    return "" if meta is None else text_of(meta, keyword)


def patient_key(path: Path) -> str:
    """PatientID of a file, or its StudyInstanceUID, or "": tells patients apart, and is never to be shown."""
    with quiet_pydicom():
        header = pydicom.dcmread(
            path, force=True, stop_before_pixels=True, specific_tags=["PatientID", "StudyInstanceUID"]
        )
        return text_of(header, "PatientID") or text_of(header, "StudyInstanceUID")
