"""All files of a folder, and what the scan keeps of the header of each."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement

from ctclip.dicom.archive import ZIP_START
from ctclip.dicom.classify import (
    START_BYTES,
    has_mark,
    looks_like_dicom,
    may_be_slice,
    processed_kind,
    starts_empty,
    why_unsuitable,
)
from ctclip.dicom.contents import EMPTY, IN_ZIP, UNREADABLE, SkippedFile
from ctclip.dicom.derivation import DENOISED_BY, made_by
from ctclip.dicom.geometry import Geometry, geometry_of
from ctclip.dicom.lenient import int_of, text_of
from ctclip.dicom.streams import require_modest_deflate
from ctclip.dicom.uids import SERIES_TRAITS, is_uid, sop_class_uid, sop_instance_uid, source_series_uid
from ctclip.errors import SeriesError

__all__ = ["Header", "find_files", "read_header"]

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
class Header:
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


def find_files(source: Path) -> tuple[list[Path], list[SkippedFile]]:
    """List all regular files below the source, sorted by path, and what could not be looked into."""
    if not source.exists():
        raise SeriesError("The input does not exist: expected a folder with DICOM files, or one file. Check the path.")
    if source.is_file():
        return [source], []
    if not source.is_dir():
        raise SeriesError("The input is a pipe or a device: expected a folder with DICOM files, or one file.")
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


def read_header(path: Path) -> Header | SkippedFile:
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
    if starts_empty(start) and not (start == b"" and path.name.startswith(".")):
        return SkippedFile(path, EMPTY, damaged=True)
    # by the name too: documents of office programs are zip files by content
    is_zip = start.startswith(ZIP_START) and path.suffix.lower() == ".zip"
    return SkippedFile(path, IN_ZIP if is_zip else "not DICOM")


def _drop_cut_value(dataset: pydicom.Dataset) -> None:
    """Drop the value in which a file ends; pydicom takes it as it is, and the first half of a UID is another UID."""
    last = dataset.get_item(max(dataset.keys())) if len(dataset) else None
    if isinstance(last, RawDataElement) and last.value is not None and len(last.value) < last.length < UNDEFINED:
        del dataset[last.tag]


def _summarise(path: Path, dataset: pydicom.Dataset, marked: bool) -> Header | SkippedFile:
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
    return Header(
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
