"""CT volumes in files: NIfTI through nibabel, NRRD and MetaImage through SimpleITK. Grid and affine are kept as they
are; in memory the slices are the axial ones, whatever the order of the file's axes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.atomic import atomic_path
from ctclip.data.detached import require_own_values
from ctclip.dicom import is_dicom_file
from ctclip.errors import DataError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_READERS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_READERS)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK counts x and y towards left and posterior, NIfTI towards right and anterior."""

ORTHOGONAL_TOLERANCE = 1e-4
"""Deviation from right angles beyond which ITK's file formats cannot hold a grid, such as one sheared by gantry
tilt."""

CHUNK_BYTES = 1 << 20

FILE_ORDER = (0, 1, 2)
"""The file's axes as they are: its last one counts the slices."""


@dataclass(frozen=True)
class Volume:
    """A CT volume with its place in the patient.

    Args:
        hu: (slices, rows, columns); float32. Slices follow each other along the axis that runs most along the body;
            rows and columns are as the file orders them.
        affine: (4, 4) from (column, row, slice) to millimetres, RAS+.
        dtype: of the file's values; float32 when the file scales its integers. Between file and file they are float32.
        axes: which of the file's axes the columns, rows and slices are.
        header: of a NIfTI file, with its shape; ``None`` for other formats.
    """

    hu: np.ndarray
    affine: np.ndarray
    dtype: np.dtype
    axes: tuple[int, int, int] = FILE_ORDER
    header: Any = None

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel, the mean of both directions."""
        return float(np.linalg.norm(self.affine[:3, :2], axis=0).mean())


def is_volume(path: Path) -> bool:
    """Whether the name says that this is a volume that ctclip reads and writes."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def is_volume_file(path: Path) -> bool:
    """Whether a file, or one that should be there, is a volume by its name and no DICOM by its content."""
    return is_volume(path) and not path.is_dir() and not is_dicom_file(path)


def read_volume(path: Path) -> Volume:
    """Read a 3D volume, or a 2D image as one slice, with one channel.

    Raises:
        DataError: when the file cannot be read, is no such volume or has no place in space.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    volume = _read_nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _read_itk(path)
    steps = volume.affine[:3, :3]
    if not np.isfinite(volume.affine).all() or np.linalg.matrix_rank(steps) < 3:
        raise DataError(
            f"{path.name} has an affine that is no grid: found the steps {steps.round(3).tolist()} mm, expected finite "
            "numbers and three directions; correct its header"
        )
    return _axial(volume)


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume in its data type and its file's order of axes; integers are rounded and clipped, never wrapped.

    A NIfTI file with a header has the header's shape if the grid is as large; an image of two axes or a series of one
    volume becomes a volume of three axes in the other formats.

    Raises:
        DataError: for an unknown extension, a grid that the format cannot hold, or when writing fails.
    """
    if not is_volume(path):
        raise DataError(f"cannot write {path.name}: expected one of {', '.join(VOLUME_SUFFIXES)}")
    stored = _in_file_order(volume)
    with atomic_path(path) as partial:
        try:
            if path.name.lower().endswith(NIFTI_SUFFIXES):
                _write_nifti(partial, stored)
            else:
                _write_itk(partial, stored)
        except (OSError, RuntimeError) as error:
            raise DataError(f"cannot write {path}: {_lines(error)[-1]}") from error  # ITK's begin with its sources


def _axial(volume: Volume) -> Volume:
    """A volume in its file's order with the axis along the body last; one slice alone stays as it is."""
    if len(volume.hu) == 1:
        return volume
    steps = volume.affine[:3, :3]
    along_body = np.abs(steps[2]) / np.maximum(np.linalg.norm(steps, axis=0), np.finfo(np.float64).tiny)
    # The file's own last axis where two are equally far along, as in an affine that says nothing.
    last = max(FILE_ORDER, key=lambda axis: (round(along_body[axis], 6), axis))
    columns, rows = (axis for axis in FILE_ORDER if axis != last)
    axial = _permuted(volume, (columns, rows, last))
    return replace(axial, hu=np.ascontiguousarray(axial.hu), axes=(columns, rows, last))


def _in_file_order(volume: Volume) -> Volume:
    return _permuted(volume, tuple(np.argsort(volume.axes)))


def _permuted(volume: Volume, axes: Sequence[int]) -> Volume:
    """Columns, rows and slices from other axes of the same values; the array's own order is the reverse."""
    return replace(volume, hu=volume.hu.T.transpose(axes).T, affine=volume.affine[:, [*axes, 3]])


def _as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.integer):
        return np.ascontiguousarray(values, dtype)
    limits = np.iinfo(dtype)
    stored = np.empty(values.shape, dtype)
    for target, plane in zip(stored, values, strict=True):  # a copy of one plane at a time
        # float32 holds no int32 limit
        target[...] = np.rint(plane.astype(np.float64)).clip(limits.min, limits.max)
    return stored


def _slices(values: np.ndarray, name: str) -> np.ndarray:
    """(x, y[, z]) values as (slices, rows, columns)."""
    while values.ndim > 3 and values.shape[-1] == 1:  # a series of one volume
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.size == 0:
        raise DataError(f"{name} has shape {values.shape}, expected a 2D or 3D volume with one channel")
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1).T, dtype=np.float32)


def _read_nifti(path: Path) -> Volume:
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        values = np.asanyarray(image.dataobj)
        if path.suffix.lower() == ".gz":
            _check_sum(path)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path.name} cannot be read as NIfTI: {_lines(error)[0]}") from error
    except MemoryError as error:
        raise DataError(f"{path.name} does not fit into memory: its header states {image.shape} voxels") from error
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path.name} holds colours or complex numbers ({values.dtype}), expected one value per voxel")
    dtype = _dtype(values, image.get_data_dtype().newbyteorder("="))
    header = image.header if isinstance(image.header, nib.Nifti1Header) else None
    return Volume(_slices(values, path.name), image.affine, dtype, header=header)


def _dtype(values: np.ndarray, stored: np.dtype) -> np.dtype:
    """What to write: integers that the file does not scale, which come as integers, and float64 as they are."""
    return stored if values.dtype.kind in "iu" or stored == np.float64 else np.dtype(np.float32)


def _check_sum(path: Path) -> None:
    """Unpack a file to its end, where the checksum stands: nibabel stops at the last voxel, whatever it has read."""
    with gzip.open(path) as file:
        while file.read(CHUNK_BYTES):
            pass


def _write_nifti(path: Path, volume: Volume) -> None:
    """With the shape, the units, the codes of the affine and the version of a header that is given."""
    import nibabel as nib

    wide = volume.dtype.kind in "iu" and volume.dtype.itemsize > 4
    dtype = np.dtype(np.int32) if wide else volume.dtype  # NIfTI's int64 is not read by every tool
    values = _as_dtype(volume.hu, dtype).T
    if volume.header is not None:
        shape = volume.header.get_data_shape()
        if _without_single(shape) == _without_single(values.shape):  # else it was cropped since
            values = values.reshape(shape, order="F")
    kind = nib.Nifti2Image if isinstance(volume.header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(values, volume.affine, volume.header)
    image.set_data_dtype(dtype)
    nib.save(image, path)


def _without_single(shape: Sequence[int]) -> list[int]:
    return [length for length in shape if length > 1]


def _read_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    try:
        require_own_values(path)
        # the reader of this format alone: another one may follow what is not looked for here
        image = sitk.ReadImage(str(path), imageIO=ITK_READERS.get(path.suffix.lower(), ""))
    except (OSError, RuntimeError) as error:
        # the library's own words name its source files and the folder
        raise DataError(
            f"{path.name} cannot be read as {path.suffix}: it is damaged, cut short or of another format; get it again"
        ) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(f"{path.name} has {image.GetNumberOfComponentsPerPixel()} values per pixel, expected one")
    values = sitk.GetArrayFromImage(image)
    dims = image.GetDimension()
    directions = np.reshape(image.GetDirection(), (dims, dims)) * image.GetSpacing()
    space = min(dims, 3)  # a fourth axis is time
    affine = np.eye(4)
    affine[:space, :space] = directions[:space, :space]
    affine[:space, 3] = image.GetOrigin()[:space]
    return Volume(_slices(values.T, path.name), LPS_TO_RAS @ affine, _dtype(values, values.dtype))


def _write_itk(path: Path, volume: Volume) -> None:
    import SimpleITK as sitk

    lps = LPS_TO_RAS @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=ORTHOGONAL_TOLERANCE):
        raise DataError(f"the grid is sheared, which {path.suffix} cannot hold; write .nii.gz")
    image = sitk.GetImageFromArray(_as_dtype(volume.hu, volume.dtype))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _lines(error: Exception) -> list[str]:
    return (str(error).strip() or type(error).__name__).splitlines()
