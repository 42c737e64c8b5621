from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ctclip.errors import ConfigError, DataError
from ctclip.metrics.image import image_quality, slice_quality
from ctclip.metrics.volume import windowed_slices


def test_the_figures_are_those_of_scikit_image_counted_from_the_lower_end_of_the_window() -> None:
    random = np.random.RandomState(0)
    reference = random.uniform(-400, 400, (2, 40, 48))
    pred = reference + random.normal(0, 30, reference.shape)
    found = slice_quality(pred, reference, (-160, 240))
    for index, pair in enumerate(zip(reference, pred, strict=True)):
        one, other = (np.clip(image, -160, 240) + 160 for image in pair)
        ssim = structural_similarity(
            one, other, data_range=400, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found["ssim"][index] == pytest.approx(ssim, abs=1e-5)
        assert found["psnr_db"][index] == pytest.approx(peak_signal_noise_ratio(one, other, data_range=400), rel=1e-6)
        assert found["rmse_hu"][index] == pytest.approx(np.sqrt(np.mean((one - other) ** 2)), rel=1e-6)
        assert found["mae_hu"][index] == pytest.approx(np.mean(np.abs(one - other)), rel=1e-6)
    assert image_quality(pred, reference, (-160, 240)) == pytest.approx(
        {name: values.mean() for name, values in found.items()}
    )


def test_ssim_needs_its_window() -> None:
    square = np.zeros((1, 11, 11))
    assert slice_quality(square, square, (-160, 240))["ssim"] == 1
    with pytest.raises(DataError, match="a slice of 20 x 10 is too small for SSIM; expected 11"):
        slice_quality(np.zeros((1, 20, 10)), np.zeros((1, 20, 10)), (-160, 240))


@pytest.mark.parametrize("shapes", [((20, 20), (20, 20)), ((2, 20, 20), (1, 20, 20))])
def test_shapes_that_are_no_volumes_on_one_grid_are_refused(shapes: tuple) -> None:
    one, other = map(np.zeros, shapes)
    with pytest.raises(DataError, match=r"as \(slices, rows, columns\) of one shape, found \("):
        slice_quality(one, other, (-160, 240))


@pytest.mark.parametrize("window", [(240, -160), (0, 0), (-np.inf, 0), (0, np.nan), (0,), (None, 1), "01", 5])
def test_windows_in_which_nothing_can_be_measured_are_refused(window: Any) -> None:
    square = np.zeros((1, 11, 11))
    with pytest.raises(ConfigError, match="an HU window needs two finite ends, the lower one first, found"):
        slice_quality(square, square, window)
    with pytest.raises(ConfigError, match="an HU window needs two finite ends"):
        windowed_slices("pred", window)
