from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctclip.metrics.residual import residual_structure
from ctclip.metrics.tissue import TISSUES_HU, tissue_bias_hu
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
