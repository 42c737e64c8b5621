from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctclip.metrics.noise import compare_noise, noise_correlation, noise_sd_hu

SIDE, SD_HU = 256, 20.0


def white(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, SD_HU, (SIDE, SIDE))


@pytest.mark.parametrize("elsewhere_hu", [-1000.0, -100.0, 200.0, 1000.0])
def test_noise_is_that_of_soft_tissue(elsewhere_hu: float) -> None:
    slice_hu = np.full((SIDE, SIDE), elsewhere_hu)
    slice_hu[:, :100] = 50 + white()[:, :100]
    slice_hu[:, 120:] += 0.1 * white()[:, 120:]
    assert noise_sd_hu(slice_hu) == pytest.approx(SD_HU, rel=0.15)
    assert np.isnan(noise_sd_hu(slice_hu[:, 120:]))


def test_anatomy_is_no_noise() -> None:
    """Steps of 100 HU in most of the tissue: the flattest fifth decides."""
    steps = 100.0 * (np.indices((SIDE, SIDE))[1] // 8 % 2)
    steps[:, :80] = 50
    assert noise_sd_hu(steps + white()) == pytest.approx(SD_HU, rel=0.15)
    found = compare_noise(steps + white(), steps + 0.5 * white())
    assert found.before_hu == pytest.approx(SD_HU, rel=0.15)
    assert found.after_hu == pytest.approx(0.5 * found.before_hu)
    assert noise_correlation(steps + white()) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("fill_hu", [0.0, 40.0])
def test_what_a_masked_scan_is_filled_with_has_no_noise_to_measure(fill_hu: float) -> None:
    """Three quarters of the slice are fill: it would make up the whole flattest fifth."""
    noise = white()
    body = 40 + noise
    inside = np.zeros((SIDE, SIDE), bool)
    inside[64:192, 64:192] = True
    masked = np.where(inside, body, fill_hu)
    assert noise_sd_hu(masked) == pytest.approx(noise_sd_hu(body[64:192, 64:192]), rel=0.05)
    assert noise_correlation(masked) == pytest.approx(0, abs=0.05)
    found = compare_noise(masked, np.where(inside, 40 + noise / 2, fill_hu))
    assert (found.before_hu, found.after_hu) == pytest.approx((SD_HU, SD_HU / 2), rel=0.15)


def test_a_phantom_without_noise_has_none() -> None:
    organs = np.where(np.indices((SIDE, SIDE))[1] < 128, 0.0, 60.0)
    assert noise_sd_hu(organs) == 0
    assert compare_noise(organs, organs).before_hu == 0


def test_values_a_few_hu_apart_are_organs_of_a_phantom() -> None:
    """What a masked scan is filled with is one value; these two stay, and nothing else is soft tissue."""
    organs = np.where(np.indices((SIDE, SIDE))[1] < 128, 40.0, 45.0)
    assert noise_sd_hu(organs) == 0
    assert compare_noise(organs, organs + 1).shift_hu == pytest.approx(1)


def test_fewer_than_500_pixels_of_tissue_say_nothing() -> None:
    few, enough = (40 + white()[:rows, :25] for rows in (19, 20))
    assert np.isnan([noise_sd_hu(few), noise_correlation(few), compare_noise(few, few).before_hu]).all()
    assert np.isfinite([noise_sd_hu(enough), noise_correlation(enough), compare_noise(enough, enough).before_hu]).all()


def test_after_is_measured_where_before_is_flat() -> None:
    """What denoising makes flat elsewhere does not count."""
    before = 40 + white() * np.where(np.arange(SIDE) < SIDE // 2, 1, 2)
    after = np.where(np.arange(SIDE) < SIDE // 2, before + 3, 40)
    found = compare_noise(before, after)
    assert found.after_hu == pytest.approx(found.before_hu, rel=0.01)
    assert found.shift_hu == pytest.approx(3, abs=0.01)


def test_noise_that_varies_is_the_root_of_the_mean_variance() -> None:
    after = 40 + white(1) * np.where(np.arange(SIDE) < SIDE // 2, 1, 3)
    found = compare_noise(40 + white(), after)
    assert found.after_hu == pytest.approx(SD_HU * np.sqrt((1 + 9) / 2), rel=0.05)


@pytest.mark.parametrize(("box", "expected"), [((1, 1), 0.0), ((1, 2), 0.25), ((2, 1), 0.25), ((2, 2), 0.5)])
def test_noise_of_neighbours_is_correlated_as_it_was_made(box: tuple[int, int], expected: float) -> None:
    noise = ndimage.uniform_filter(3 * white(), box)
    assert noise_correlation(40 + noise) == pytest.approx(expected, abs=0.1)


def test_without_noise_nothing_is_known_of_its_correlation() -> None:
    assert np.isnan(noise_correlation(np.full((SIDE, SIDE), 40.3)))
    assert np.isnan(noise_correlation(white() - 1000))
