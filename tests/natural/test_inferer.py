"""Adaptation as a MONAI inferer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ctclip.errors import ConfigError, DataError
from ctclip.natural.adaptive import AdaptiveDenoiser
from ctclip.natural.inferer import AdaptiveInferer
from ctclip.natural.noise import Noise


def test_the_inferer_is_the_adaptive_denoiser(picture: np.ndarray) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
    noisy = Noise("gaussian", 50).add_to(picture)

    def denoise(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.as_tensor(images, dtype=torch.float32).movedim(-1, 1)).movedim(1, -1).numpy()

    expected = AdaptiveDenoiser(denoise)(noisy[np.newaxis])[0]
    batch = torch.as_tensor(noisy, dtype=torch.float32).movedim(-1, 0)[None]
    with torch.no_grad():
        found = AdaptiveInferer()(batch, network)
    assert found.shape == batch.shape
    np.testing.assert_allclose(found[0].movedim(0, -1).numpy(), expected, atol=1e-5)


def test_a_grey_image_in_three_channels_is_denoised_as_a_grey_one(picture: np.ndarray) -> None:
    noisy = Noise("gaussian", 30).add_to(picture[..., :1])
    grey = torch.as_tensor(noisy, dtype=torch.float32).movedim(-1, 0)[None]
    blur = torch.nn.AvgPool2d(3, stride=1, padding=1)
    expected = AdaptiveInferer()(grey, blur).expand(-1, 3, -1, -1)
    torch.testing.assert_close(AdaptiveInferer()(grey.expand(-1, 3, -1, -1), blur), expected, rtol=0, atol=0)


def test_a_grey_image_goes_through_an_rgb_network(picture: np.ndarray) -> None:
    grey = torch.as_tensor(picture[:16, :16, 0], dtype=torch.float32)[None, None]  # too small to adapt
    means = torch.nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        means.weight.copy_(torch.tensor([0.2, 0.4, 0.6])[:, None, None, None].expand(3, 3, 1, 1) / 3)
        np.testing.assert_allclose(AdaptiveInferer()(grey, means), 0.4 * grey, rtol=1e-5)


@pytest.mark.parametrize("training_sd", [0, -1, float("nan"), "a"])
def test_a_noise_that_no_network_was_trained_on_is_refused(training_sd: Any) -> None:
    with pytest.raises(ConfigError, match="^training_sd must be a finite number above 0, found"):
        AdaptiveInferer(training_sd)


def test_gradients_are_not_needed_and_nan_is_one_line(picture: np.ndarray) -> None:
    batch = torch.as_tensor(picture[:48, :48], dtype=torch.float32).movedim(-1, 0)[None].requires_grad_()
    network = torch.nn.Conv2d(3, 3, 1)
    found = AdaptiveInferer()(batch, network)
    assert found.shape == batch.shape
    assert not found.requires_grad
    with pytest.raises(DataError, match="^the batch holds values that are not finite"):
        AdaptiveInferer()(batch * torch.nan, network)
