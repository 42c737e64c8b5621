from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctclip.metrics.residual import residual_structure, residual_structure_without_reference
from ctclip.metrics.tissue import TISSUES_HU, tissue_bias_hu, tissue_changes
from ctclip.phantom import body_phantom_hu, low_dose

TRUTH_HU = body_phantom_hu(1, 512)[0]
FULL_HU = low_dose(TRUTH_HU[None], 12, seed=1)[0]
LOW_HU = low_dose(FULL_HU[None], 25, seed=2)[0]


def test_a_constant_shift_shows_in_every_tissue() -> None:
    found = tissue_bias_hu(FULL_HU + 20, FULL_HU)
    assert set(found) == set(TISSUES_HU)
    present = {name for name, value in found.items() if np.isfinite(value)}
    assert present >= {"air", "fat", "soft tissue"}
    assert all(found[name] == pytest.approx(20, abs=1e-3) for name in present)


def test_noise_is_no_bias_though_choosing_pixels_by_their_value_would_make_it_one() -> None:
    found = tissue_bias_hu(LOW_HU, FULL_HU)
    assert all(abs(value) < 0.3 for value in found.values() if np.isfinite(value))
    low, high = TISSUES_HU["fat"]
    noisy = low_dose(TRUTH_HU[None], 40, seed=3)[0]
    chosen = (noisy > low) & (noisy < high)
    assert abs(float((TRUTH_HU - noisy)[chosen].mean())) > 2
    assert abs(tissue_bias_hu(TRUTH_HU, noisy)["fat"]) < 0.5


def test_a_shift_of_one_tissue_shows_there_only() -> None:
    shifted = FULL_HU + np.where(ndimage.uniform_filter(TRUTH_HU, 25) < -900, 15, 0)
    found = tissue_bias_hu(shifted, FULL_HU)
    assert found["air"] > 12
    assert abs(found["soft tissue"]) < 1e-3


def test_a_tissue_that_is_hardly_there_has_no_bias() -> None:
    assert np.isnan(tissue_bias_hu(FULL_HU, FULL_HU)["lung"])
    assert all(np.isnan(value) for value in tissue_bias_hu(np.full((64, 64), -2000), np.full((64, 64), -2000)).values())


def test_removing_noise_alone_scores_zero_and_blur_scores_high() -> None:
    assert abs(residual_structure(LOW_HU, FULL_HU, FULL_HU)) < 0.05
    assert abs(residual_structure(LOW_HU, TRUTH_HU, FULL_HU)) < 0.1
    median = residual_structure(LOW_HU, ndimage.median_filter(LOW_HU, 3), FULL_HU)
    gauss = residual_structure(LOW_HU, ndimage.gaussian_filter(LOW_HU, 1.5), FULL_HU)
    assert 0.3 < median < gauss
    assert gauss > 0.7


def test_nothing_removed_and_nothing_there() -> None:
    assert residual_structure(LOW_HU, LOW_HU, FULL_HU) == 0
    flat = np.full((64, 64), 40.0)
    assert np.isnan(residual_structure(flat + 1, flat, flat))


def test_without_a_reference_noise_scores_zero_and_blur_high() -> None:
    everywhere = np.ones(LOW_HU.shape, dtype=bool)
    blurred = ndimage.gaussian_filter(LOW_HU, 1.0)
    for left in (0.0, 0.5):
        less_noise = TRUTH_HU + left * (LOW_HU - TRUTH_HU)
        assert abs(residual_structure_without_reference(LOW_HU, less_noise, everywhere)) < 0.1
    clipped = np.clip(TRUTH_HU, -300, 400)
    structure = ndimage.gaussian_filter(clipped, 1.0) - ndimage.gaussian_filter(clipped, 2.5)
    slope, inside = ndimage.gaussian_gradient_magnitude(clipped, 1.5), (TRUTH_HU > -300) & (TRUTH_HU < 400)
    borders = inside & (slope >= np.quantile(slope[inside], 0.95))
    expected = np.corrcoef((LOW_HU - blurred)[borders], structure[borders])[0, 1]
    assert residual_structure_without_reference(LOW_HU, blurred, everywhere) == pytest.approx(expected, abs=0.05)
    sharpened = 2 * LOW_HU - blurred
    assert residual_structure_without_reference(LOW_HU, sharpened, everywhere) < -0.4
    assert residual_structure_without_reference(LOW_HU, LOW_HU, everywhere) == 0
    assert np.isnan(residual_structure_without_reference(LOW_HU, blurred, ~everywhere))
    noise = LOW_HU - FULL_HU
    assert np.isnan(residual_structure_without_reference(noise + 40, 0 * noise + 40, everywhere))


@pytest.mark.parametrize("taken_at_borders", [1.0, 0.2])
def test_strong_noise_is_no_structure_however_much_of_it_is_taken_at_borders(taken_at_borders: float) -> None:
    noisy = low_dose(TRUTH_HU[None], 60, seed=2)[0]
    slope = ndimage.gaussian_gradient_magnitude(np.clip(TRUTH_HU, -300, 400).astype(float), 1.5)
    share = np.where(ndimage.maximum_filter(slope, 5) > 5, taken_at_borders, 1)
    after = noisy - share * (noisy - TRUTH_HU)
    assert abs(residual_structure_without_reference(noisy, after, np.ones(noisy.shape, dtype=bool))) < 0.15


def test_noise_that_is_halved_at_borders_and_gone_elsewhere_is_no_structure() -> None:
    """White noise and stripes: the flat parts say what it is at the borders, where half the SD was taken."""
    column = np.indices((256, 256))[1]
    stripes = ndimage.gaussian_filter(np.where(column // 32 % 2, 150.0, -50.0), 1.0)
    noise = np.random.default_rng(0).normal(0, 60, stripes.shape)
    at_borders = np.abs(column % 32 - 15.5) > 11
    after = stripes + np.where(at_borders, 0.5, 0) * noise
    everywhere = np.ones(stripes.shape, dtype=bool)
    assert abs(residual_structure_without_reference(stripes + noise, after, everywhere)) < 0.05


def test_too_little_structure_or_tissue_says_nothing() -> None:
    faint = 40 + 2.0 * (np.indices((64, 64))[1] // 8 % 2)
    assert np.isnan(residual_structure(faint + 1, ndimage.gaussian_filter(faint, 1), faint))
    small = (slice(200, 244), slice(200, 244))
    blurred = ndimage.gaussian_filter(LOW_HU, 1.0)
    everywhere = np.ones((44, 44), dtype=bool)
    assert np.isnan(residual_structure_without_reference(LOW_HU[small], blurred[small], everywhere))


def test_structure_outside_of_the_valid_pixels_does_not_count() -> None:
    valid = np.zeros(LOW_HU.shape, dtype=bool)
    valid[:, :256] = True
    blurred = np.where(valid, TRUTH_HU, ndimage.gaussian_filter(LOW_HU, 2.0))
    blurred[:, 240:272] = LOW_HU[:, 240:272]
    valid[:, 240:] = False
    assert abs(residual_structure_without_reference(LOW_HU, blurred, valid)) < 0.1


def test_changes_of_a_tissue_are_those_of_its_valid_pixels() -> None:
    valid = np.zeros(LOW_HU.shape, dtype=bool)
    valid[:, :256] = True
    after = np.where(valid, TRUTH_HU + 0.5 * (LOW_HU - TRUTH_HU) + 4, -2000)
    found = tissue_changes(LOW_HU, after, valid & (np.indices(valid.shape)[1] < 240))["soft tissue"]
    assert found.bias_hu == pytest.approx(4, abs=0.2)
    assert found.noise_after_hu == pytest.approx(0.5 * found.noise_before_hu, rel=0.05)


@pytest.mark.parametrize(
    ("hu", "tissue"),
    [
        *[(-1000, "air"), (-900, "lung"), (-650, "lung"), (-100, "fat"), (10, "soft tissue"), (110, "soft tissue")],
        *[(300, "bone"), (1500, "bone"), (-400, None), (-150, None), (-30, None), (180, None), (-2000, None)],
        *[(2500, None)],
    ],
)
def test_every_tissue_has_its_range(hu: float, tissue: str | None) -> None:
    slice_hu = np.full((32, 32), float(hu))
    found = {name for name, bias_hu in tissue_bias_hu(slice_hu + 1, slice_hu).items() if np.isfinite(bias_hu)}
    assert found == ({tissue} if tissue else set())


def test_the_border_of_fat_is_no_fat() -> None:
    """Beside the border of an organ a blur would show as a bias."""
    steps = np.where(np.indices((64, 64))[1] < 32, -100.0, 60.0)
    assert tissue_bias_hu(ndimage.gaussian_filter(steps, 1.5), steps)["fat"] == pytest.approx(0, abs=0.1)
