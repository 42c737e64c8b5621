"""The main job on a phantom whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctclip.denoise import Denoiser
from ctclip.dicom import derived_uid, read_slice, scan
from ctclip.errors import ConfigError
from ctclip.files import make_folder
from ctclip.metrics.image import image_quality
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.pipeline import SeriesJob, SeriesResult, denoise_series
from ctclip.report.images import DIFFERENCE_HU, difference_hu
from ctclip.units import MODEL_HU_WINDOW, SOFT_TISSUE_HU_WINDOW

SD_HU, SEED = 35.0, 7
PIXEL_MM, SLICE_MM = 0.7, 3.0
INTERCEPT = -1024


@dataclass(frozen=True)
class DemoOutcome:
    """What the demonstration made: its result, rows of (window, name, measures), the derived series, the picture."""

    result: SeriesResult
    quality: list[tuple[str, str, dict[str, float]]]
    series: Path
    picture: Path


def run_demo(output: Path, *, slices: int = 20, overwrite: bool = False) -> DemoOutcome:
    """Write ``noisy/`` (DICOM), ``denoised/`` (derived DICOM, full strength) and ``before_after.png`` into ``output``.

    Raises:
        ConfigError: when an earlier demonstration is there and ``overwrite`` is not given.
    """
    noisy_folder = output / "noisy"
    if noisy_folder.exists() and not overwrite:
        raise ConfigError(f"{noisy_folder} exists; give --overwrite to replace an earlier demonstration")
    for left in noisy_folder.glob("[0-9][0-9][0-9][0-9].dcm"):  # there may have been more slices
        left.unlink()
    truth = body_phantom_hu(slices)
    write_ct_series(noisy_folder, low_dose(truth, SD_HU, seed=SEED))
    found = scan(noisy_folder)
    job = SeriesJob(output / "denoised", strength=1.0, overwrite=overwrite)
    result = denoise_series(found.series[0], job, Denoiser.load())
    series, picture = output / "denoised" / result.derived, output / "before_after.png"
    if result.status == "failed":
        return DemoOutcome(result, [], series, picture)
    noisy, denoised = read_series_hu(noisy_folder), read_series_hu(series)
    quality = [
        (f"{window[0]:g} to {window[1]:g}", name, image_quality(volume, truth, window))
        for window in (SOFT_TISSUE_HU_WINDOW, MODEL_HU_WINDOW)
        for name, volume in (("before", noisy), ("after", denoised))
    ]
    save_picture(picture, noisy[slices // 2], denoised[slices // 2])
    return DemoOutcome(result, quality, series, picture)


def read_series_hu(folder: Path) -> np.ndarray:
    """All slices of the first series in a folder, (slices, rows, columns) in HU, by position."""
    return np.stack([read_slice(item.path).hu for item in scan(folder).series[0].slices])


def write_ct_series(folder: Path, volume_hu: np.ndarray) -> None:
    """Write (slices, rows, columns) HU as a plain axial CT series, as a scanner would."""
    make_folder(folder)
    for index, slice_hu in enumerate(volume_hu):
        dataset = _ct_header(index)
        stored = np.clip(np.rint(slice_hu - INTERCEPT), 0, 4095).astype("<u2")
        dataset.Rows, dataset.Columns = stored.shape
        dataset.PixelData = stored.tobytes()
        dataset.save_as(folder / f"{index + 1:04d}.dcm", enforce_file_format=True)


def _ct_header(index: int) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = derived_uid("phantom", "slice", str(index))
    dataset.StudyInstanceUID = derived_uid("phantom", "study")
    dataset.SeriesInstanceUID = derived_uid("phantom", "series")
    dataset.FrameOfReferenceUID = derived_uid("phantom", "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = "Phantom", "PHANTOM"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.ReferringPhysicianName = ""
    dataset.AccessionNumber = dataset.StudyID = ""
    dataset.Manufacturer = "ctclip phantom"
    dataset.BodyPartExamined, dataset.PatientPosition = "ABDOMEN", "HFS"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20240101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AcquisitionNumber, dataset.SeriesNumber, dataset.InstanceNumber = 1, 2, index + 1
    dataset.SeriesDescription = "Body phantom, low dose"
    dataset.KVP, dataset.SliceThickness = 120, SLICE_MM
    dataset.PixelSpacing = [PIXEL_MM, PIXEL_MM]
    dataset.ImagePositionPatient = [0, 0, index * SLICE_MM]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = INTERCEPT, 1, "HU"
    return dataset


def save_picture(path: Path, before_hu: np.ndarray, after_hu: np.ndarray) -> None:
    """Before, after and their difference side by side, in the soft-tissue window.

    Args:
        path: of the PNG.
        before_hu: (rows, columns).
        after_hu: the same shape.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.4), layout="constrained")
    window = SOFT_TISSUE_HU_WINDOW
    panels = (
        ("before", before_hu, window),
        ("after", after_hu, window),
        ("after - before", difference_hu(before_hu, after_hu, window), (-DIFFERENCE_HU, DIFFERENCE_HU)),
    )
    for axis, (title, image, (low, high)) in zip(figure.subplots(1, 3), panels, strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high)
        axis.set_title(f"{title}, {low:g} to {high:g} HU")
        axis.axis("off")
    figure.savefig(path, dpi=80)
