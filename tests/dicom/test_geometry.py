"""Where a stack of slices lies, in the coordinates of NIfTI."""

from __future__ import annotations

import numpy as np
import pytest

from ctclip.dicom import stack_affine
from ctclip.dicom.geometry import geometry_of, same_stack

from .fake import AXIAL, SAGITTAL, fake_slice

SPACING = [0.6, 0.5]
"""Between rows, then between columns (PS3.3 10.7.1.3)."""


def test_columns_rows_and_slices_have_their_own_steps() -> None:
    headers = [fake_slice(z, PixelSpacing=SPACING) for z in (1.0, 3.0, 5.0)]
    expected = [[-0.5, 0, 0, 10], [0, -0.6, 0, 20], [0, 0, 2, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack_affine(headers), expected, atol=1e-12)


@pytest.mark.parametrize(("thickness", "step_mm"), [(2.5, 2.5), (None, 1.0)])
def test_a_single_slice_is_as_thick_as_it_says(thickness: float | None, step_mm: float) -> None:
    header = fake_slice(7.0, orientation=SAGITTAL, PixelSpacing=SPACING, SliceThickness=thickness)
    # rows run to the back, columns to the feet, and the normal to the right
    expected = [[0, 0, step_mm, 10], [-0.5, 0, 0, 20], [0, -0.6, 0, 7], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack_affine([header]), expected, atol=1e-12)


def test_slices_without_pixel_spacing_count_as_1_mm() -> None:
    headers = [fake_slice(z, PixelSpacing=None) for z in (0.0, 2.0)]
    np.testing.assert_allclose(np.diag(stack_affine(headers)), [-1, -1, 2, 1])


def test_slices_without_a_position_have_no_affine() -> None:
    with pytest.raises(ValueError, match="no usable position"):
        stack_affine([fake_slice(ImagePositionPatient=None)])


@pytest.mark.parametrize(("difference", "same"), [(0.0008, True), (-0.0008, True), (0.002, False), (-0.002, False)])
@pytest.mark.parametrize("index", [1, 2, 5])
def test_slices_of_one_stack_agree_in_their_directions(index: int, difference: float, same: bool) -> None:
    turned = [value + difference * (place == index) for place, value in enumerate(AXIAL)]
    one, other = (geometry_of(fake_slice(orientation=each)) for each in (AXIAL, turned))
    assert same_stack(one, other) is same


@pytest.mark.parametrize(("length", "usable"), [(0.85, False), (0.95, True), (1.05, True)])
def test_directions_that_are_no_unit_vectors_at_right_angles_are_none(length: float, usable: bool) -> None:
    shortened = (1.0, 0.0, 0.0, 0.0, length, 0.0)
    slanting = (1.0, 0.0, 0.0, np.sqrt(max(0.0, 1 - length**2)), length, 0.0)
    for orientation in (shortened, slanting):
        geometry = geometry_of(fake_slice(orientation=orientation))
        assert geometry.is_complete is usable
        if usable:
            np.testing.assert_allclose(geometry.normal, [0, 0, 1])
