"""The bar that a denoiser for clinical images should pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """A bar that a denoiser for clinical images should pass.

    Args:
        name: what is judged.
        unit: of the value.
        limit: in words.
        passes: whether a value is within the limit.
    """

    name: str
    unit: str
    limit: str
    passes: Callable[[float], bool]


NOISE = Criterion("noise change", "%", "-30 to -50 %", lambda value: -50 <= value <= -30)
BIAS = Criterion("largest bias by tissue", "HU", "at most 1 HU", lambda value: value <= 1)
TEXTURE = Criterion("NPS mean frequency, ratio", "", "at least 0.85", lambda value: value >= 0.85)
EDGE_SHARPNESS = Criterion("MTF50 change at 1000 HU", "%", "at most 5 %", lambda value: abs(value) <= 5)
SHARPNESS = Criterion("MTF50 change at 300 HU", "%", "at most 5 %", lambda value: abs(value) <= 5)
LESIONS = Criterion("lesion d', ratio", "", "at least 0.95", lambda value: value >= 0.95)
"""The figures that products with FDA clearance publish (noise, texture, sharpness), CT number accuracy, and that
lesions stay as visible as they were: no filter adds information, and 0.05 is twice the standard error of d'."""

EDGE_SLOPE = Criterion("edge steepness, change", "%", "at most 5 %", lambda value: abs(value) <= 5)
STRUCTURE = Criterion("residual structure", "", "at most 0.25", lambda value: value <= 0.25)
"""For results without a reference. Taking away noise alone scores below 0.05; ct-compact at most 0.08 on the body
phantom, -0.01 to 0.24 on slices of three scans and up to 0.56 on those of a head with 3 HU of noise; a 3x3 median 0.32
to 0.37 and up to 0.1, since it spares the softer borders of scans; a Gaussian filter of 0.7 pixels 0.47 and 0.27 to
0.81."""
