"""Each kind of noise against its own statistics."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from ctclip.errors import DataError
from ctclip.simulation import NoiseSimulator
from ctclip.simulation.correlated import correlated_noise
from ctclip.transforms import (
    RandCorrelatedNoise,
    RandNoised,
    RandPoissonGaussianNoise,
    RandPoissonNoise,
    RandSaltAndPepperNoise,
    RandSpatialGaussianNoise,
    RandSpeckleNoise,
    RandWhiteNoise,
)

PUBLISHED_NPS = [0.28, 0.78, 0.96, 1.0, 0.85, 0.65, 0.41, 0.22, 0.11, 0.05]
"""Of the recipe at cut-off 0.22, at .025, .075 ... .475 cycles/pixel."""

GREY = torch.full((3, 400, 400), 0.4)


def _lag1(noise: torch.Tensor) -> float:
    """Correlation of horizontal neighbours."""
    centred = noise - noise.mean()
    return float((centred[..., 1:] * centred[..., :-1]).mean() / centred.square().mean())


def test_correlated_noise_has_the_published_statistics() -> None:
    noise = correlated_noise((60, 128, 128), generator=torch.Generator().manual_seed(0))
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert _lag1(noise) == pytest.approx(0.47, abs=0.02)
    power = (np.abs(np.fft.fft2(noise.numpy())) ** 2).mean(axis=0)
    f = np.fft.fftfreq(128)
    bins = np.digitize(np.hypot(f[:, None], f[None, :]), np.arange(0, 0.5, 0.05))
    radial = np.array([power[bins == b].mean() for b in range(1, 11)])
    # The first bin depends on how finely the frequencies near 0 are sampled.
    np.testing.assert_allclose((radial / radial.max())[1:], PUBLISHED_NPS[1:], atol=0.06)


@pytest.mark.parametrize("shape", [(64, 65), (65, 64), (33, 1)])
def test_correlated_noise_has_unit_sd_for_odd_and_even_sides(shape: tuple[int, int]) -> None:
    noise = correlated_noise((2000, *shape), generator=torch.Generator().manual_seed(1))
    assert noise.square().mean().sqrt().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("noise", "variance", "lag1"),
    [
        (RandWhiteNoise(sd=(0.1, 0.1)), 0.1**2, 0.0),
        (RandCorrelatedNoise(sd_hu=(40, 40), cutoff=(0.22, 0.22), low_power=(1, 1), white_fraction=(0, 0)), 1600, 0.47),
        # A box of 3x3 divides the SD by 3; neighbouring boxes share two columns of three.
        (RandSpatialGaussianNoise(sigma=(0.15, 0.15)), 0.05**2, 2 / 3),
        # Poisson: variance x / peak, here below the clipping; the scale multiplies the SD.
        (RandPoissonNoise(scale=(2, 2), peak=255), 4 * 0.4 / 255, 0.0),
        (RandPoissonGaussianNoise(sigma_s=(0.04, 0.04), sigma_c=(0.03, 0.03)), 0.04**2 * 0.4 + 0.03**2, 0.0),
        (RandSpeckleNoise(variance=(0.04, 0.04)), 0.04 * 0.4**2, 0.0),
        # Half of 10 % become 1, half 0: mean stays at 0.4 + 0.1 * (0.5 - 0.4).
        (RandSaltAndPepperNoise(amount=(0.1, 0.1)), 0.1 * (0.5 * 0.36 + 0.5 * 0.16) - 0.01**2, 0.0),
    ],
)
def test_variance_and_correlation_of_each_kind(noise: Any, variance: float, lag1: float) -> None:
    added = noise.set_random_state(0)(GREY) - GREY
    assert added.var().item() == pytest.approx(variance, rel=0.03)
    assert _lag1(added) == pytest.approx(lag1, abs=0.02)
    expected_mean = 0.1 * (0.5 - 0.4) if isinstance(noise, RandSaltAndPepperNoise) else 0
    assert added.mean().item() == pytest.approx(expected_mean, abs=4 * (variance / added.numel()) ** 0.5 * 5)
    first, second = added[0].ravel(), added[1].ravel()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.05, "each channel has noise of its own"


def test_poisson_without_peak_counts_grey_values_as_scikit_image_does() -> None:
    from skimage.util import random_noise

    steps = torch.arange(200.0).repeat(400, 2)[None] / 400 + 0.2
    ours = RandPoissonNoise(peak=None).set_random_state(0)(steps) - steps
    theirs = random_noise(steps.numpy(), mode="poisson", rng=0) - steps.numpy()
    assert ours.std().item() == pytest.approx(theirs.std(), rel=0.02)


def test_salt_and_pepper_changes_the_stated_share() -> None:
    noisy = RandSaltAndPepperNoise(amount=(0.05, 0.05)).set_random_state(0)(GREY)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.025, rel=0.05)
    assert (noisy == 0).float().mean().item() == pytest.approx(0.025, rel=0.05)


def test_poisson_noise_stays_between_black_and_white() -> None:
    for value in (0.02, 0.98):
        noisy = RandPoissonNoise(scale=(3.5, 3.5)).set_random_state(0)(torch.full((1, 64, 64), value))
        assert 0 <= noisy.min() < noisy.max() <= 1
        assert noisy.min() == 0 or noisy.max() == 1, "there is something to clip"


def test_levels_of_ct_noise_are_spread_evenly_over_octaves() -> None:
    noise = RandCorrelatedNoise(sd_hu=(8, 128)).set_random_state(0)
    zero = torch.zeros(1, 64, 64)
    levels = np.log2([noise(zero).std().item() for _ in range(400)])
    counts, _ = np.histogram(levels, bins=[3, 4, 5, 6, 7])
    assert counts.sum() > 380
    assert counts.min() > 70


def test_the_same_state_gives_the_same_noise_and_prob_0_none() -> None:
    clean = torch.zeros(2, 64, 64)
    noisy = RandCorrelatedNoise().set_random_state(3)(clean)
    again = RandNoised("image", RandCorrelatedNoise()).set_random_state(3)({"image": clean})["image"]
    assert torch.equal(again, noisy)
    assert torch.equal(RandCorrelatedNoise(prob=0)(clean), clean)


def test_every_image_gets_noise_of_its_own() -> None:
    noise = RandWhiteNoise(sd=(1, 1)).set_random_state(3)
    one, other = (noise(torch.zeros(1, 64, 64)) for _ in range(2))
    assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.1
    assert torch.equal(noise(torch.zeros(1, 64, 64), randomize=False), other)


def test_a_mixture_is_a_compose() -> None:
    mixture = Compose([RandSpatialGaussianNoise(sigma=(0.15, 0.15)), RandWhiteNoise(sd=(0.05, 0.05))])
    noised = RandNoised("image", mixture).set_random_state(0)({"image": GREY})["image"] - GREY
    assert noised.var().item() == pytest.approx(2 * 0.05**2, rel=0.03)
    assert _lag1(noised) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("kind", [RandPoissonNoise, RandPoissonGaussianNoise, RandSaltAndPepperNoise, RandSpeckleNoise])
def test_noise_of_photographs_refuses_hu_but_no_noisy_image(kind: Any) -> None:
    for low, high in ((-1000.0, 50.0), (-1000.0, 0.0), (0.0, 255.0), (np.nan, np.nan)):
        message = f"{kind.__name__} is for images in \\[0, 1\\], found values from {low:g} to {high:g}"
        with pytest.raises(DataError, match=message):
            kind()(torch.tensor([[[low, high]]]))
    kind()(RandWhiteNoise(sd=(0.2, 0.2))(GREY))


@pytest.mark.parametrize(
    ("kind", "name", "ends", "expected"),
    [
        (RandCorrelatedNoise, "sd_hu", (0, 5), "0 < lower <= upper"),
        (RandCorrelatedNoise, "cutoff", (0, 0.4), "0 < lower <= upper"),
        (RandCorrelatedNoise, "low_power", (1.2, 0.5), "0 <= lower <= upper"),
        (RandCorrelatedNoise, "low_power", (-1, -1), "0 <= lower <= upper"),
        (RandCorrelatedNoise, "white_fraction", (0.5, 1.5), "0 <= lower <= upper <= 1"),
        (RandCorrelatedNoise, "white_fraction", (-0.1, 0.5), "0 <= lower <= upper <= 1"),
        (RandWhiteNoise, "sd", (2, 1), "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", (-5, -5), "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", (0, float("inf")), "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", (0, float("nan")), "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", (3,), "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", 3, "0 <= lower <= upper"),
        (RandWhiteNoise, "sd", "12", "0 <= lower <= upper"),
        (RandSpatialGaussianNoise, "sigma", (-1, 1), "0 <= lower <= upper"),
        (RandPoissonNoise, "scale", (-1, -1), "0 <= lower <= upper"),
        (RandPoissonGaussianNoise, "sigma_s", (-0.1, 0.1), "0 <= lower <= upper"),
        (RandPoissonGaussianNoise, "sigma_c", (-0.1, 0.1), "0 <= lower <= upper"),
        (RandSaltAndPepperNoise, "amount", (2, 2), "0 <= lower <= upper <= 1"),
        (RandSpeckleNoise, "variance", (-1, -1), "0 <= lower <= upper"),
    ],
)
def test_ranges_that_are_empty_or_out_of_bounds_are_refused(kind: Any, name: str, ends: object, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} needs {expected}, found {ends!r}')}$"):
        kind(**{name: ends})


@pytest.mark.parametrize("ends", [np.array([10.0, 20.0]), torch.tensor([10.0, 20.0]), [np.float32(10), 20]])
def test_ranges_may_be_arrays(ends: Any) -> None:
    noisy = RandWhiteNoise(sd=ends).set_random_state(0)(torch.zeros(1, 128, 128))
    assert 9 < float(noisy.std()) < 21


def test_levels_at_which_there_is_no_such_noise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^sigma_s must be above 0, found \(0, 0.1\); for read-out noise alone use"):
        RandPoissonGaussianNoise(sigma_s=(0, 0.1))
    with pytest.raises(ValueError, match="^peak must be a finite number above 0, or None, found 0$"):
        RandPoissonNoise(peak=0)
    with pytest.raises(ValueError, match="^peak must be a finite number above 0, or None, found 'a'$"):
        RandPoissonNoise(peak="a")  # type: ignore[arg-type]
    for noise in (RandWhiteNoise(sd=(0, 0)), RandSaltAndPepperNoise(amount=[0, 0])):
        torch.testing.assert_close(torch.as_tensor(noise(GREY)), GREY)


@pytest.mark.gpu
def test_noise_is_drawn_on_the_device_of_the_image() -> None:
    noisy = RandCorrelatedNoise(sd_hu=(40, 40)).set_random_state(0)(torch.zeros(1, 512, 512, device="cuda"))
    assert noisy.is_cuda
    assert noisy.std().item() == pytest.approx(40, rel=0.05)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 8)])
@pytest.mark.parametrize("kind", [RandSpatialGaussianNoise, RandCorrelatedNoise])
def test_noise_with_a_texture_needs_an_image(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__} needs an image \(C, H, W\), found shape \("):
        kind()(torch.zeros(shape))


def test_a_single_pixel_has_no_texture() -> None:
    expected = r"needs slices of at least two pixels, found shape \("
    with pytest.raises(DataError, match=expected):
        RandCorrelatedNoise()(torch.zeros(1, 1, 1))
    with pytest.raises(DataError, match=expected):
        NoiseSimulator("image", "standard", 1.0).noise_hu(np.zeros((1, 1, 1)))
