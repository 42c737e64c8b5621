"""Where slices lie in the patient: grouping, order and what is unusual about it.

Denoising works slice by slice and copies the geometry, so nothing here makes a series unusable. Order always comes from
ImagePositionPatient along the slice normal, never from InstanceNumber or file names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pydicom

from ctclip.dicom.lenient import float_of, floats_of, int_of, text_of

__all__ = ["Geometry", "geometry_of", "is_axial", "same_stack", "stack_affine", "stack_warnings"]

AXIAL_COSINE = math.cos(math.radians(35.0))
"""A slice is axial when \\|normal_z\\| exceeds this. Gantries tilt by up to 30 degrees; 5 more leave room for
rounding."""

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of direction cosines inside one stack (0.06 degrees): real exports round them to 4 to 7 digits."""

SPACING_TOLERANCE_MM = 1e-3
"""Largest difference of PixelSpacing inside one stack: half a millimetre over a matrix of 512."""

POSITION_TOLERANCE_MM = 1e-2
"""Slices closer than this lie at the same position; no scanner reconstructs steps of 0.01 mm."""

STEP_TOLERANCE = 0.02
"""Largest relative difference from the median step that still counts as even: positions are often rounded to 0.01
mm."""

TILT_TOLERANCE_DEGREES = 0.5
"""Smallest angle between slice normal and table direction that is reported as gantry tilt; gantries tilt in steps of
0.5."""

MIN_CROSS_PRODUCT = 0.9
"""The two direction cosines must be unit vectors at right angles, so their cross product has length 1; below this
they are no orientation at all."""

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Geometry:
    """Size, place and direction of one slice; None where the header does not say."""

    rows: int
    columns: int
    orientation: Vector | None
    position: Vector | None
    spacing: Vector | None
    frame_of_reference_uid: str

    @cached_property
    def normal(self) -> np.ndarray | None:
        """Unit vector at right angles to the slice, or None without a usable orientation."""
        if self.orientation is None:
            return None
        # written out: numpy's cross product and norm take longer than parsing the numbers
        ax, ay, az, bx, by, bz = self.orientation
        cross = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
        length = math.hypot(*cross)
        return np.array(cross) / length if MIN_CROSS_PRODUCT < length < math.inf else None

    @property
    def is_complete(self) -> bool:
        """Whether the slice can be placed: matrix, position and orientation are all there."""
        return self.rows > 0 and self.columns > 0 and self.position is not None and self.normal is not None

    @property
    def position_mm(self) -> float:
        """ImagePositionPatient along the normal, in mm; NaN when it is unknown."""
        if self.position is None or self.normal is None:
            return math.nan
        return float(np.dot(self.position, self.normal))


def geometry_of(header: pydicom.Dataset) -> Geometry:
    """Read the geometry of one slice; what is missing or unreadable becomes None or 0."""
    return Geometry(
        rows=int_of(header, "Rows") or 0,
        columns=int_of(header, "Columns") or 0,
        orientation=floats_of(header, "ImageOrientationPatient", 6),
        position=floats_of(header, "ImagePositionPatient", 3),
        spacing=floats_of(header, "PixelSpacing", 2),
        frame_of_reference_uid=text_of(header, "FrameOfReferenceUID"),
    )


def is_axial(geometry: Geometry) -> bool:
    """Whether a slice is axial, gantry tilt included.

    ImageType is not asked: tools that reformat often leave ORIGINAL, PRIMARY, AXIAL in place.
    """
    normal = geometry.normal
    return normal is not None and abs(float(normal[2])) > AXIAL_COSINE


def same_stack(one: Geometry, other: Geometry) -> bool:
    """Whether two slices may be stacked: same matrix, orientation, pixel spacing and frame of reference."""
    if one.is_complete != other.is_complete:
        return False
    return (
        (one.rows, one.columns, one.frame_of_reference_uid) == (other.rows, other.columns, other.frame_of_reference_uid)
        and _close(one.orientation, other.orientation, ORIENTATION_TOLERANCE)
        and _close(one.spacing, other.spacing, SPACING_TOLERANCE_MM)
    )


def _close(one: Vector | None, other: Vector | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= tolerance


def stack_warnings(stack: Sequence[Geometry]) -> list[str]:
    """Describe what is unusual about a sorted stack of complete geometries, one line each."""
    if len(stack) < 2:
        return []
    steps = np.diff([geometry.position_mm for geometry in stack])
    found = [_duplicate_warning(steps), _step_warning(steps[steps > POSITION_TOLERANCE_MM]), _tilt_warning(stack)]
    return [warning for warning in found if warning]


def _duplicate_warning(steps: np.ndarray) -> str:
    count = int(np.count_nonzero(steps <= POSITION_TOLERANCE_MM))
    return f"duplicate positions: {count} slices lie where another one lies" if count else ""


def _step_warning(steps: np.ndarray) -> str:
    """Tell missing slices (all steps are multiples of the smallest) from a step that varies by design."""
    if steps.size < 2:
        return ""
    median = float(np.median(steps))
    if np.all(np.abs(steps - median) <= STEP_TOLERANCE * median + POSITION_TOLERANCE_MM):
        return ""
    multiples = np.rint(steps / median)
    # a step below the median is a second spacing, not a gap, and no multiple of it
    if np.all(np.abs(steps - multiples * median) <= STEP_TOLERANCE * steps):
        return f"missing slices: {int(np.sum(multiples - 1))} (step {median:.2f} mm, largest {steps.max():.2f} mm)"
    return f"uneven step: {steps.min():.2f} to {steps.max():.2f} mm"


def _tilt_warning(stack: Sequence[Geometry]) -> str:
    """Compare the normal with the way from slice to slice: they differ under gantry tilt, not in a reformat."""
    first, last = stack[0], stack[-1]
    if first.normal is None or first.position is None or last.position is None:
        return ""
    travel = np.subtract(last.position, first.position)
    length = float(np.linalg.norm(travel))
    if length <= POSITION_TOLERANCE_MM:
        return ""
    cosine = min(1.0, abs(float(np.dot(travel, first.normal))) / length)
    degrees = math.degrees(math.acos(cosine))
    return f"gantry tilt of {degrees:.1f} degrees" if degrees > TILT_TOLERANCE_DEGREES else ""


def stack_affine(headers: Sequence[pydicom.Dataset]) -> np.ndarray:
    """Where a stack of slices lies: from (column, row, slice) to millimetres, RAS+ as in NIfTI.

    The step from slice to slice is the mean one; uneven steps have no affine, and the pixels are not touched. Missing
    PixelSpacing counts as 1 mm, a single slice as SliceThickness (or 1 mm) thick.

    Args:
        headers: of the slices, with complete geometry, in the order of their positions.

    Returns:
        (4, 4) float64.
    """
    first, last = geometry_of(headers[0]), geometry_of(headers[-1])
    if first.orientation is None or first.position is None or last.position is None or first.normal is None:
        raise ValueError("a slice has no usable position or orientation")
    row_mm, column_mm = first.spacing or (1.0, 1.0)
    if len(headers) > 1:
        step = np.subtract(last.position, first.position) / (len(headers) - 1)
    else:
        step = first.normal * (float_of(headers[0], "SliceThickness") or 1.0)
    lps = np.eye(4)
    lps[:3, 0] = np.multiply(first.orientation[:3], column_mm)
    lps[:3, 1] = np.multiply(first.orientation[3:], row_mm)
    lps[:3, 2], lps[:3, 3] = step, first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
