"""Where a stack of slices lies, in the coordinates of NIfTI."""

from __future__ import annotations

import numpy as np
import pytest

from ctclip.dicom import stack_affine

from .fake import SAGITTAL, fake_slice

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
