"""What compressed pixels and files declare about themselves, looked at before anything of that size is allocated."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ctclip.dicom.classify import START_BYTES
from ctclip.dicom.lenient import text_of
from ctclip.errors import SeriesError

__all__ = ["declared_image", "is_irreversible", "require_modest_deflate"]

MAX_DEFLATE_RATIO = 200
"""Inflated over deflated size, from which a file is a trap: CT compresses by less than 20."""

SMALL_BYTES = 16 << 20
"""What a deflated file may always grow to: an empty slice is as small as nothing."""

CHUNK_BYTES = 1 << 20

META_GROUP = 0x0002

J2K_START = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and the marker of its image and tile size (ISO 15444-1 A.4)."""

J2K_CODING_STYLE, J2K_TILE = 0x52, 0x90
WAVELET_AT = 11
"""Place of the transformation in the segment of the coding style (ISO 15444-1 A.6.1), its length included."""

JPEG_START = b"\xff\xd8"
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame header of JPEG (ISO 10918-1 B.2.2) and JPEG-LS."""


def require_modest_deflate(file: BinaryIO) -> None:
    """Refuse a deflated file that would grow out of proportion; the position in the file is as before.

    Raises:
        SeriesError: when it would.
    """
    start = file.tell()
    if _is_deflated(file):
        packed = file.read()
        limit = max(SMALL_BYTES, MAX_DEFLATE_RATIO * len(packed))
        if _inflates_beyond(packed, limit):
            raise SeriesError(
                f"deflated file of {len(packed)} bytes would grow more than {MAX_DEFLATE_RATIO} times; "
                "CT does so by less than 20 times"
            )
    file.seek(start)


def _inflates_beyond(packed: bytes, limit: int) -> bool:
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while packed and size <= limit:
            size += len(inflater.decompress(packed, CHUNK_BYTES))
            packed = inflater.unconsumed_tail
    except zlib.error:
        return False  # pydicom will say so
    return size > limit


def _is_deflated(file: BinaryIO) -> bool:
    if file.read(START_BYTES)[-4:] != b"DICM":
        file.seek(-min(START_BYTES, file.tell()), 1)
    meta = read_dataset(file, False, True, stop_when=_after_meta)
    return text_of(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def _after_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != META_GROUP


def declared_image(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 stream; None when it does not say, or is none."""
    start = stream.find(J2K_START)
    if start >= 0 and not stream.startswith(JPEG_START):
        # after marker and length come capabilities, then size and offset of the image: columns first
        numbers = stream[start + 8 : start + 24]
        if len(stream) < start + 42:
            return None
        right, bottom, left, top = (int.from_bytes(numbers[i : i + 4], "big") for i in range(0, 16, 4))
        return bottom - top, right - left, int.from_bytes(stream[start + 40 : start + 42], "big")
    for marker, segment in _segments(stream, stream.find(JPEG_START)):
        if marker in JPEG_FRAMES and len(segment) >= 8:
            return int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[5:7], "big"), segment[7]
    return None


def is_irreversible(stream: bytes) -> bool:
    """Whether a JPEG 2000 stream uses the wavelet that loses information, whatever the header says."""
    for marker, segment in _segments(stream, stream.find(J2K_START)):
        if marker == J2K_CODING_STYLE:
            return len(segment) > WAVELET_AT and segment[WAVELET_AT] == 0
    return False


def _segments(stream: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Each marker of a stream's main header with its segment, the two bytes of its length included."""
    at = start + 2
    while start >= 0 and at + 4 <= len(stream) and stream[at] == 0xFF and stream[at + 1] != J2K_TILE:
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        yield stream[at + 1], stream[at + 2 : at + 2 + length]
        at += 2 + max(length, 2)
