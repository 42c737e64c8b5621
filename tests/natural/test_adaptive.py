"""Measuring noise, bringing it to the training level, and back: against known answers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ctclip.natural.adaptive import TRAINING_SD, AdaptiveDenoiser
from ctclip.natural.impulses import find_impulses, keep_noise, replace_impulses
from ctclip.natural.noise import Noise
from ctclip.natural.noise_level import NoiseLevel, average_2x2, measure_noise
from ctclip.natural.stabilize import VarianceStabilizer


def _even(sd: float) -> NoiseLevel:
    return NoiseLevel(sd, sd, np.linspace(0, 1, 10), np.full(10, sd**2))


def _measured(image: np.ndarray) -> NoiseLevel:
    noise = measure_noise(image)
    assert noise is not None
    return noise


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_the_sd_of_white_noise_is_found(picture: np.ndarray, sigma: int) -> None:
    noise = _measured(Noise("gaussian", sigma).add_to(picture))
    assert noise.sd * 255 == pytest.approx(sigma, rel=0.06)
    assert noise.coarseness == pytest.approx(1, abs=0.25)
    assert noise.sd_at(np.array([0.2, 0.5, 0.8])) * 255 == pytest.approx(np.full(3, sigma), rel=0.12)


def test_noise_after_a_box_is_three_times_coarser(picture: np.ndarray) -> None:
    # The box divides the diagonal Haar band's SD by 9 and that of the image averaged over 2x2 by 3.
    noise = _measured(Noise("spatial", 45).add_to(picture))
    assert noise.coarseness == pytest.approx(3, rel=0.12)


def test_noise_is_found_by_brightness(picture: np.ndarray) -> None:
    noise = _measured(Noise("speckle", 0.01).add_to(picture))
    brightness = np.array([0.2, 0.5, 0.8])
    assert noise.sd_at(brightness) == pytest.approx(0.1 * brightness, rel=0.2)


def test_noise_of_dark_parts_is_found_though_the_bright_ones_have_far_more_of_it() -> None:
    """Variances measured 10 % too high and too low by turns: the error at the bright end is larger than all of the
    variance at the dark one."""
    brightness = np.linspace(0, 1, 10)
    true = 1e-4 + 0.04 * brightness**2
    noise = NoiseLevel(0.1, 0.1, brightness, true * (1 + 0.1 * (-1.0) ** np.arange(10)))
    assert noise.sd_at(np.zeros(1))[0] == pytest.approx(0.01, rel=0.1)


def test_halves_of_odd_images_repeat_the_last_row_and_column() -> None:
    image = np.arange(15.0).reshape(3, 5, 1)
    np.testing.assert_allclose(average_2x2(image)[..., 0], [[3, 5, 6.5], [10.5, 12.5, 14]])


def test_small_images_cannot_be_measured() -> None:
    assert measure_noise(np.zeros((20, 300, 3))) is None


def test_a_stabilizer_of_even_noise_changes_the_contrast_only() -> None:
    stabilizer = VarianceStabilizer(_even(0.2), 0.05, (0.0, 1.0))
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(stabilizer.forward(x), 0.5 + (x - 0.5) * 0.25, atol=1e-6)
    np.testing.assert_allclose(stabilizer.inverse(stabilizer.forward(x)), x, atol=1e-6)


def test_a_result_a_little_beyond_the_values_of_the_image_stays_beyond_them() -> None:
    stabilizer = VarianceStabilizer(_even(0.05), 0.05, (0.0, 1.0))
    beyond = stabilizer.inverse(stabilizer.forward(np.array([0.0, 1.0])) + np.array([-0.03, 0.03]))
    np.testing.assert_allclose(beyond, [-0.03, 1.03], atol=1e-6)


def test_a_stabilizer_of_speckle_is_a_logarithm() -> None:
    brightness = np.linspace(0.1, 1, 40)
    noise = NoiseLevel(0.1, 0.1, brightness, (0.2 * brightness) ** 2)
    stabilizer = VarianceStabilizer(noise, 0.01, (0.1, 1.0))
    x = np.array([0.2, 0.4, 0.8])
    stable = stabilizer.forward(x)
    # f(x) = 0.01 / 0.2 * log(x) + constant: every doubling is one step.
    np.testing.assert_allclose(np.diff(stable), 0.05 * np.log(2), rtol=0.01)


def test_a_stabilizer_makes_noise_even(picture: np.ndarray) -> None:
    noisy = Noise("poisson-fixed", 3).add_to(picture)
    stabilizer = VarianceStabilizer(_measured(noisy), TRAINING_SD, (noisy.min(), noisy.max()))
    stable = stabilizer.forward(noisy)
    for value in (0.15, 0.5, 0.85):
        disc = (np.abs(picture - value) < 1e-9).all(axis=-1)
        assert stable[disc].std() == pytest.approx(TRAINING_SD, rel=0.15)


def test_noise_near_the_target_is_left_alone_and_weak_noise_gains_no_more_than_allowed() -> None:
    x = np.linspace(0, 1, 11)
    near = VarianceStabilizer(_even(0.055), 0.05, (0.0, 1.0))
    np.testing.assert_allclose(near.forward(x), x, atol=1e-6)
    weak = VarianceStabilizer(_even(0.001), 0.05, (0.0, 1.0), max_gain=2.0)
    np.testing.assert_allclose(np.diff(weak.forward(x)), 0.2, atol=1e-6)


def test_impulses_are_found_and_replaced(picture: np.ndarray) -> None:
    noisy = Noise("saltpepper", 0.02).add_to(picture)
    true = noisy != picture
    outstanding = true & (np.abs(noisy - picture) > 0.3)
    found = find_impulses(noisy, _measured(noisy))
    assert found[outstanding].mean() > 0.9
    assert found[~true].mean() < 0.001
    restored = replace_impulses(noisy, found)
    assert np.abs(restored - picture)[found].mean() < 0.02
    np.testing.assert_array_equal(restored[~found], noisy[~found])


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("neighbour", [(4, 5), (5, 4), (5, 5)])
def test_two_impulses_that_touch_are_both_found(value: float, neighbour: tuple[int, int]) -> None:
    image = np.full((9, 9, 1), 0.5)
    image[4, 4] = image[neighbour] = value
    np.testing.assert_array_equal(find_impulses(image, _even(0.01)), image == value)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_lines_of_impulses_vanish_from_their_ends(length: int) -> None:
    """A pixel in the middle of the line has two neighbours of its kind, and is found when one of them has gone."""
    ramp = np.linspace(0.4, 0.6, 96).reshape(1, 96, 1).repeat(96, axis=0).repeat(3, axis=2)
    image = ramp.copy()
    for row, column in np.ndindex(12, 12):
        image[8 * row + 4, 8 * column + 1 : 8 * column + 1 + length, (row + column) % 3] = 1
    result = AdaptiveDenoiser(lambda images: images)(image[np.newaxis])[0]
    np.testing.assert_allclose(result, ramp, atol=0.01)


@pytest.mark.parametrize("strip_rows", [1, 7, 64, 1000])
def test_impulses_are_found_in_strips_as_in_the_whole(
    picture: np.ndarray, strip_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = Noise("saltpepper", 0.1).add_to(picture)
    noise = _measured(noisy)
    padded = np.pad(noisy, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1)).reshape(*noisy.shape, 9)
    neighbours = np.sort(np.delete(windows, 4, axis=-1), axis=-1)
    gap = np.maximum(noisy - neighbours[..., -2], neighbours[..., 1] - noisy)
    expected = gap > np.maximum(4 * noise.sd_at((neighbours[..., 3] + neighbours[..., 4]) / 2), 0.15)
    monkeypatch.setattr("ctclip.natural.impulses.STRIP_ROWS", strip_rows)
    np.testing.assert_array_equal(find_impulses(noisy, noise), expected)


def test_finding_impulses_needs_little_memory(picture: np.ndarray) -> None:
    noisy = Noise("saltpepper", 0.1).add_to(np.tile(picture, (8, 2, 1)))
    noise = _measured(picture)
    tracemalloc.start()
    try:
        impulses = find_impulses(noisy, noise)
        replace_impulses(noisy, impulses)
        assert tracemalloc.get_traced_memory()[1] < 8 * noisy.nbytes
    finally:
        tracemalloc.stop()


def test_highlights_of_all_channels_are_no_noise() -> None:
    random = np.random.default_rng(0)
    specks = np.repeat(random.uniform(size=(200, 200, 1)) < 0.01, 3, axis=-1)
    single = random.uniform(size=(200, 200, 3)) < 0.02
    assert not keep_noise(specks).any()
    np.testing.assert_array_equal(keep_noise(single), single)
    both = keep_noise(specks | single)
    assert both[single & ~specks & (single.sum(axis=-1, keepdims=True) == 1)].all()
    assert not both[specks].any()
    assert not keep_noise(random.uniform(size=(200, 200, 3)) < 0.001).any()


def test_gaussian_noise_holds_no_impulses(picture: np.ndarray) -> None:
    noisy = Noise("gaussian", 50).add_to(picture)
    assert find_impulses(noisy, _measured(noisy)).mean() < 0.0005


def test_the_network_sees_its_training_noise_whatever_the_noise(picture: np.ndarray) -> None:
    seen: list[float] = []

    def spy(images: np.ndarray) -> np.ndarray:
        seen.append(_measured(images[0]).sd)
        return images

    for noise in (Noise("gaussian", 15), Noise("gaussian", 50), Noise("poisson-fixed", 3.5)):
        AdaptiveDenoiser(spy)(noise.add_to(picture)[np.newaxis])
    assert np.array(seen) * 255 == pytest.approx(np.full(3, 15), rel=0.12)


def test_a_network_that_does_nothing_gives_the_image_back(picture: np.ndarray) -> None:
    for noise in (Noise("gaussian", 15), Noise("gaussian", 50), Noise("spatial", 45)):
        noisy = noise.add_to(picture)
        result = AdaptiveDenoiser(lambda images: images)(noisy[np.newaxis])[0]
        assert np.abs(result - noisy).max() < 2e-3


def test_images_of_odd_size_come_back_in_their_size(picture: np.ndarray) -> None:
    noisy = Noise("spatial", 45).add_to(picture[:255, :319])
    result = AdaptiveDenoiser(lambda images: images)(noisy[np.newaxis])[0]
    np.testing.assert_allclose(result, noisy, atol=2e-3)


def test_noise_of_bright_parts_goes_though_the_flat_parts_are_dark_and_free_of_it() -> None:
    """Speckle: the darkest tenths hold noise of less than 1/255, the brightest of 40/255."""
    ramp = np.repeat(np.linspace(0.01, 1, 256) ** 2, 256).reshape(256, 256, 1).repeat(3, axis=2)
    noisy = Noise("speckle", 0.02).add_to(ramp)
    assert _measured(noisy).sd * 255 < 2
    rows = slice(160, 250)

    def ideal(images: np.ndarray) -> np.ndarray:
        return images.mean(axis=2, keepdims=True).repeat(256, axis=2)

    result = AdaptiveDenoiser(ideal)(noisy[np.newaxis])[0]
    before, after = np.abs(noisy - ramp)[rows].mean(), np.abs(result - ramp)[rows].mean()
    assert after < 0.15 * before


def test_images_free_of_noise_stay_as_they_are(picture: np.ndarray) -> None:
    result = AdaptiveDenoiser(np.zeros_like)(picture[np.newaxis])[0]
    np.testing.assert_allclose(result, picture, atol=1e-3)


def test_an_ideal_network_leaves_no_coarse_noise(picture: np.ndarray) -> None:
    """A network that gives the mean of its surroundings, on a flat image: what is left is what it cannot average."""
    from scipy import ndimage

    flat = np.full((256, 256, 3), 0.5)
    noisy = Noise("spatial", 50).add_to(flat)
    result = AdaptiveDenoiser(lambda x: ndimage.uniform_filter(x, (1, 7, 7, 1)))(noisy[np.newaxis])[0]
    once = ndimage.uniform_filter(noisy, (7, 7, 1))
    assert result.std() < 0.52 * once.std()


def test_the_network_is_told_of_a_fifth_more_coarse_noise_than_there_is_and_then_of_half() -> None:
    seen: list[np.ndarray] = []

    def spy(images: np.ndarray) -> np.ndarray:
        seen.append(images[0])
        return images

    noisy = Noise("spatial", 150).add_to(np.full((256, 256, 3), 0.5))
    AdaptiveDenoiser(spy)(noisy[np.newaxis])
    half = average_2x2(noisy)
    told = (1.2 * _measured(half).sd_at(np.array(0.5)), 0.5 * _measured(noisy).coarse_sd)
    for image, stable, sd in zip((half, noisy), seen, told, strict=True):
        middle = np.abs(image - 0.5) < 0.05
        contrast, _ = np.polyfit(image[middle], stable[middle], 1)
        assert contrast == pytest.approx(TRAINING_SD / sd, rel=0.05)


def test_images_of_a_batch_do_not_influence_each_other(picture: np.ndarray) -> None:
    batch = np.stack(
        [Noise(*noise).add_to(picture) for noise in (("gaussian", 50), ("saltpepper", 0.02), ("spatial", 55))]
    )
    denoise = AdaptiveDenoiser(lambda images: 0.5 * images + 0.25)
    together = denoise(batch)
    for index, image in enumerate(batch):
        np.testing.assert_allclose(denoise(image[np.newaxis])[0], together[index], atol=1e-9)


def test_a_grey_image_gets_less_noise_than_a_colour_one(picture: np.ndarray) -> None:
    seen: list[float] = []

    def spy(images: np.ndarray) -> np.ndarray:
        seen.append(_measured(images[0]).sd)
        return images

    AdaptiveDenoiser(spy)(Noise("gaussian", 30).add_to(picture[..., :1])[np.newaxis])
    assert seen[0] * 255 == pytest.approx(15 / 3**0.5, rel=0.15)


def test_a_grey_image_in_three_channels_is_denoised_as_a_grey_one(picture: np.ndarray) -> None:
    """Between others in a batch, whose results stay what they are."""
    noisy = Noise("gaussian", 30).add_to(picture)
    grey = noisy[..., :1]

    def blur(images: np.ndarray) -> np.ndarray:
        return (images + np.roll(images, 1, axis=1) + np.roll(images, 1, axis=2)) / 3

    denoise = AdaptiveDenoiser(blur)
    together = denoise(np.stack([noisy, grey.repeat(3, axis=-1), noisy[::-1]]))
    np.testing.assert_array_equal(together[1], denoise(grey[np.newaxis])[0].repeat(3, axis=-1))
    np.testing.assert_array_equal(together[[0, 2]], denoise(np.stack([noisy, noisy[::-1]])))
    np.testing.assert_array_equal(denoise(grey.repeat(3, axis=-1)[np.newaxis])[0], together[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_for_grey_images_sees_the_noise_of_its_training(picture: np.ndarray, channels: int) -> None:
    seen: list[float] = []

    def spy(images: np.ndarray) -> np.ndarray:
        seen.append(_measured(images[0]).sd)
        return images

    AdaptiveDenoiser(spy, in_channels=1)(Noise("gaussian", 30).add_to(picture[..., :channels])[np.newaxis])
    assert seen[0] * 255 == pytest.approx(15, rel=0.15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_one_brightness_has_one_sd(level: float) -> None:
    flat = NoiseLevel(0.1, 0.1, np.full(8, level), np.full(8, 0.01))
    np.testing.assert_allclose(flat.sd_at(np.linspace(0, 1, 5)), 0.1)
    image = np.full((64, 64, 3), level)
    denoiser = AdaptiveDenoiser(lambda images: images, 15 / 255)
    np.testing.assert_allclose(denoiser(image[np.newaxis])[0], image, atol=1e-6)
