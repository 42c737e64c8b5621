from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctclip.errors import DataError
from ctclip.metrics.ttf import TaskTransfer, task_transfer_function

SIZE, FINE = 96, 6


def disc(centre: tuple[float, float], radius: float, sigma_px: float, contrast_hu: float = 100.0) -> np.ndarray:
    """A disc blurred by a Gaussian, on pixels much finer than those of the image."""
    axis = (np.arange(SIZE * FINE) + 0.5) / FINE - 0.5
    inside = np.hypot(axis[:, None] - centre[0], axis[None, :] - centre[1]) < radius
    blurred = ndimage.gaussian_filter(contrast_hu * inside.astype(float), sigma_px * FINE)
    return blurred[FINE // 2 :: FINE, FINE // 2 :: FINE][None] + 40  # sampled, not averaged over pixels


@pytest.mark.parametrize("sigma_px", [0.8, 1.2, 2.0])
@pytest.mark.parametrize("centre", [(48.0, 47.5), (45.3, 50.7)])
def test_a_gaussian_blur_has_the_transfer_function_of_its_closed_form(sigma_px: float, centre: tuple) -> None:
    shift = 0.5 / FINE  # the sampled points lie half a fine pixel off the grid
    found = task_transfer_function(disc(centre, 20, sigma_px), (centre[0] - shift, centre[1] - shift), 20, 0.7)
    expected = np.sqrt(np.log(2) / 2) / (np.pi * sigma_px * 0.7)
    assert found.contrast_hu == pytest.approx(100, rel=0.01)
    assert found.ttf[0] == pytest.approx(1)
    assert found.f50_per_mm == pytest.approx(expected, rel=0.03)


def test_a_sharp_disc_has_the_closed_form_at_all_frequencies_that_are_left() -> None:
    """So sharp that the width of the profile's bins would show, were it not made up for."""
    shift = 0.5 / FINE
    found = task_transfer_function(disc((48, 48), 20, 0.5), (48 - shift, 48 - shift), 20, 1.0)
    f = found.frequency_per_mm[found.frequency_per_mm <= 0.37]
    np.testing.assert_allclose(found.ttf[: len(f)], np.exp(-2 * (np.pi * 0.5 * f) ** 2), rtol=0.01)


def test_where_the_curve_falls_is_found_between_its_points() -> None:
    line = TaskTransfer(np.linspace(0, 1, 4), np.linspace(1, 0, 4), 100)
    assert line.f50_per_mm == pytest.approx(0.5)


def test_what_lies_far_from_the_border_does_not_count() -> None:
    image = disc((48, 48), 20, 1.2)
    y, x = np.indices(image.shape[1:]) - 48
    ringed = image + 10 * (np.hypot(y, x) > 20 + 7.6)
    alone, with_ring = (task_transfer_function(each, (48, 48), 20, 0.7) for each in (image, ringed))
    assert with_ring.f50_per_mm == pytest.approx(alone.f50_per_mm, rel=0.005)


def test_frequencies_scale_with_the_pixels_and_dark_discs_count_alike() -> None:
    image = disc((48, 48), 20, 1.2)
    small, large = (task_transfer_function(image, (48, 48), 20, pixel_mm) for pixel_mm in (0.5, 1.0))
    assert small.f50_per_mm == pytest.approx(2 * large.f50_per_mm)
    dark = task_transfer_function(80 - image, (48, 48), 20, 0.5)
    assert dark.contrast_hu == pytest.approx(-small.contrast_hu)
    assert dark.f50_per_mm == pytest.approx(small.f50_per_mm)


def test_noise_is_averaged_away_over_repeats_or_refused() -> None:
    noisy = disc((48, 48), 20, 1.2) + np.random.default_rng(0).normal(0, 20, (40, SIZE, SIZE))
    expected = np.sqrt(np.log(2) / 2) / (np.pi * 1.2 * 0.7)
    assert task_transfer_function(noisy, (48, 48), 20, 0.7).f50_per_mm == pytest.approx(expected, rel=0.08)
    with pytest.raises(DataError, match=r"the edge cannot be measured: contrast .* average more repeats"):
        task_transfer_function(noisy[:1] + np.random.default_rng(1).normal(0, 300, (1, SIZE, SIZE)), (48, 48), 20, 0.7)


def test_a_disc_needs_room() -> None:
    image = disc((48, 48), 20, 1.2)
    with pytest.raises(DataError, match="radius above 8 px"):
        task_transfer_function(image, (48, 48), 6, 0.7)
    for centre in ((20, 48), (48, 20), (SIZE - 21, 48), (48, SIZE - 21)):
        with pytest.raises(DataError, match="28 px of room, found 20 and 20"):
            task_transfer_function(image, centre, 20, 0.7)


def test_a_curve_that_never_falls_that_far_has_no_f50() -> None:
    assert np.isnan(task_transfer_function(disc((48, 48), 20, 0.3), (48, 48), 20, 0.7).f50_per_mm)
