from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from ctclip.metrics.edges import border_slopes

SIDE, FINE_PX, COARSE_PX = 96, 0.7, 2.0
EVERYWHERE = np.ones((SIDE, SIDE), dtype=bool)


def border(contrast_hu: float, blur_px: float, angle_deg: float = 0.0, low_hu: float = -100.0) -> np.ndarray:
    """A straight border through the middle pixel, blurred by a Gaussian."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    angle = np.deg2rad(angle_deg)
    return low_hu + contrast_hu * ndtr((np.cos(angle) * x + np.sin(angle) * y) / blur_px)


def slope(contrast_hu: float, blur_px: float) -> float:
    """Of such a border in its middle, at the fine scale."""
    return contrast_hu / np.sqrt(2 * np.pi * (blur_px**2 + FINE_PX**2))


@pytest.mark.parametrize("angle_deg", [0, 90, 180, 270, 45])
@pytest.mark.parametrize(("name", "contrast_hu"), [("1000 HU", 1000.0), ("300 HU", 300.0)])
def test_a_blurred_border_has_the_slope_of_its_closed_form(name: str, contrast_hu: float, angle_deg: float) -> None:
    found = border_slopes(border(contrast_hu, 1, angle_deg), border(contrast_hu, 1.5, angle_deg), EVERYWHERE)
    assert found[name].before_hu_per_px == pytest.approx(slope(contrast_hu, 1), rel=0.03)
    assert found[name].after_hu_per_px == pytest.approx(slope(contrast_hu, 1.5), rel=0.03)
    assert all(np.isnan(other.before_hu_per_px) for key, other in found.items() if key != name)


@pytest.mark.parametrize("contrast_hu", [150.0, 500.0])
def test_borders_between_the_classes_count_for_none(contrast_hu: float) -> None:
    found = border_slopes(border(contrast_hu, 1), border(contrast_hu, 1), EVERYWHERE)
    assert all(np.isnan(each.before_hu_per_px) for each in found.values())


@pytest.mark.parametrize(("rows", "known"), [(50, True), (49, False)])
def test_fewer_than_50_valid_pixels_of_border_say_nothing(rows: int, known: bool) -> None:
    valid = EVERYWHERE.copy()
    valid[rows:] = False
    found = border_slopes(border(1000, 1), border(1000, 1), valid)["1000 HU"]
    assert bool(np.isfinite(found.before_hu_per_px)) is known


def test_what_the_window_does_not_hold_has_no_border() -> None:
    padding = np.where(np.arange(SIDE) < 20, -3000.0, -1024.0) * np.ones((SIDE, 1))
    found = border_slopes(padding, padding, EVERYWHERE)
    assert all(np.isnan(each.before_hu_per_px) for each in found.values())


def test_noise_beside_the_border_does_not_change_its_slope() -> None:
    noisy = border(1000, 1) + np.random.default_rng(0).normal(0, 20, (SIDE, SIDE))
    found = border_slopes(noisy, border(1000, 1), EVERYWHERE)["1000 HU"]
    assert found.before_hu_per_px == pytest.approx(slope(1000, 1), rel=0.05)
    assert found.after_hu_per_px == pytest.approx(slope(1000, 1), rel=0.05)
