"""Loading of CT for MONAI: volumes and DICOM series alike, in HU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import LoadImaged
from monai.utils import MetaKeys, SpaceKeys

from ctclip.data.volumes import Volume, is_volume, read_volume
from ctclip.dicom import read_slice, stack_affine
from ctclip.errors import SeriesError

PADDING_HU = -2000.0
"""Value of pixels outside the reconstruction, whatever the file stores there: below every window, so that windowing
and :class:`~ctclip.transforms.RestoreOutsideHUWindow` treat them as no tissue."""


class CTReader(ImageReader):
    """Reads a CT volume file, or the slices of one DICOM series, in HU.

    Volumes are NIfTI, NRRD or MetaImage, with HU as they stand. DICOM slices are given as a list of files in the order
    of their positions; each is converted with its own slope and intercept, and padding becomes :data:`PADDING_HU`.
    Nothing is resampled: slices lie behind each other as listed.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Any list of files is taken for DICOM; a single name must be a volume's."""
        return not isinstance(filename, (str, os.PathLike)) or is_volume(Path(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **_: Any) -> Volume:
        """Read the file, or the files, named by ``data``.

        Raises:
            DataError: when a volume cannot be read.
            SeriesError: when a slice cannot be read or slices differ in size.
        """
        names = [Path(data)] if isinstance(data, (str, os.PathLike)) else [Path(name) for name in data]
        if len(names) == 1 and is_volume(names[0]):
            return read_volume(names[0])
        slices = [read_slice(name) for name in names]
        sizes = sorted({ct.hu.shape for ct in slices})
        if len(sizes) > 1:
            raise SeriesError(f"slices of different sizes cannot be one volume: found {sizes}")
        hu = np.stack([np.where(ct.padding, np.float32(PADDING_HU), ct.hu) for ct in slices])
        return Volume(hu, stack_affine([ct.header for ct in slices]), np.dtype(np.int16))

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """(X, Y, Z) float32 HU and its meta data."""
        array = img.hu.T
        return array, {
            MetaKeys.AFFINE: img.affine,
            MetaKeys.ORIGINAL_AFFINE: img.affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            "stored_dtype": img.dtype.str,
        }


class LoadImageCTd(LoadImaged):
    """MONAI's ``LoadImaged`` with :class:`CTReader` and nothing to fall back on: what it cannot read is an error.

    Args:
        keys: items with a file name, or the file names of a DICOM series.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        with warnings.catch_warnings():  # about decoders of readers that are never used here
            warnings.simplefilter("ignore")
            super().__init__(keys, image_only=True, ensure_channel_first=True, allow_missing_keys=allow_missing_keys)
        self.reader = CTReader()

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        # A reader given at run time is used alone; without one LoadImage tries every reader that it knows.
        return super().__call__(data, reader or self.reader)
