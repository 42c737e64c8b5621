"""Noise of the published protocols against statistics computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ctclip.errors import ConfigError
from ctclip.natural.noise import FAMILIES, Noise, parse_noise

GREY = np.full((400, 400, 3), 0.5)


def test_gaussian_noise_is_numpys_legacy_stream_of_seed_0() -> None:
    image = np.full((2, 2, 3), 0.5)
    noise = (Noise("gaussian", 25).add_to(image) - image) * 255
    # numpy.random.seed(0); numpy.random.normal(0, 1, 3): a published sequence.
    np.testing.assert_allclose(noise.ravel()[:3], 25 * np.array([1.76405235, 0.40015721, 0.97873798]), rtol=1e-6)


def test_gaussian_noise_is_not_clipped() -> None:
    noisy = Noise("gaussian", 50).add_to(GREY)
    assert noisy.std() * 255 == pytest.approx(50, rel=0.01)
    assert noisy.max() > 1


def test_spatial_noise_has_a_third_of_the_sd_and_the_correlation_of_a_box() -> None:
    noise = Noise("spatial", 45).add_to(GREY) - GREY
    assert noise.std() * 255 == pytest.approx(15, rel=0.01)
    for lag, expected in ((1, 2 / 3), (2, 1 / 3), (3, 0)):
        assert np.mean(noise[lag:] * noise[:-lag]) / noise.var() == pytest.approx(expected, abs=0.02)


def test_poisson_takes_its_peak_from_the_number_of_grey_values() -> None:
    # 5 grey values: peak 8, so the variance at x is scale^2 * x / 8.
    image = np.tile(np.array([0.4, 0.45, 0.5, 0.55, 0.6]), (600, 200))[..., np.newaxis]
    noisy = Noise("poisson", 0.3).add_to(image)
    at_half = noisy[image == 0.5]
    assert at_half.std() == pytest.approx(0.3 * math.sqrt(0.5 / 8), rel=0.01)
    assert at_half.mean() == pytest.approx(0.5, abs=0.001)


def test_poisson_with_a_fixed_peak_and_clipping() -> None:
    noisy = Noise("poisson-fixed", 2).add_to(GREY)
    assert noisy.std() == pytest.approx(2 * math.sqrt(0.5 / 255), rel=0.01)
    bright = Noise("poisson-fixed", 3.5).add_to(np.full((100, 100, 3), 0.98))
    assert bright.max() == 1


def test_speckle_is_proportional_to_the_signal() -> None:
    for value in (0.2, 0.4):
        noisy = Noise("speckle", 0.04).add_to(np.full((400, 400, 3), value))
        assert noisy.std() == pytest.approx(value * 0.2, rel=0.01)


def test_salt_and_pepper_in_equal_parts() -> None:
    noisy = Noise("saltpepper", 0.02).add_to(GREY)
    assert (noisy == 1).mean() == pytest.approx(0.01, abs=0.0005)
    assert (noisy == 0).mean() == pytest.approx(0.01, abs=0.0005)
    assert ((noisy == 0.5) | (noisy == 0) | (noisy == 1)).all()


def test_clipped_families_stay_between_black_and_white_and_no_others_do() -> None:
    steps = np.tile(np.linspace(0, 1, 64), (64, 1))[..., np.newaxis]
    for name, family in FAMILIES.items():
        noisy = Noise(name, max(family.levels)).add_to(steps)
        assert (noisy.min() >= 0 and noisy.max() <= 1) == family.clipped, name


def test_spatial_noise_is_mirrored_at_the_border() -> None:
    white = np.random.RandomState(0).normal(0, 45 / 255, GREY.shape)
    corner = white[np.ix_([1, 0, 1], [1, 0, 1])].mean(axis=(0, 1))
    np.testing.assert_allclose((Noise("spatial", 45).add_to(GREY) - GREY)[0, 0], corner, rtol=1e-9)


def test_mixture_adds_the_variances_of_its_parts() -> None:
    level, share = 4, 0.01
    noisy = Noise("mixture", level).add_to(GREY)
    speckle, gaussian = 0.25 * 0.02, (20 / 255) ** 2
    impulses = share * 0.25  # 0 and 1 lie 0.5 away from the mean
    assert noisy.var() == pytest.approx((1 - share) * speckle + impulses + gaussian, rel=0.02)


def test_every_image_gets_the_same_noise_again() -> None:
    for family in FAMILIES:
        noise = Noise(family, FAMILIES[family].levels[0])
        np.testing.assert_array_equal(noise.add_to(GREY), noise.add_to(GREY))
        assert (noise.add_to(GREY, seed=1) != noise.add_to(GREY)).any()


def test_parsing() -> None:
    assert parse_noise(["gaussian:15,25", "mixture:1-3"]) == [
        Noise("gaussian", 15),
        Noise("gaussian", 25),
        Noise("mixture", 1),
        Noise("mixture", 2),
        Noise("mixture", 3),
    ]
    assert parse_noise(["gaussian:"]) == parse_noise(["gaussian:15,25,50"])
    assert parse_noise(["poisson"]) == [Noise("poisson", level) for level in (2, 2.5, 3, 3.5)]
    assert parse_noise(["gaussian:15,15", "gaussian:15"]) == [Noise("gaussian", 15)]
    assert str(Noise("speckle", 0.02)) == "speckle:0.02"


@pytest.mark.parametrize(
    "text",
    [
        "gauss:15",
        "gaussian:x",
        "gaussian:0",
        "mixture:3-1",
        "gaussian:nan",
        "gaussian:inf",
        "saltpepper:2",
    ],
)
def test_what_cannot_be_parsed_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="unknown noise|numbers above 0|at most 1"):
        parse_noise([text])
