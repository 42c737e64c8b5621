"""Fake Enhanced multi-frame CT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage

from tests.dicom.fake import AXIAL, fake_slice

ENHANCED_UID = "1.2.3.7.1"


def enhanced(pixels: Sequence[np.ndarray], heights: Sequence[float], intercepts: Sequence[float]) -> FileDataset:
    """An Enhanced CT object with one frame per array; orientation, spacing and technique are shared."""
    ds = fake_slice(pixels=pixels[0], SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=ENHANCED_UID)
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope"),
        *("RescaleIntercept", "KVP", "ConvolutionKernel", "AcquisitionNumber"),
    ):
        del ds[keyword]
    ds.file_meta.MediaStorageSOPInstanceUID = ENHANCED_UID
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.NumberOfFrames = len(pixels)
    ds.PixelData = b"".join(frame.astype("<i2").tobytes() for frame in pixels)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.5, 0.5], SliceThickness=2.0)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(AXIAL))]
    shared.CTXRayDetailsSequence = [_item(KVP=120.0)]
    shared.CTReconstructionSequence = [_item(ConvolutionKernel="Br38f")]
    shared.CTExposureSequence = [_item(ExposureTimeInms=500.0, XRayTubeCurrentInmA=99.6)]
    shared.CTImageFrameTypeSequence = [_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, (height, intercept) in enumerate(zip(heights, intercepts, strict=True), start=1):
        frame = Dataset()
        frame.FrameContentSequence = [_item(FrameAcquisitionNumber=3, InStackPositionNumber=number)]
        frame.PlanePositionSequence = [_item(ImagePositionPatient=[-10.0, -20.0, height])]
        frame.PixelValueTransformationSequence = [_item(RescaleSlope=1.0, RescaleIntercept=intercept, RescaleType="HU")]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
