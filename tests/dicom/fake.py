"""Fake CT slices: a complete, valid data set with overrides for the trap under test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ctclip.dicom import Denoising

STUDY = "1.2.3.1"
SERIES = "1.2.3.2"
FRAME = "1.2.3.3"
SHAPE = (12, 16)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PATIENT = "Muster^Eva"
NOW = datetime(2031, 2, 3, 4, 5, 6)


def tilted(degrees: float) -> tuple[float, ...]:
    """Direction cosines of a slice whose gantry is tilted about the x axis."""
    angle = math.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, math.cos(angle), -math.sin(angle))


def fake_pixels(*, signed: bool = True, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Stored values that are no padding: unlike each other in all four corners."""
    values = np.random.default_rng(0).integers(1, 2000, shape)
    return values.astype(np.int16 if signed else np.uint16)


def fake_slice(
    z: float = 0.0,
    number: int = 1,
    *,
    pixels: np.ndarray | None = None,
    series: str = SERIES,
    orientation: Sequence[float] = AXIAL,
    bits: int = 16,
    slope: float = 1.0,
    intercept: float = -1024.0,
    **overrides: Any,
) -> FileDataset:
    """Build a slice at height z; ``overrides`` set elements by keyword, None removes one."""
    pixels = fake_pixels() if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, series, FRAME
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = PATIENT, "P-77", "19600102", "F"
    ds.StudyDate, ds.StudyTime, ds.AcquisitionDate, ds.AcquisitionTime = "20200101", "101112", "20200101", "101113"
    ds.ContentDate, ds.ContentTime, ds.StudyID, ds.AccessionNumber = "20200101", "101113", "S1", "A-9"
    ds.ReferringPhysicianName, ds.Manufacturer, ds.PositionReferenceIndicator = "", "Maker", ""
    ds.PatientPosition, ds.AcquisitionNumber = "HFS", 1
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = 4, number, "Head"
    ds.KVP, ds.ConvolutionKernel, ds.SliceThickness = 120, ["Br38f", "3"], 2.0
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10.0, -20.0, z], list(orientation)
    ds.PixelSpacing = [0.5, 0.5]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.add_new("PixelData", "OW", pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
    for keyword, value in overrides.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    if overrides.get("SOPClassUID"):
        meta.MediaStorageSOPClassUID = ds.SOPClassUID
    return ds


def write(ds: FileDataset, path: Path) -> Path:
    """Write a fake slice as a DICOM file in explicit VR little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return path


def write_native(ds: FileDataset, path: Path, syntax: UID) -> Path:
    """Write a fake slice uncompressed in any byte order."""
    ds.file_meta.TransferSyntaxUID = syntax
    if not syntax.is_little_endian:
        ds["PixelData"].value = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    dcmwrite(
        path,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return path


def write_bare(ds: FileDataset, path: Path, *, implicit: bool) -> Path:
    """Write a fake slice without preamble and file meta."""
    ds.preamble = None
    del ds.file_meta
    ds.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return path


def write_stack(folder: Path, heights: Sequence[float], **overrides: Any) -> list[Path]:
    """Write one slice per height, numbered from 1."""
    return [write(fake_slice(z, i, **overrides), folder / f"{i:03d}") for i, z in enumerate(heights, start=1)]


def fake_derivation(**overrides: Any) -> Denoising:
    """A derivation with plausible values."""
    values: dict[str, Any] = {
        "model_name": "ct-small",
        "model_sha256": "ab" * 32,
        "strength": 0.5,
        "hu_window": (-1024.0, 3072.0),
        "parameters": "precision=fp32 roi=none",
        "version": "0.1.0",
    }
    return Denoising(**{**values, **overrides})
