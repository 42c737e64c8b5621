from __future__ import annotations

import numpy as np
import pytest
import torch

from ctclip.errors import DataError
from ctclip.metrics.detectability import channelized_hotelling, laguerre_gauss_channels
from ctclip.simulation.correlated import correlated_noise

SIDE = 33


def white(count: int, sd_hu: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd_hu, (count, SIDE, SIDE))


def test_channels_are_orthonormal() -> None:
    channels = laguerre_gauss_channels(101, 14, 5).reshape(5, -1)
    np.testing.assert_allclose(channels @ channels.T, np.eye(5), atol=1e-6)


@pytest.mark.parametrize("count", [30, 120])
def test_white_noise_has_the_closed_form_without_bias_from_few_images(count: int) -> None:
    channels = laguerre_gauss_channels(SIDE, 9)
    signal = 40 * channels[0] + 25 * channels[2]
    expected = np.linalg.norm(signal) / 20
    squared = [
        channelized_hotelling(signal + white(count, 20, 2 * seed), white(count, 20, 2 * seed + 1), channels) ** 2
        for seed in range(60)
    ]
    assert np.mean(squared) == pytest.approx(expected**2, rel=0.06)


def test_correlated_noise_has_the_value_of_its_own_covariance() -> None:
    channels = laguerre_gauss_channels(SIDE, 9)
    signal = 60 * channels[0]
    generator = torch.Generator().manual_seed(0)
    noise = 20 * correlated_noise((4000, SIDE, SIDE), 0.22, generator=generator).numpy()
    outputs = noise.reshape(4000, -1) @ channels.reshape(6, -1).T
    difference = channels.reshape(6, -1) @ signal.ravel()
    expected = np.sqrt(difference @ np.linalg.solve(np.cov(outputs, rowvar=False), difference))
    found = channelized_hotelling(signal + noise[:2000], noise[2000:], channels)
    assert found == pytest.approx(expected, rel=0.04)


def test_noise_lowers_it_and_an_eraser_leaves_nothing() -> None:
    channels = laguerre_gauss_channels(SIDE, 9)
    signal = 60 * channels[0]
    some, more = (channelized_hotelling(signal + white(100, sd, 1), white(100, sd, 2), channels) for sd in (20, 40))
    assert more == pytest.approx(some / 2, rel=0.2)
    erased = channelized_hotelling(0.01 * signal + white(100, 20, 1), white(100, 20, 2), channels)
    assert erased < 0.6
    nothing = np.zeros((100, SIDE, SIDE))
    assert channelized_hotelling(nothing, nothing, channels) == 0


def test_an_invertible_filter_changes_nothing_for_this_observer() -> None:
    channels = laguerre_gauss_channels(SIDE, 9)
    present, absent = 60 * channels[0] + white(400, 20, 1), white(400, 20, 2)
    found = channelized_hotelling(present, absent, channels)
    assert channelized_hotelling(3 * present, 3 * absent, channels) == pytest.approx(found)


def test_the_fewest_images_allowed_give_no_bias() -> None:
    channels, signal = np.eye(6).reshape(6, 1, 6), np.array([[2.0, 1, 0, 0, 0, 0]])
    noise = np.random.default_rng(1).normal(size=(1000, 2, 16, 1, 6))
    squared = [channelized_hotelling(signal + one, other, channels) ** 2 for one, other in noise]
    assert np.mean(squared) == pytest.approx(5, rel=0.03)


def test_too_few_images_are_refused() -> None:
    channels = laguerre_gauss_channels(SIDE, 9)
    for present, absent in ((15, 50), (50, 15)):
        with pytest.raises(DataError, match="6 channels need 16 images or more per class, found 15"):
            channelized_hotelling(white(present, 1, 0), white(absent, 1, 1), channels)
    assert np.isfinite(channelized_hotelling(white(16, 1, 0), white(16, 1, 1), channels))
