"""What two series must share to show the same thing in the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pydicom

from ctclip.dicom.lenient import float_of, floats_of, int_of, quiet_pydicom, texts_of

__all__ = ["Acquisition", "acquisition_of", "printable_kernel"]

NUMBER_TOLERANCE = 1e-3
"""Half a millimetre of PixelSpacing over a matrix of 512, 0.06 degrees of orientation."""

KERNEL_CODE = re.compile(r"[A-Z]{1,2}[a-z]?\d{1,3}[a-z]{0,2}(-H)?|\d|[A-Z]{1,2}")
"""Kernels of Siemens (B30f, Br38f, Qr40d, and a number behind it), Canon (FC18) and Philips (YB)."""

KERNEL_WORDS = frozenset(
    (
        *("STANDARD", "STD", "STND", "SOFT", "SMOOTH", "SHARP", "MEDIUM", "LUNG", "CHEST", "CHST", "BONE", "BONEPLUS"),
        *("DETAIL", "EDGE", "ULTRA", "BRAIN", "HEAD", "BODY", "HD", "ABDOMEN", "CARDIAC", "ROUTINE", "PLUS"),
    )
)
"""Kernels of GE and others, and the words that they are made of."""


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
                as_text = _kernel_text if field.name == "ConvolutionKernel" else _text
                return f"{field.name} {as_text(one)} and {as_text(two)}"
        return ""


def printable_kernel(values: tuple[str, ...]) -> str:
    """ConvolutionKernel for output, "" when there is none: a text that names no kernel may name a patient."""
    return "/".join(values) if all(map(_is_kernel, values)) else "unknown name"


def _kernel_text(values: tuple[str, ...]) -> str:
    return printable_kernel(values) or "not stated"


def _is_kernel(text: str) -> bool:
    words = re.split(r"[\s_+-]+", text.upper().strip(" +-"))
    return KERNEL_CODE.fullmatch(text) is not None or all(word in KERNEL_WORDS for word in words)


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
