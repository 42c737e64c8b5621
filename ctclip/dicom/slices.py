"""One CT slice: from file to HU, and from HU back to stored values."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    RLELossless,
)
from pydicom.valuerep import VR

from ctclip.dicom.geometry import geometry_of
from ctclip.dicom.lenient import float_of, int_of, quiet_pydicom, value_of
from ctclip.dicom.pixels import (
    PADDING_MAX_HU,
    PixelFormat,
    away_from_padding,
    infer_padding,
    outer_padding,
    padding_range,
    same_sign,
    significant_bits,
)
from ctclip.dicom.streams import declared_image, is_irreversible, require_modest_deflate
from ctclip.dicom.uids import printable_name, printable_uid
from ctclip.errors import SeriesError
from ctclip.units import PADDING_HU

__all__ = ["CTSlice", "pixel_format", "read_slice", "to_stored"]

MAX_SIDE = 8192
"""Largest accepted Rows or Columns: CT matrices end at 2048; the rest is room for long reformats. A damaged header
must not make the decoder ask for gigabytes."""

MAX_ABS_HU = 1e10
"""More than any value of 32 bits: from here on a damaged slope makes numbers that cannot be squared."""

MAX_EXACT_FLOAT32 = 2**24
"""Whole numbers up to here are exact in float32, so that arithmetic with them needs no float64."""

BITS_ALLOCATED = (8, 16, 32)
"""Sizes of a pixel's container that are read; CT Image Storage allows 16 only."""

NATIVE_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
"""Transfer syntaxes that hold the pixels uncompressed."""

WHOLE_CONTAINERS = (*NATIVE_SYNTAXES, RLELossless)
"""Transfer syntaxes that hold the containers with all of their bits; the others hold values."""

LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
"""Transfer syntaxes that are always lossy. JPEG 2000 (1.2.840.10008.1.2.4.91) may be either: there the stream tells."""

MAX_PIXELS_PER_BYTE = 4096
"""Of a compressed stream. More would be memory that the file does not justify."""

ALWAYS_ALLOWED_PIXELS = 2048 * 2048
"""An empty slice is coded in next to nothing."""

KNOWN_VRS = frozenset(vr.value for vr in VR)

EXPORT_AGAIN = "Export or transfer the slice again"


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
        header = _read_dataset(path)
        pixels = _check_header(header)
        slope, intercept = _rescale(header)
        stream = _stream(header)
        container = _decode(header, pixels)
        del header.PixelData
        tagged_range = padding_range(header, pixels)
        stored, padding = _stored_and_padding(header, container, pixels, tagged_range)
        _check_sign(header, stored, pixels)
        syntax = _transfer_syntax(header)
        lossy = syntax in LOSSY_SYNTAXES or is_irreversible(stream)
    with np.errstate(over="ignore", invalid="ignore"):
        hu = _to_hu(stored, slope, intercept)
    if not max(-hu.min(), hu.max()) <= MAX_ABS_HU:  # also for NaN
        raise _unusable(header, f"RescaleSlope {slope:g} gives impossible values", "HU", "Export the original slice")
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
        raise _unusable(ct.header, f"{not_finite} processed pixels are not finite", "finite HU", "Check the model")
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
    padding = padding_range(ct.header, pixels)
    if padding is not None and (padding[0] == padding[1] or ct.to_hu(np.array(padding)).max() <= PADDING_MAX_HU):
        fallen = ~keep & (stored >= padding[0]) & (stored <= padding[1])
        exact = (hu[fallen].astype(np.float64) - ct.intercept) / ct.slope
        stored[fallen] = away_from_padding(stored[fallen], exact, padding, pixels)
    np.copyto(stored, ct.stored, where=keep)
    return stored


def pixel_format(header: pydicom.Dataset) -> PixelFormat:
    """Read how a slice stores its pixels.

    Raises:
        SeriesError: if BitsAllocated, BitsStored, HighBit or PixelRepresentation is missing or makes no sense.
    """
    allocated = int_of(header, "BitsAllocated") or 0
    stored = int_of(header, "BitsStored") or 0
    high_bit = int_of(header, "HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    representation = int_of(header, "PixelRepresentation")
    if allocated not in BITS_ALLOCATED or representation not in (0, 1) or not 0 < stored <= high_bit + 1 <= allocated:
        found = f"{allocated} bits allocated, {stored} stored, high bit {high_bit}, representation {representation}"
        expected = f"{BITS_ALLOCATED} allocated, 0 < stored <= high bit + 1 <= allocated, representation 0 or 1"
        raise _unusable(header, f"pixel description makes no sense: {found}", expected, EXPORT_AGAIN)
    return PixelFormat(allocated, stored, high_bit, bool(representation))


def _unusable(header: pydicom.Dataset, cause: str, expected: str, remedy: str) -> SeriesError:
    """Build the error for one slice: named by UID and transfer syntax only, since file names may hold patient names."""
    syntax = _transfer_syntax(header)
    name = syntax.name if syntax.name != syntax else printable_uid(syntax)
    return SeriesError(f"Slice {printable_name(header)} ({name}): {cause}; expected {expected}. {remedy}.")


def _read_dataset(path: Path) -> pydicom.Dataset:
    # "from None": the original exceptions quote file names and header values
    try:
        content = _read_unchanged(Path(path))
    except OSError as error:
        cause = f"file cannot be read ({type(error).__name__})"
        raise _unusable(pydicom.Dataset(), cause, "a readable file", "Check its permissions") from None
    try:
        file = io.BytesIO(content)
        require_modest_deflate(file)
        dataset = pydicom.dcmread(file, force=True)
    except SeriesError as error:
        raise _unusable(pydicom.Dataset(), str(error), "an image", EXPORT_AGAIN) from None
    except Exception as error:
        cause = f"header cannot be parsed ({type(error).__name__})"
        raise _unusable(pydicom.Dataset(), cause, "a DICOM file", EXPORT_AGAIN) from None
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
        raise _unusable(pydicom.Dataset(), cause, "an export that is complete", "Wait for it and run again")
    return content


def _transfer_syntax(header: pydicom.Dataset) -> UID:
    """Return the stated transfer syntax, or the uncompressed one that a file without file meta was read as."""
    meta = getattr(header, "file_meta", None)
    stated = None if meta is None else value_of(meta, "TransferSyntaxUID")
    if stated:
        return UID(str(stated))
    implicit, little = header.original_encoding
    if little is None:
        return UID("unknown")
    if not little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _check_header(header: pydicom.Dataset) -> PixelFormat:
    """Check everything that must hold before pixels are decoded."""
    if not value_of(header, "PixelData"):
        raise _unusable(header, "PixelData is missing or cut off", "a complete image", EXPORT_AGAIN)
    geometry = geometry_of(header)
    if not (0 < geometry.rows <= MAX_SIDE and 0 < geometry.columns <= MAX_SIDE):
        found = f"Rows x Columns is {geometry.rows} x {geometry.columns}"
        raise _unusable(header, found, f"1 to {MAX_SIDE} each", EXPORT_AGAIN)
    if not geometry.is_complete:
        found = "ImagePositionPatient or ImageOrientationPatient is missing or unreadable"
        raise _unusable(header, found, "3 and 6 numbers", EXPORT_AGAIN)
    frames, samples = int_of(header, "NumberOfFrames") or 1, int_of(header, "SamplesPerPixel") or 1
    if (frames, samples) != (1, 1):
        found = f"{frames} frames with {samples} samples per pixel"
        raise _unusable(header, found, "one frame with one sample", "Export single-frame CT images")
    _check_representations(header)
    pixels = pixel_format(header)
    _check_length(header, geometry.rows * geometry.columns * pixels.bits_allocated // 8)
    return pixels


def _check_representations(header: pydicom.Dataset) -> None:
    """Check that every element can be copied or replaced: pydicom can do neither with an unknown VR."""
    for tag in header.keys():  # noqa: SIM118 - a Dataset iterates over elements, which parses them
        try:
            stated = header.get_item(tag).VR
        except NotImplementedError:  # get_item parses some elements
            stated = "unknown"
        if stated is not None and stated not in KNOWN_VRS:
            raise _unusable(header, f"element {tag} has an unknown VR", "a VR of the standard", EXPORT_AGAIN)


def _check_length(header: pydicom.Dataset, expected: int) -> None:
    """Check the length of uncompressed pixels, before anything of that size is allocated."""
    if _transfer_syntax(header) in NATIVE_SYNTAXES and len(header.PixelData) < expected:
        found = f"PixelData holds {len(header.PixelData)} bytes"
        raise _unusable(header, found, f"{expected} from Rows, Columns and BitsAllocated", EXPORT_AGAIN)


def _rescale(header: pydicom.Dataset) -> tuple[float, float]:
    slope, intercept = float_of(header, "RescaleSlope"), float_of(header, "RescaleIntercept")
    if not slope or intercept is None:
        found = "RescaleSlope or RescaleIntercept is missing, zero or no number"
        raise _unusable(header, found, "both, since HU cannot be known without", "Export the original slice")
    return slope, intercept


def _to_hu(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """``slope * stored + intercept``, computed in float64, or in float32 where the result is the same."""
    largest = abs(slope) * 2 ** (8 * stored.itemsize) + abs(intercept)
    is_exact = slope.is_integer() and intercept.is_integer() and largest <= MAX_EXACT_FLOAT32
    hu = np.multiply(stored, slope, dtype=np.float32 if is_exact else np.float64)
    hu += intercept
    return hu.astype(np.float32, copy=False)


def _stream(header: pydicom.Dataset) -> bytes:
    """The compressed stream, b"" when there is none; checked before a decoder allocates what it asks for."""
    if _transfer_syntax(header) in NATIVE_SYNTAXES:
        return b""
    try:
        stream = next(generate_frames(header.PixelData, number_of_frames=1))
    except Exception:
        return b""  # the decoder will say so
    rows, columns = header.Rows, header.Columns
    if rows * columns > max(ALWAYS_ALLOWED_PIXELS, MAX_PIXELS_PER_BYTE * len(stream)):
        found = f"{rows} x {columns} pixels from a stream of {len(stream)} bytes"
        raise _unusable(header, found, f"at most {MAX_PIXELS_PER_BYTE} pixels per byte", EXPORT_AGAIN)
    declared = declared_image(stream)
    if declared is not None and declared[0] and declared != (rows, columns, 1):
        found = "the stream holds {} x {} pixels with {} components".format(*declared)
        raise _unusable(header, found, f"{rows} x {columns} with 1 from the header", EXPORT_AGAIN)
    return stream


def _decode(header: pydicom.Dataset, pixels: PixelFormat) -> np.ndarray:
    """Return the pixel containers as decoded, in native byte order."""
    header.file_meta = getattr(header, "file_meta", None) or pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = _transfer_syntax(header)
    try:
        # unused bits are dealt with below, where padding can still be seen in them
        decoded = pixel_array(_image(header, pixels), raw=True, correct_unused_bits=False)
    except Exception as error:
        cause = f"pixel data cannot be decoded ({type(error).__name__})"
        expected = "a complete stream in the stated transfer syntax and a decoder for it"
        raise _unusable(header, cause, expected, f"{EXPORT_AGAIN}, uncompressed if possible") from error
    shape = (header.Rows, header.Columns)
    if decoded.shape != shape:
        raise _unusable(header, f"decoded image is {decoded.shape}", f"{shape} from the header", EXPORT_AGAIN)
    return decoded.astype(pixels.dtype)


def _image(header: pydicom.Dataset, pixels: PixelFormat) -> pydicom.Dataset:
    """What a decoder needs, as it has been understood here: a broken NumberOfFrames must not stop it."""
    image = pydicom.Dataset()
    image.file_meta = header.file_meta
    image.Rows, image.Columns = header.Rows, header.Columns
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = pixels.bits_allocated, pixels.bits_stored, pixels.high_bit
    image.PixelRepresentation = int(pixels.signed)
    image["PixelData"] = header["PixelData"]
    return image


def _stored_and_padding(
    header: pydicom.Dataset, container: np.ndarray, pixels: PixelFormat, padding: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored values and the pixels that are padding according to the header.

    Padding may lie outside the range of BitsStored (-2000 in 12 bits): it is looked for in the whole container too,
    and kept as it is.
    """
    placed = _transfer_syntax(header) in WHOLE_CONTAINERS
    shift = pixels.high_bit + 1 - pixels.bits_stored if placed else 0
    stored = significant_bits(container, pixels, shift)
    if padding is None:
        return stored, np.zeros(stored.shape, dtype=bool)
    low, high = padding
    whole = (container >= low) & (container <= high)
    if shift:
        whole[:] = False  # containers and values are not on the same scale
    stored = np.where(whole, container, stored)
    return stored, (stored >= low) & (stored <= high)


def _check_sign(header: pydicom.Dataset, stored: np.ndarray, pixels: PixelFormat) -> None:
    """Refuse pixels whose sign is wrong according to Smallest/LargestImagePixelValue.

    These two are often stale, so a mismatch alone means nothing. It does when both fit exactly once the pixels are
    read in the other sign.
    """
    smallest, largest = int_of(header, "SmallestImagePixelValue"), int_of(header, "LargestImagePixelValue")
    if smallest is None or largest is None or pixels.bits_allocated > 16:
        return
    if (int(stored.min()), int(stored.max())) == (same_sign(smallest, pixels), same_sign(largest, pixels)):
        return
    other = PixelFormat(pixels.bits_allocated, pixels.bits_stored, pixels.high_bit, not pixels.signed)
    flipped = significant_bits(stored, other, 0)
    if (int(flipped.min()), int(flipped.max())) == (same_sign(smallest, other), same_sign(largest, other)):
        cause = f"PixelRepresentation {int(pixels.signed)} contradicts Smallest/LargestImagePixelValue"
        raise _unusable(header, cause, "pixels in the stated sign", "Export the original slice")
