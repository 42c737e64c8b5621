"""The derived slice: the source's header with everything changed that a processed image must state, and nothing else.

Rules follow PS3.3 C.7.6.1 (General Image), C.8.2.1 (CT Image) and C.12.1 (SOP Common). Patient, study, acquisition
and geometry are copied. Nothing is invented: what the source lacks stays absent, unless the derived image needs it by
itself.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ctclip.dicom.decode import pixel_format
from ctclip.dicom.derivation import Code, Derivation, derived_instance_uid, derived_series_uid
from ctclip.dicom.elements import bytes_of_broken_text, copy_header, drop_stale, make_explicit, put_bytes
from ctclip.dicom.lenient import int_of, items_of, quiet_pydicom, text_of, texts_of
from ctclip.dicom.slices import CTSlice
from ctclip.dicom.uids import derived_uid, sop_class_uid, sop_instance_uid, source_series_uid, split_from
from ctclip.errors import SeriesError

__all__ = ["derive_slice", "save_slice"]

MAX_LO = 64
"""Characters in a Long String (PS3.5 6.2)."""

MAX_ST = 1024
"""Characters in a Short Text (PS3.5 6.2)."""

MAX_SH = 16
"""Characters in a Short String (PS3.5 6.2)."""

CONTROL_CHARACTERS = bytes(code for code in (*range(0x20), 0x7F) if code != 0x1B)
"""Not allowed in a Long String, but for the one that switches character sets (PS3.5 6.1.3 and 6.2)."""

MAX_16_BIT_CONTAINER = 2
"""Bytes per pixel up to which Smallest/LargestImagePixelValue, which are 16-bit elements, can hold the pixels'
values."""

IMPLEMENTATION_CLASS_UID = derived_uid("ctclip", "implementation class")
"""Names ctclip as the writer in the file meta, whatever its version."""

SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")

ZONE = re.compile(r"([+-])([01]\d)([0-5]\d)")
"""TimezoneOffsetFromUTC: sign, hours and minutes."""

DATED = tuple(f"{kind}{part}" for kind in ("Series", "InstanceCreation", "Content") for part in ("Date", "Time"))
"""Elements that say when the new series and instance were made."""

OF_THE_DERIVATION = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "DerivationDescription",
    "DerivationCodeSequence",
    "ContributingEquipmentSequence",
    *DATED,
)
"""Elements that depend on the derivation; all others follow from the source and the pixels."""

UNSPECIFIC_BODY_PARTS = ("", "PARTIALBODY")
"""Values of BodyPartExamined that do not tell whether the part is one of a pair."""


def derive_slice(
    ct: CTSlice, stored: np.ndarray, derivation: Derivation, *, series_number: int, now: datetime
) -> pydicom.Dataset:
    """Build the derived slice: a CT Image Storage object in Explicit VR Little Endian that refers to its source.

    The same source and derivation always give the same SOPInstanceUID and SeriesInstanceUID. Study, frame of reference,
    patient, geometry and acquisition are those of the source; ``ct`` is not changed. Private elements are dropped at
    every level unless the derivation keeps them.

    Args:
        ct: the source slice.
        stored: processed stored values, as ``to_stored`` returns them.
        derivation: how they were made.
        series_number: SeriesNumber of the derived series.
        now: time of the derivation; give all slices of a series the same. Where the source states
            TimezoneOffsetFromUTC, the times of the derived slice are in that zone.

    Raises:
        ValueError: if ``stored`` differs from the source's pixels in shape or type.
    """
    if stored.shape != ct.stored.shape or stored.dtype != ct.stored.dtype:
        expected = f"{ct.stored.shape} {ct.stored.dtype}"
        raise ValueError(f"stored is {stored.shape} {stored.dtype}, the slice has {expected}")
    with quiet_pydicom():
        now = _in_stated_zone(now, ct.header)
        derived = copy_header(ct.header)
        drop_stale(derived, keep_private=derivation.keep_private)
        make_explicit(derived)
        _set_identity(derived, ct.header, derivation, series_number)
        _set_times(derived, now)
        _set_image_type(derived, lossy=ct.lossy)
        _set_provenance(derived, ct.header, derivation, now)
        _set_pixels(derived, stored)
    return derived


def save_slice(dataset: pydicom.Dataset, path: Path) -> None:
    """Write a derived slice as a DICOM file, replacing what is there. Write to a temporary name and rename it.

    Raises:
        SeriesError: if the data set cannot be encoded.
        OSError: if the file cannot be written.
    """
    try:
        with quiet_pydicom():
            encoded = _encode(dataset)
    except Exception as error:
        # pydicom raises nearly anything for values it cannot encode, and quotes them
        uid = sop_instance_uid(dataset)
        raise SeriesError(
            f"Slice {uid} cannot be encoded ({type(error).__name__}); expected header values that DICOM can hold. "
            "Export the original slice again."
        ) from None
    with Path(path).open("wb") as file:
        file.write(encoded)
        file.flush()


def _encode(dataset: Dataset) -> bytes:
    encoded = DicomBytesIO()
    # not Dataset.save_as: it refuses data sets that were read as big endian, even with swapped bytes
    pydicom.dcmwrite(encoded, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return encoded.getvalue()


def _put(derived: Dataset, keyword: str, value: Any) -> None:
    """Set an element in its own representation, whatever the source states: pydicom would go on with that one."""
    derived.pop(Tag(keyword), None)
    setattr(derived, keyword, value)


def _set_identity(derived: Dataset, source: Dataset, derivation: Derivation, series_number: int) -> None:
    _put(derived, "SOPClassUID", CTImageStorage)
    _put(derived, "SOPInstanceUID", derived_instance_uid(sop_instance_uid(source), derivation))
    _put(derived, "SeriesInstanceUID", derived_series_uid(source_series_uid(source), derivation))
    _put(derived, "SeriesNumber", series_number)
    _set_series_description(derived, f" {derivation.label}")
    _put(derived, "Modality", "CT")
    if text_of(derived, "ContentQualification") == "PRODUCT":
        _put(derived, "ContentQualification", "RESEARCH")
    if not text_of(source, "StudyInstanceUID"):
        # No PACS accepts an object without: one stand-in for all slices of the source series, reported by the scan
        _put(derived, "StudyInstanceUID", derived_uid("study", source_series_uid(source)))
    if text_of(source, "BodyPartExamined") in UNSPECIFIC_BODY_PARTS and "Laterality" not in derived:
        derived.Laterality = ""  # Type 2C: for an unknown body part the side is unknown too, and that has to be said
    derived.file_meta = _file_meta(derived, derivation.version)


def _file_meta(derived: Dataset, version: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = derived.SOPClassUID
    meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = _plain(f"CTCLIP_{version}", MAX_SH)
    return meta


def _set_series_description(derived: Dataset, suffix: str) -> None:
    broken = bytes_of_broken_text(derived, "SeriesDescription")
    if broken:
        kept = broken.translate(None, CONTROL_CHARACTERS)[: MAX_LO - len(suffix)]
        put_bytes(derived, "SeriesDescription", kept.rstrip() + suffix.encode())
        return
    # a backslash would split the value, so pydicom has split it already
    original = " ".join(texts_of(derived, "SeriesDescription"))
    original = original.translate(dict.fromkeys(CONTROL_CHARACTERS))
    _put(derived, "SeriesDescription", (original[: MAX_LO - len(suffix)].rstrip() + suffix).strip())


def _in_stated_zone(now: datetime, source: Dataset) -> datetime:
    """The same moment by the clock that all times of the data set go by."""
    stated = ZONE.fullmatch(text_of(source, "TimezoneOffsetFromUTC"))
    if not stated:
        return now
    sign, hours, minutes = stated.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return now.astimezone(timezone(-offset if sign == "-" else offset))


def _set_times(derived: Dataset, now: datetime) -> None:
    """Date the new series and instance; study and acquisition took place when they did."""
    for keyword in DATED:
        _put(derived, keyword, now.strftime("%Y%m%d" if keyword.endswith("Date") else "%H%M%S.%f"))


def _set_image_type(derived: Dataset, *, lossy: bool) -> None:
    values = texts_of(derived, "ImageType")
    replaced = [value for value in values[2:3] if value not in ("", "AXIAL")]  # such as MIP: what the image is
    _put(derived, "ImageType", ["DERIVED", "SECONDARY", "AXIAL", *values[3:], *replaced])
    # the standard implies HU for original images only (PS3.3 C.8.2.1.1.1)
    _put(derived, "RescaleType", "HU")
    if lossy:
        _put(derived, "LossyImageCompression", "01")


def _set_provenance(derived: Dataset, source: Dataset, derivation: Derivation, now: datetime) -> None:
    _set_derivation_description(derived, _plain(derivation.description, MAX_ST))
    if derivation.code:
        codes = items_of(derived, "DerivationCodeSequence")
        others = [code for code in codes if text_of(code, "CodeValue") != derivation.code[0]]
        _put(derived, "DerivationCodeSequence", [*others, _code(derivation.code)])
    _put(derived, "SourceImageSequence", [_source_item(source)])
    equipment = items_of(derived, "ContributingEquipmentSequence")
    _put(derived, "ContributingEquipmentSequence", [*equipment, _equipment_item(derivation, now)])


def _set_derivation_description(derived: Dataset, description: str) -> None:
    """Put the description in front of an earlier one."""
    broken = bytes_of_broken_text(derived, "DerivationDescription")
    if broken:
        put_bytes(derived, "DerivationDescription", (f"{description} | ".encode() + broken)[:MAX_ST])
        return
    earlier = text_of(derived, "DerivationDescription")
    _put(derived, "DerivationDescription", f"{description} | {earlier}"[:MAX_ST] if earlier else description)


def _source_item(source: Dataset) -> Dataset:
    item = Dataset()
    origin = split_from(source)
    if origin is not None:
        # nobody but ctclip knows the single image that the frame was read as
        item.ReferencedSOPClassUID = text_of(origin, "ReferencedSOPClassUID")
        item.ReferencedSOPInstanceUID = text_of(origin, "ReferencedSOPInstanceUID")
        item.ReferencedFrameNumber = int_of(origin, "ReferencedFrameNumber")
    else:
        item.ReferencedSOPClassUID = str(sop_class_uid(source) or CTImageStorage)
        item.ReferencedSOPInstanceUID = sop_instance_uid(source)
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [_code(SOURCE_IMAGE)]
    return item


def _equipment_item(derivation: Derivation, now: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(PROCESSING_EQUIPMENT)]
    item.Manufacturer = "ctclip"
    item.ManufacturerModelName = _plain(derivation.program, MAX_LO)
    item.SoftwareVersions = _plain(derivation.version, MAX_LO)
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f%z")
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _plain(text: str, limit: int) -> str:
    """Return text that fits every character set and holds no value separator."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")[:limit]


def _set_pixels(derived: Dataset, stored: np.ndarray) -> None:
    """Set the pixels; BitsStored and PixelRepresentation stay those of the source."""
    pixels = pixel_format(derived)
    _put(derived, "SamplesPerPixel", 1)
    if "NumberOfFrames" in derived:
        _put(derived, "NumberOfFrames", 1)  # it was read as one, whatever stands there
    # equal already, except in old files that keep the values in the upper bits: they were moved down on reading
    _put(derived, "HighBit", pixels.bits_stored - 1)
    for keyword, value in (("SmallestImagePixelValue", stored.min()), ("LargestImagePixelValue", stored.max())):
        if keyword not in derived:
            continue
        del derived[keyword]
        if stored.dtype.itemsize <= MAX_16_BIT_CONTAINER:
            derived.add_new(Tag(keyword), "SS" if pixels.signed else "US", int(value))
    content = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    derived.add_new(Tag("PixelData"), "OB" if pixels.bits_allocated == 8 else "OW", content)
