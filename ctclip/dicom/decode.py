"""The pixels of a CT slice, from its header and its stream to stored values; what cannot be trusted is refused."""

from __future__ import annotations

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
    RLELossless,
)
from pydicom.valuerep import VR

from ctclip.dicom.geometry import geometry_of
from ctclip.dicom.lenient import int_of, value_of
from ctclip.dicom.pixels import PixelFormat, same_sign, significant_bits
from ctclip.dicom.streams import declared_image
from ctclip.dicom.uids import printable_name, printable_uid
from ctclip.errors import SeriesError

__all__ = [
    "EXPORT_AGAIN",
    "check_sign",
    "checked_format",
    "compressed_stream",
    "decoded_containers",
    "pixel_format",
    "stored_and_padding",
    "transfer_syntax",
    "unusable",
]

MAX_SIDE = 8192
"""Largest accepted Rows or Columns: CT matrices end at 2048; the rest is room for long reformats. A damaged header
must not make the decoder ask for gigabytes."""

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

MAX_PIXELS_PER_BYTE = 4096
"""Of a compressed stream. More would be memory that the file does not justify."""

ALWAYS_ALLOWED_PIXELS = 2048 * 2048
"""An empty slice is coded in next to nothing."""

KNOWN_VRS = frozenset(vr.value for vr in VR)

EXPORT_AGAIN = "Export or transfer the slice again"


def transfer_syntax(header: pydicom.Dataset) -> UID:
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


def checked_format(header: pydicom.Dataset) -> PixelFormat:
    """Return how the pixels are stored, once everything that must hold before they are decoded has been checked.

    Raises:
        SeriesError: for the first that does not hold.
    """
    if not value_of(header, "PixelData"):
        raise unusable(header, "PixelData is missing or cut off", "a complete image", EXPORT_AGAIN)
    geometry = geometry_of(header)
    if not (0 < geometry.rows <= MAX_SIDE and 0 < geometry.columns <= MAX_SIDE):
        found = f"Rows x Columns is {geometry.rows} x {geometry.columns}"
        raise unusable(header, found, f"1 to {MAX_SIDE} each", EXPORT_AGAIN)
    if not geometry.is_complete:
        found = "ImagePositionPatient or ImageOrientationPatient is missing or unreadable"
        raise unusable(header, found, "3 and 6 numbers", EXPORT_AGAIN)
    frames, samples = int_of(header, "NumberOfFrames") or 1, int_of(header, "SamplesPerPixel") or 1
    if (frames, samples) != (1, 1):
        found = f"{frames} frames with {samples} samples per pixel"
        raise unusable(header, found, "one frame with one sample", "Export single-frame CT images")
    _check_representations(header)
    pixels = pixel_format(header)
    _check_length(header, geometry.rows * geometry.columns * pixels.bits_allocated // 8)
    return pixels


def _check_representations(header: pydicom.Dataset) -> None:
    """Check that every element can be copied or replaced: pydicom can do neither with an unknown VR."""
    for tag, element in header.items():
        if element.VR is not None and element.VR not in KNOWN_VRS:
            raise unusable(header, f"element {tag} has an unknown VR", "a VR of the standard", EXPORT_AGAIN)


def _check_length(header: pydicom.Dataset, expected: int) -> None:
    """Check the length of uncompressed pixels, before anything of that size is allocated."""
    if transfer_syntax(header) in NATIVE_SYNTAXES and len(header.PixelData) < expected:
        found = f"PixelData holds {len(header.PixelData)} bytes"
        raise unusable(header, found, f"{expected} from Rows, Columns and BitsAllocated", EXPORT_AGAIN)


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
        raise unusable(header, f"pixel description makes no sense: {found}", expected, EXPORT_AGAIN)
    return PixelFormat(allocated, stored, high_bit, bool(representation))


def unusable(header: pydicom.Dataset, cause: str, expected: str, remedy: str) -> SeriesError:
    """Build the error for one slice: named by UID and transfer syntax only, since file names may hold patient names."""
    syntax = transfer_syntax(header)
    name = syntax.name if syntax.name != syntax else printable_uid(syntax)
    return SeriesError(f"Slice {printable_name(header)} ({name}): {cause}; expected {expected}. {remedy}.")


def compressed_stream(header: pydicom.Dataset) -> bytes:
    """The compressed stream, b"" when there is none; checked before a decoder allocates what it asks for."""
    if transfer_syntax(header) in NATIVE_SYNTAXES:
        return b""
    try:
        stream = next(generate_frames(header.PixelData, number_of_frames=1))
    except Exception:
        return b""  # the decoder will say so
    rows, columns = header.Rows, header.Columns
    if rows * columns > max(ALWAYS_ALLOWED_PIXELS, MAX_PIXELS_PER_BYTE * len(stream)):
        found = f"{rows} x {columns} pixels from a stream of {len(stream)} bytes"
        raise unusable(header, found, f"at most {MAX_PIXELS_PER_BYTE} pixels per byte", EXPORT_AGAIN)
    declared = declared_image(stream)
    if declared is not None and declared[0] and declared != (rows, columns, 1):
        found = "the stream holds {} x {} pixels with {} components".format(*declared)
        raise unusable(header, found, f"{rows} x {columns} with 1 from the header", EXPORT_AGAIN)
    return stream


def decoded_containers(header: pydicom.Dataset, pixels: PixelFormat) -> np.ndarray:
    """Return the pixel containers as decoded, in native byte order."""
    header.file_meta = getattr(header, "file_meta", None) or pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = transfer_syntax(header)
    try:
        # unused bits are dealt with below, where padding can still be seen in them
        decoded = pixel_array(_image(header, pixels), raw=True, correct_unused_bits=False)
    except Exception as error:
        cause = f"pixel data cannot be decoded ({type(error).__name__})"
        expected = "a complete stream in the stated transfer syntax and a decoder for it"
        raise unusable(header, cause, expected, f"{EXPORT_AGAIN}, uncompressed if possible") from error
    shape = (header.Rows, header.Columns)
    if decoded.shape != shape:
        raise unusable(header, f"decoded image is {decoded.shape}", f"{shape} from the header", EXPORT_AGAIN)
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


def stored_and_padding(
    header: pydicom.Dataset, container: np.ndarray, pixels: PixelFormat, padding: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored values and the pixels that are padding according to the header.

    Padding may lie outside the range of BitsStored (-2000 in 12 bits): it is looked for in the whole container too,
    and kept as it is.
    """
    placed = transfer_syntax(header) in WHOLE_CONTAINERS
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


def check_sign(header: pydicom.Dataset, stored: np.ndarray, pixels: PixelFormat) -> None:
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
        raise unusable(header, cause, "pixels in the stated sign", "Export the original slice")
