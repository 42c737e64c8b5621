"""One CT slice: from file to HU, and from HU back to stored values."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from ctclip.dicom.decode import (
    EXPORT_AGAIN,
    check_sign,
    checked_format,
    compressed_stream,
    decoded_containers,
    pixel_format,
    stored_and_padding,
    transfer_syntax,
    unusable,
)
from ctclip.dicom.elements import copy_header
from ctclip.dicom.lenient import float_of, quiet_pydicom
from ctclip.dicom.pixels import PADDING_MAX_HU, away_from_padding, infer_padding, outer_padding, padding_range
from ctclip.dicom.streams import is_irreversible, require_modest_deflate
from ctclip.errors import SeriesError
from ctclip.units import PADDING_HU

__all__ = ["CTSlice", "read_slice", "to_stored", "values_to_avoid"]

MAX_ABS_HU = 1e10
"""More than any value of 32 bits: from here on a damaged slope makes numbers that cannot be squared."""

MAX_EXACT_FLOAT32 = 2**24
"""Whole numbers up to here are exact in float32, so that arithmetic with them needs no float64."""

LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
"""Transfer syntaxes that are always lossy. JPEG 2000 (1.2.840.10008.1.2.4.91) may be either: there the stream tells."""


@dataclass(frozen=True)
class CTSlice:
    """A decoded CT slice.

    Attributes:
        header: the full data set without PixelData; the file meta is ``header.file_meta``.
        stored: decoded stored values, integer, rows x columns.
        slope: RescaleSlope of this slice.
        intercept: RescaleIntercept of this slice.
        hu: ``slope * stored + intercept``, with the accuracy of float64, held as float32.
        padding: pixels outside the reconstruction, which must come back bit-exactly.
        untagged_padding: True when ``padding`` was inferred from the pixels, not stated by PixelPaddingValue.
        source_transfer_syntax: UID of the transfer syntax that the file was read in.
        lossy: True when that compression lost information, whatever the header says.
    """

    header: pydicom.Dataset
    stored: np.ndarray
    slope: float
    intercept: float
    hu: np.ndarray
    padding: np.ndarray
    untagged_padding: bool
    source_transfer_syntax: str
    lossy: bool = False

    def to_hu(self, stored: np.ndarray) -> np.ndarray:
        """Stored values in HU, float64, by this slice's slope and intercept."""
        return self.slope * stored.astype(np.float64) + self.intercept

    def without_padding(self, hu: np.ndarray) -> np.ndarray:
        """HU of this slice, before or after processing, as float32 with :data:`~ctclip.units.PADDING_HU` in place of
        padding: padding may have the value of tissue, and would be measured as such."""
        return np.where(self.padding, np.float32(PADDING_HU), hu.astype(np.float32, copy=False))

    def before_and_after_hu(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """This slice, and what was made of it, given in stored values; both as :meth:`without_padding`."""
        return self.without_padding(self.hu), self.without_padding(self.to_hu(stored))


def read_slice(path: Path) -> CTSlice:
    """Read one CT slice and convert it to HU.

    Preconditions on the file, each reported with its own message:

    * it can be read, and holds a complete PixelData element in a transfer syntax that the installed decoders know;
    * one frame, one sample per pixel, Rows and Columns up to 8192;
    * BitsAllocated 8, 16 or 32, BitsStored and HighBit inside it, PixelRepresentation 0 or 1;
    * ImagePositionPatient and ImageOrientationPatient;
    * RescaleSlope (not 0) and RescaleIntercept: a slice without them is refused, never read as if they were 1 and 0;
    * the sign of the pixels does not contradict Smallest/LargestImagePixelValue.

    Where a JPEG 2000 stream contradicts PixelRepresentation, PixelRepresentation is followed. Bits above BitsStored,
    which old files use for overlays, are cleared.

    Raises:
        SeriesError: for everything that makes the slice unusable. The message names the slice by its SOPInstanceUID.
    """
    with quiet_pydicom():
        dataset = _read_dataset(path)
        # Looking at a value parses it. What stays unparsed is copied and written without being decoded and encoded.
        header = copy_header(dataset)
        pixels = checked_format(dataset)
        slope, intercept = _rescale(dataset)
        stream = compressed_stream(dataset)
        container = decoded_containers(dataset, pixels)
        tagged_range = padding_range(dataset, pixels)
        stored, padding = stored_and_padding(dataset, container, pixels, tagged_range)
        check_sign(dataset, stored, pixels)
        syntax = transfer_syntax(dataset)
        lossy = syntax in LOSSY_SYNTAXES or is_irreversible(stream)
        header.file_meta = dataset.file_meta
        del header.PixelData
    with np.errstate(over="ignore", invalid="ignore"):
        hu = _to_hu(stored, slope, intercept)
    if not max(-hu.min(), hu.max()) <= MAX_ABS_HU:  # also for NaN
        raise unusable(dataset, f"RescaleSlope {slope:g} gives impossible values", "HU", "Export the original slice")
    padding = outer_padding(padding, hu)
    inferred = np.zeros_like(padding) if padding.any() else infer_padding(stored, hu)
    return CTSlice(header, stored, slope, intercept, hu, padding | inferred, bool(inferred.any()), str(syntax), lossy)


def to_stored(ct: CTSlice, hu: np.ndarray) -> np.ndarray:
    """Convert HU back to stored values with the slice's own slope and intercept.

    Values are rounded and clipped to the range of BitsStored. Padding, and every pixel whose HU is exactly that of
    the source, comes back as exactly the source's stored value. Others that would get the PixelPaddingValue, or one of
    its range, get the value beside it: a viewer would take them for padding. A range that reaches above air is left
    alone: it holds tissue, and the value beside it may be hundreds of HU away.

    Args:
        ct: the source slice.
        hu: processed HU, rows x columns.

    Raises:
        ValueError: if ``hu`` has another shape than the slice.
        SeriesError: if pixels that are no padding are NaN or infinite.
    """
    if hu.shape != ct.stored.shape:
        raise ValueError(f"hu has shape {hu.shape}, the slice has {ct.stored.shape}")
    keep = ct.padding | (hu == ct.hu)
    usable = np.isfinite(hu) | keep
    if not usable.all():
        not_finite = np.count_nonzero(~usable)
        raise unusable(ct.header, f"{not_finite} processed pixels are not finite", "finite HU", "Check the model")
    pixels = pixel_format(ct.header)
    # what is infinite is clipped; kept pixels may hold anything, also NaN, which has no integer
    with np.errstate(over="ignore", invalid="ignore"):
        # in place: fresh memory costs more than the arithmetic
        values = np.subtract(hu, ct.intercept, dtype=np.float64)
        if ct.slope != 1:
            values /= ct.slope
        np.rint(values, out=values)
        np.clip(values, pixels.minimum, pixels.maximum, out=values)
        stored = values.astype(ct.stored.dtype)
    padding = values_to_avoid(ct)
    if padding is not None:
        fallen = ~keep & (stored >= padding[0]) & (stored <= padding[1])
        exact = (hu[fallen].astype(np.float64) - ct.intercept) / ct.slope
        stored[fallen] = away_from_padding(stored[fallen], exact, padding, pixels)
    np.copyto(stored, ct.stored, where=keep)
    return stored


def values_to_avoid(ct: CTSlice) -> tuple[int, int] | None:
    """Lowest and highest padding value, where pixels that are no padding must not get it: not where it holds tissue."""
    padding = padding_range(ct.header, pixel_format(ct.header))
    if padding is None or (padding[0] != padding[1] and ct.to_hu(np.array(padding)).max() > PADDING_MAX_HU):
        return None
    return padding


def _read_dataset(path: Path) -> pydicom.Dataset:
    # "from None": the original exceptions quote file names and header values
    try:
        content = _read_unchanged(Path(path))
    except OSError as error:
        cause = f"file cannot be read ({type(error).__name__})"
        raise unusable(pydicom.Dataset(), cause, "a readable file", "Check its permissions") from None
    try:
        file = io.BytesIO(content)
        require_modest_deflate(file)
        dataset = pydicom.dcmread(file, force=True)
    except SeriesError as error:
        raise unusable(pydicom.Dataset(), str(error), "an image", EXPORT_AGAIN) from None
    except Exception as error:
        cause = f"header cannot be parsed ({type(error).__name__})"
        raise unusable(pydicom.Dataset(), cause, "a DICOM file", EXPORT_AGAIN) from None
    # the data set outlives this function and is copied; the whole file need not be
    dataset.buffer = None
    return dataset


def _read_unchanged(path: Path) -> bytes:
    """The whole file, which must not change meanwhile: half of one image and half of another would look like one."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        content = file.read()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(content) != after.st_size:
        cause = "file changed while it was read"
        raise unusable(pydicom.Dataset(), cause, "an export that is complete", "Wait for it and run again")
    return content


def _rescale(header: pydicom.Dataset) -> tuple[float, float]:
    slope, intercept = float_of(header, "RescaleSlope"), float_of(header, "RescaleIntercept")
    if not slope or intercept is None:
        found = "RescaleSlope or RescaleIntercept is missing, zero or no number"
        raise unusable(header, found, "both, since HU cannot be known without", "Export the original slice")
    return slope, intercept


def _to_hu(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """``slope * stored + intercept``, computed in float64, or in float32 where the result is the same."""
    largest = abs(slope) * 2 ** (8 * stored.itemsize) + abs(intercept)
    is_exact = slope.is_integer() and intercept.is_integer() and largest <= MAX_EXACT_FLOAT32
    hu = np.multiply(stored, slope, dtype=np.float32 if is_exact else np.float64)
    hu += intercept
    return hu.astype(np.float32, copy=False)
