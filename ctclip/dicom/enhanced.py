"""Enhanced multi-frame CT: each frame as a CT image of its own, so that the rest of ctclip sees slices only.

An Enhanced object holds many frames in one file; position, rescale and technique stand in "functional groups", shared
or per frame (PS3.3 C.7.6.16 and A.38). A frame becomes a CT Image Storage object whose
ConversionSourceAttributesSequence names the object and the frame that it came from.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage

from ctclip.dicom.lenient import float_of, int_of, quiet_pydicom, text_of, texts_of, value_of
from ctclip.dicom.streams import require_modest_deflate
from ctclip.dicom.uids import frame_uid, sop_class_uid, sop_instance_uid
from ctclip.errors import SeriesError

__all__ = ["split_frames"]

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Where a conversion from single frames keeps what has no place in a functional group."""

CLASSIC_KEYWORDS = frozenset(
    [
        "PixelSpacing",
        "SliceThickness",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "WindowCenter",
        "WindowWidth",
        "WindowCenterWidthExplanation",
        "KVP",
        "ConvolutionKernel",
        "ReconstructionDiameter",
        "GantryDetectorTilt",
        "TableHeight",
        "RotationDirection",
        "RevolutionTime",
        "SingleCollimationWidth",
        "TotalCollimationWidth",
        "TableSpeed",
        "TableFeedPerRotation",
        "SpiralPitchFactor",
        "CTDIvol",
        "FilterType",
        "DataCollectionDiameter",
        "DistanceSourceToDetector",
        "DistanceSourceToPatient",
        "ExposureModulationType",
        "EstimatedDoseSaving",
        "IrradiationEventUID",
        "TemporalPositionIndex",
        "NominalPercentageOfCardiacPhase",
    ]
)
"""Elements of functional groups that a CT image has at its top level under the same name. The last two are an extension
of CT Image Storage (PS3.4 B.5): without them nothing tells the phases of a heart or a perfusion apart."""

RENAMED = {
    "ExposureTimeInms": "ExposureTime",
    "XRayTubeCurrentInmA": "XRayTubeCurrent",
    "ExposureInmAs": "Exposure",
}
"""Elements with another name, and whole numbers, in a CT image."""

MULTI_FRAME_ONLY = (
    *GROUPS,
    "NumberOfFrames",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "DimensionOrganizationType",
    "PixelPresentation",
    "VolumetricProperties",
    "VolumeBasedCalculationTechnique",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FrameIncrementPointer",
    "RepresentativeFrameNumber",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ConcatenationFrameOffsetNumber",
    "SOPInstanceUIDOfConcatenationSource",
)
"""Top-level elements that have no meaning in a single frame."""

SECOND_SOURCE = "CTAdditionalXRaySourceSequence"
"""The second tube of a dual-source scanner, with the same elements as the first: a CT image has room for one."""

PLAIN_FRAME_TYPES = ("", "AXIAL", "LOCALIZER", "VOLUME", "NONE")
"""Values of FrameType behind the second that say no more than that this is a CT image."""

DATE_TIME = re.compile(r"(\d{8})(\d{2}|\d{4}|\d{6}(?:\.\d{1,6})?)(?:[+-]\d{4})?")
"""Date and time of a DT value that states both."""

TYPE_2 = ("AcquisitionNumber", "KVP", "PositionReferenceIndicator", "PatientPosition")
"""Elements that a CT image must have, if only empty."""

MAX_FRAMES = 20_000
"""More than any scan; a damaged header must not make millions of files."""


def split_frames(path: Path, folder: Path) -> int:
    """Write every frame of an Enhanced CT object as a CT image file into a folder.

    Args:
        path: the object.
        folder: an empty folder for the files, under numbers.

    Returns:
        the number of frames.

    Raises:
        SeriesError: when the object cannot be read, or its frames do not fit its header.
    """
    with quiet_pydicom():
        try:
            file = io.BytesIO(path.read_bytes())
            require_modest_deflate(file)
            source = pydicom.dcmread(file, force=True)
            count = 0
            for index, pixel_data in enumerate(_frames(source)):
                image = _single_frame(source, index, pixel_data)
                image.save_as(folder / f"{index + 1:06d}", enforce_file_format=True)
                count += 1
        except (SeriesError, OSError):
            raise
        except Exception as error:
            raise SeriesError(
                f"Enhanced CT cannot be read ({type(error).__name__}); expected complete frames and functional groups"
            ) from None
    return count


def _frames(source: Dataset) -> Iterator[bytes]:
    """The pixel data of each frame, as the single image holds it."""
    count, groups = int_of(source, "NumberOfFrames") or 0, value_of(source, GROUPS[1]) or []
    if not 0 < count <= MAX_FRAMES or len(groups) != count:
        raise SeriesError(f"Enhanced CT states {count} frames and describes {len(groups)}; expected equal numbers")
    if source.file_meta.TransferSyntaxUID.is_encapsulated:
        for frame in generate_frames(source.PixelData, number_of_frames=count):
            yield encapsulate([frame])
        return
    size = source.Rows * source.Columns * source.BitsAllocated // 8
    if len(source.PixelData) < count * size:
        raise SeriesError(
            f"Enhanced CT holds {len(source.PixelData)} bytes of pixels, expected {count * size} for {count} frames"
        )
    for index in range(count):
        frame = source.PixelData[index * size : (index + 1) * size]
        yield frame + b"\0" * (len(frame) % 2)


def _single_frame(source: Dataset, index: int, pixel_data: bytes) -> Dataset:
    image = Dataset()
    for element in source:
        if element.keyword not in MULTI_FRAME_ONLY and element.keyword != "PixelData":
            image[element.tag] = copy.deepcopy(element)
    groups = [value_of(source, GROUPS[0]) or [Dataset()], value_of(source, GROUPS[1])]
    for group in (groups[0][0], groups[1][index]):
        _flatten(group, image)
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = frame_uid(sop_instance_uid(source), index + 1)
    # an object may be one part of many: its frames are numbered behind those of the parts before it
    image.InstanceNumber = (int_of(source, "ConcatenationFrameOffsetNumber") or 0) + index + 1
    for keyword in TYPE_2:
        if keyword not in image:
            setattr(image, keyword, None)
    origin = Dataset()
    origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = sop_class_uid(source), sop_instance_uid(source)
    origin.ReferencedFrameNumber = index + 1
    image.ConversionSourceAttributesSequence = [origin]
    encapsulated = source.file_meta.TransferSyntaxUID.is_encapsulated
    image.add_new("PixelData", "OB" if encapsulated else "OW", pixel_data)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _flatten(group: Dataset, image: Dataset) -> None:
    """Put what a functional group says about a frame where a CT image says it."""
    for macro in group:
        if macro.VR != "SQ" or not macro.value or macro.keyword == SECOND_SOURCE:
            continue
        item = macro.value[0]
        for element in item:
            if element.keyword in CLASSIC_KEYWORDS or macro.keyword in UNASSIGNED:
                image[element.tag] = copy.deepcopy(element)
        for keyword, classic in RENAMED.items():
            number = float_of(item, keyword)
            if number is not None:
                setattr(image, classic, round(number))
        _frame_type(item, image)
        _frame_time(item, image)
        acquisition: Any = int_of(item, "FrameAcquisitionNumber")
        if acquisition is not None:
            image.AcquisitionNumber = acquisition


def _frame_type(item: Dataset, image: Dataset) -> None:
    """ImageType of a CT image: its third value is AXIAL or LOCALIZER."""
    frame_type = texts_of(item, "FrameType")
    if len(frame_type) >= 3:
        third = "LOCALIZER" if frame_type[2] == "LOCALIZER" else "AXIAL"
        # projections and maps are known by the others
        others = (*frame_type[2:], *texts_of(item, "VolumeBasedCalculationTechnique"))
        image.ImageType = [*frame_type[:2], third, *(value for value in others if value not in PLAIN_FRAME_TYPES)]


def _frame_time(item: Dataset, image: Dataset) -> None:
    """When the frame was acquired, rather than the object: frames of a dynamic scan differ in nothing else."""
    moment = DATE_TIME.fullmatch(text_of(item, "FrameAcquisitionDateTime"))
    if moment:
        image.AcquisitionDateTime, image.AcquisitionDate, image.AcquisitionTime = moment.group(0, 1, 2)
