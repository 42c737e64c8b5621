"""How pixels are stored: bits, sign and padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pydicom
from scipy import ndimage

from ctclip.dicom.lenient import int_of
from ctclip.units import MODEL_HU_WINDOW

__all__ = [
    "PixelFormat",
    "away_from_padding",
    "infer_padding",
    "outer_padding",
    "padding_range",
    "same_sign",
    "significant_bits",
]

PADDING_MAX_HU = -1000.0
"""Below air, padding is what the tag or the corners say; above, the same value may be anatomy."""


@dataclass(frozen=True)
class PixelFormat:
    """How a slice stores its pixels: the pixel module without rows and columns."""

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native integer type of the container."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def minimum(self) -> int:
        """Smallest stored value that BitsStored admits."""
        return -(2 ** (self.bits_stored - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest stored value that BitsStored admits."""
        return 2 ** (self.bits_stored - int(self.signed)) - 1


def significant_bits(container: np.ndarray, pixels: PixelFormat, shift: int) -> np.ndarray:
    """Clear the bits outside BitsStored and extend the sign; the container is as large as BitsAllocated says."""
    above = pixels.bits_allocated - pixels.bits_stored - shift
    # to the upper end of the container, where nothing is above the value, and back, which extends the sign
    upper = container.view(f"u{container.itemsize}") << above
    return upper.view(pixels.dtype) >> (above + shift)


def padding_range(header: pydicom.Dataset, pixels: PixelFormat) -> tuple[int, int] | None:
    """Return the lowest and highest padding value in the sign of the pixels, None without PixelPaddingValue."""
    value = int_of(header, "PixelPaddingValue")
    if value is None:
        return None
    limit = int_of(header, "PixelPaddingRangeLimit")
    ends = [same_sign(end, pixels) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def away_from_padding(
    stored: np.ndarray, exact: np.ndarray, padding: tuple[int, int], pixels: PixelFormat
) -> np.ndarray:
    """Move stored values that fell onto padding values just beside them: to the side that is nearer, if there is one.

    Args:
        stored: values that are all within ``padding``.
        exact: the same before they were rounded.
        padding: lowest and highest padding value.
        pixels: which values there are.
    """
    below, above = padding[0] - 1, padding[1] + 1
    up = exact >= (padding[0] + padding[1]) / 2
    if below < pixels.minimum or above > pixels.maximum:  # at an end of the range there is one side only
        if below < pixels.minimum and above > pixels.maximum:
            return stored
        up = np.full_like(up, above <= pixels.maximum)
    return np.where(up, above, below).astype(stored.dtype)


def same_sign(value: int, pixels: PixelFormat) -> int:
    """Read a 16-bit value in the sign of the pixels: many files state -2000 as the unsigned 63536."""
    bits = value & 0xFFFF
    return bits - 0x10000 if pixels.signed and bits >= 0x8000 else bits


def outer_padding(padding: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """Tagged padding without pixels of the patient that happen to have its value.

    Where the tag names a value that tissue has too, such as 0 HU, only regions that reach the border of the image are
    padding: single pixels of noise would otherwise become holes in what the network sees.
    """
    doubtful = padding & (hu > PADDING_MAX_HU) & (hu <= MODEL_HU_WINDOW[1])
    if not doubtful.any():
        return padding
    regions, _ = ndimage.label(doubtful)
    # region 0 is all that is not doubtful
    kept = np.concatenate(([0], regions[0], regions[-1], regions[:, 0], regions[:, -1]))
    return padding & np.isin(regions, kept)


def infer_padding(stored: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """Guess untagged padding: one value in all four corners, not above air, outside the inscribed circle."""
    none = np.zeros(stored.shape, dtype=bool)
    corners = stored[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.any(corners != corners[0]) or hu[0, 0] > PADDING_MAX_HU:
        return none
    return _outside_circle(*stored.shape) & (stored == corners[0])


@lru_cache(maxsize=4)  # the slices of a series have one size
def _outside_circle(rows: int, columns: int) -> np.ndarray:
    y, x = np.ogrid[:rows, :columns]
    radius = min(rows, columns) / 2
    return np.asarray((y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2 > radius**2)
