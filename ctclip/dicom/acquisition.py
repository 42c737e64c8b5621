"""What two series must share to show the same thing in the same way."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pydicom

from ctclip.dicom.lenient import float_of, floats_of, int_of, quiet_pydicom, texts_of

__all__ = ["Acquisition", "acquisition_of"]

NUMBER_TOLERANCE = 1e-3
"""Half a millimetre of PixelSpacing over a matrix of 512, 0.06 degrees of orientation."""


@dataclass(frozen=True)
class Acquisition:
    """How a slice was reconstructed, by the keywords of its header; ``None`` or empty where it does not say."""

    Rows: int | None
    Columns: int | None
    PixelSpacing: tuple[float, ...] | None
    SliceThickness: float | None
    ConvolutionKernel: tuple[str, ...]
    ImageOrientationPatient: tuple[float, ...] | None

    def difference(self, other: Acquisition) -> str:
        """The first difference in words, such as "ConvolutionKernel B30f and D45f"; empty when there is none."""
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if not _same(one, two):
                return f"{field.name} {_text(one)} and {_text(two)}"
        return ""


def acquisition_of(path: Path) -> Acquisition:
    """Read how the slice in a file was reconstructed."""
    with quiet_pydicom():
        header = pydicom.dcmread(
            path, force=True, stop_before_pixels=True, specific_tags=[field.name for field in fields(Acquisition)]
        )
        return Acquisition(
            Rows=int_of(header, "Rows"),
            Columns=int_of(header, "Columns"),
            PixelSpacing=floats_of(header, "PixelSpacing", 2),
            SliceThickness=float_of(header, "SliceThickness"),
            ConvolutionKernel=texts_of(header, "ConvolutionKernel"),
            ImageOrientationPatient=floats_of(header, "ImageOrientationPatient", 6),
        )


def _same(one: object, two: object) -> bool:
    """Equality, but for digits: exports write the same number with 4 to 7 of them."""
    if one is None or two is None or one == two:
        return one == two
    try:
        return bool(np.allclose(one, two, rtol=0, atol=NUMBER_TOLERANCE))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # texts, or numbers of another count
        return False


def _text(value: object) -> str:
    if value is None or value == ():
        return "not stated"
    return "/".join(f"{item}" for item in value) if isinstance(value, tuple) else f"{value}"
