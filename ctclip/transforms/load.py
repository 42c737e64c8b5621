"""Loading of CT for MONAI: volumes and DICOM series alike, in HU."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys

from ctclip.data.pairs import require_same_grid
from ctclip.data.scans import paths_of, read_scan
from ctclip.data.volumes import Volume, is_volume, is_volume_file
from ctclip.errors import DataError

NVIDIA_DECODER = "monai.data.nvimgcodec_pydicom_plugin"
"""MONAI's logger that says on every ``LoadImage`` that NVIDIA's decoder is not installed."""


class CTReader(ImageReader):
    """Reads a CT volume file, or the slices of one DICOM series, in HU.

    Volumes are NIfTI, NRRD or MetaImage, with HU as they stand; values that cannot be HU are refused. DICOM slices are
    given as a list of files in the order of their positions, see :func:`~ctclip.data.series.read_series`.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Any list of files is taken for DICOM; a single name must be a volume's."""
        return not isinstance(filename, (str, os.PathLike)) or is_volume(Path(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **_: Any) -> Volume:
        """Read the file, or the files, named by ``data``.

        Raises:
            DataError: when a volume cannot be read or is not in HU, and for a folder.
            SeriesError: when a slice cannot be read, or the slices are no volume.
        """
        return read_scan(paths_of(data), name_in_errors=True)

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """(X, Y, Z) float32 HU and its meta data."""
        array = img.hu.T
        return array, {
            MetaKeys.AFFINE: img.affine,
            MetaKeys.ORIGINAL_AFFINE: img.affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }


class LoadImageCTd(LoadImaged):
    """MONAI's ``LoadImaged`` with :class:`CTReader` and nothing to fall back on: what it cannot read is an error.

    The last of (1, X, Y, Z) is the axis along the body, whatever the order in the file, and the affine says so: a
    sagittal file of (6, 48, 64) voxels becomes (1, 48, 64, 6). ``LoadImaged`` keeps the file's order, so load what
    belongs together with this one, or bring both into one order with MONAI's ``Orientationd``.
    :class:`~ctclip.transforms.SaveImageCTd` restores the file's order.

    Args:
        keys: items with a file name, or the file names of a DICOM series.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        with warnings.catch_warnings(), _without_log(NVIDIA_DECODER):  # of readers that are never used here
            warnings.simplefilter("ignore")
            super().__init__(keys, image_only=True, ensure_channel_first=True, allow_missing_keys=allow_missing_keys)
        self.reader = CTReader()

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        # A reader given at run time is used alone; without one LoadImage tries every reader that it knows.
        return super().__call__(data, reader or self.reader)


class RequireSameGridd(MapTransform):
    """Refuses volumes of one item that lie on different grids, as ``ctclip evaluate`` does.

    Those of DICOM series are left alone: they have been paired by position, see
    :func:`~ctclip.data.pairs.find_pairs`.

    Args:
        keys: volumes as :class:`LoadImageCTd` gives them.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same items.

        Raises:
            DataError: when two of them differ in size, spacing or place, and without meta data.
        """
        loaded = [require_meta_data(self, data[key]) for key in self.key_iterator(dict(data))]
        volumes = [_volume_of(each) for each in loaded if is_volume_file(Path(each.meta[ImageMetaKey.FILENAME_OR_OBJ]))]
        for other in volumes[1:]:
            require_same_grid(volumes[0], other)
        return dict(data)


def _volume_of(image: MetaTensor) -> Volume:
    return Volume(image[0].numpy().T, image.affine.numpy(), np.dtype(np.float32))


def require_meta_data(transform: object, image: object) -> MetaTensor:
    """The same image, if MONAI keeps account of where it lies and where it came from.

    Raises:
        DataError: when it does not.
    """
    if not isinstance(image, MetaTensor):
        raise DataError(
            f"{type(transform).__name__} needs the meta data of LoadImageCTd, found a {type(image).__name__}; leave "
            "set_track_meta(True)"
        )
    return image


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addFilter(_nothing)
    try:
        yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
