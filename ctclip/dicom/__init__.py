"""DICOM in, DICOM out: find CT series, read slices as HU, write derived slices.

Works on single slices and copies every header, so gantry tilt, gaps and uneven steps need no special care. Needs
neither torch nor MONAI.
"""

from __future__ import annotations

from ctclip.dicom.acquisition import Acquisition, acquisition_of, printable_kernel
from ctclip.dicom.contents import Scan, Series, SkippedFile, SliceFile
from ctclip.dicom.derivation import (
    Denoising,
    Derivation,
    NoiseInsertion,
    derived_instance_uid,
    derived_series_uid,
)
from ctclip.dicom.derived import derive_slice, save_slice
from ctclip.dicom.export import is_dicom_file, opened_export
from ctclip.dicom.geometry import stack_affine
from ctclip.dicom.numbering import derived_series_number, derived_series_numbers
from ctclip.dicom.scanning import scan
from ctclip.dicom.slices import CTSlice, read_slice, to_stored
from ctclip.dicom.uids import derived_uid, frame_uid, patient_key, sop_instance_uid, source_series_uid
from ctclip.dicom.write import write_derived_slices

__all__ = [
    "Acquisition",
    "CTSlice",
    "Denoising",
    "Derivation",
    "NoiseInsertion",
    "Scan",
    "Series",
    "SkippedFile",
    "SliceFile",
    "acquisition_of",
    "derive_slice",
    "derived_instance_uid",
    "derived_series_number",
    "derived_series_numbers",
    "derived_series_uid",
    "derived_uid",
    "frame_uid",
    "is_dicom_file",
    "opened_export",
    "patient_key",
    "printable_kernel",
    "read_slice",
    "save_slice",
    "scan",
    "sop_instance_uid",
    "source_series_uid",
    "stack_affine",
    "to_stored",
    "write_derived_slices",
]
