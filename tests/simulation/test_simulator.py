"""The noise must be that of real low-dose CT: measured on pairs of the AAPM-Mayo challenge, 3 mm, kernel B30."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctclip.errors import ConfigError, DataError
from ctclip.metrics.noise import local_mean_and_sd, soft_tissue
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.simulation import NoiseSimulator
from ctclip.simulation.calibration import WINDOW_REACH_PX, flat_slice, inside_circle, noise_at_hu
from ctclip.simulation.correlated import correlated_noise
from ctclip.simulation.projection_domain import MU_WATER_PER_MM, line_integrals, photon_noise_hu
from ctclip.simulation.settings import share_without_noise
from ctclip.simulation.simulator import require_known
from ctclip.simulation.tomography import back_project, filter_projections

SIDE, PIXEL_MM = 256, 1.4
MEASURED_LAG_1 = 0.47
MEASURED_NPS = (0.33, 0.57, 1.0, 0.82, 0.78, 0.60, 0.39, 0.22, 0.10, 0.04)
"""Radial spectrum at 0.025, 0.075, ... 0.475 cycles/pixel, maximum 1."""


def _disc(count: int) -> np.ndarray:
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    slice_hu = np.where(np.hypot(axis[:, None], axis[None, :]) < 100, 0.0, -1000.0)
    return np.repeat(slice_hu[None], count, axis=0).astype(np.float32)


@pytest.fixture(scope="module", params=["projection", "image"])
def middle_of_noise(request: pytest.FixtureRequest) -> np.ndarray:
    """Noise in the middle of a water disc, (8, 96, 96)."""
    level = 2.7e5 if request.param == "projection" else 20.0
    simulator = NoiseSimulator(request.param, "standard", PIXEL_MM, level=level)
    clean = _disc(8)
    return (simulator.low_dose(clean) - clean)[:, 80:176, 80:176]


def test_neighbouring_pixels_correlate_as_in_real_low_dose(middle_of_noise: np.ndarray) -> None:
    noise = middle_of_noise
    lags = [np.mean(noise[:, 1:] * noise[:, :-1]), np.mean(noise[:, :, 1:] * noise[:, :, :-1])]
    assert np.mean(lags) / noise.var() == pytest.approx(MEASURED_LAG_1, abs=0.03)


def test_the_noise_power_spectrum_is_that_of_real_low_dose(middle_of_noise: np.ndarray) -> None:
    power = (np.abs(np.fft.fft2(middle_of_noise)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    bands = [power[(frequency >= low) & (frequency < low + 0.05)].mean() for low in np.arange(0, 0.5, 0.05)]
    shape = np.array(bands) / max(bands)
    assert np.abs(shape - MEASURED_NPS).mean() < 0.1
    assert 0.1 <= 0.025 + 0.05 * np.argmax(shape) <= 0.2


def test_the_noise_has_no_mean(middle_of_noise: np.ndarray) -> None:
    assert abs(middle_of_noise.mean()) < 0.02 * middle_of_noise.std()


def test_sd_goes_with_one_over_the_root_of_the_photons() -> None:
    clean = _disc(2)
    sds = []
    for photons in (4e5, 1e5):
        noise = NoiseSimulator("projection", "standard", PIXEL_MM, level=photons).low_dose(clean) - clean
        sds.append(noise[:, 80:176, 80:176].std())
    assert sds[1] / sds[0] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(("dose", "clean"), [(0.1, _disc(2)), (0.25, body_phantom_hu(2, SIDE))], ids=["disc", "body"])
@pytest.mark.parametrize("domain", ["projection", "image", "white"])
def test_a_fraction_of_the_dose_has_noise_of_one_over_its_root(clean: np.ndarray, domain: str, dose: float) -> None:
    """Of noise that is known, not measured: what was inserted into the noise-free truth."""
    full = low_dose(clean, 12, seed=5)
    low = NoiseSimulator(domain, "standard", PIXEL_MM).for_dose(list(full), dose).low_dose(full)
    flat = np.stack([soft_tissue(local_mean_and_sd(one)[0]) & (local_mean_and_sd(one)[1] < 1) for one in clean])
    ratio = (low - clean)[flat].std() / (full - clean)[flat].std()
    assert ratio == pytest.approx(1 / np.sqrt(dose), rel=0.06)
    assert abs((low - full)[flat].mean()) < 1


def test_water_attenuates_by_a_fiftieth_per_millimetre_and_air_not_at_all() -> None:
    disc = torch.from_numpy(_disc(1))
    disc[disc < -500] = -2000  # outside of the reconstruction
    integrals = line_integrals(disc, PIXEL_MM, views=8)[0]
    assert integrals[:, 120:136].mean().item() == pytest.approx(200 * PIXEL_MM * 0.02, rel=0.01)
    assert integrals[:, :20].abs().max().item() == 0


def test_few_photons_have_the_noise_of_electronics_too() -> None:
    sds = []
    for photons in (40, 4000):
        generator = torch.Generator().manual_seed(0)
        noise = photon_noise_hu(torch.zeros(1, 90, 64), [photons], PIXEL_MM, "hann", [generator])
        sds.append(noise[0, 16:48, 16:48].std().item())
    # of counts: their own variance and that of 10 squared photons
    assert sds[0] / sds[1] == pytest.approx((np.sqrt(40 + 10) / 40) / (np.sqrt(4000 + 10) / 4000), rel=0.05)


def test_the_image_domain_is_as_uneven_as_the_projections() -> None:
    clean = body_phantom_hu(1, SIDE).repeat(16, axis=0)
    maps = []
    for domain, level in (("projection", 2e6), ("image", 20.0)):
        noise = NoiseSimulator(domain, "standard", PIXEL_MM, level=level).low_dose(clean) - clean
        maps.append(noise.std(axis=0))
    centre, flank = (slice(110, 146), slice(110, 146)), (slice(116, 136), slice(30, 50))
    ratios = [each[centre].mean() / each[flank].mean() for each in maps]
    assert ratios[0] > 1.15
    assert ratios[1] == pytest.approx(ratios[0], rel=0.1)


def test_a_smooth_kernel_correlates_more_than_a_sharp_one_and_white_noise_not_at_all() -> None:
    clean = _disc(3)

    def lag(domain: str, texture: str) -> float:
        level = 3e5 if domain == "projection" else 20.0
        noise = NoiseSimulator(domain, texture, PIXEL_MM, level=level).low_dose(clean) - clean
        noise = noise[:, 80:176, 80:176]
        return float(np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var())

    for texture, expected in (("smooth", 0.61), ("sharp", 0.20)):
        for domain in ("projection", "image"):
            assert lag(domain, texture) == pytest.approx(expected, abs=0.05)
    assert lag("white", "smooth") == pytest.approx(0, abs=0.02)


def test_slices_do_not_depend_on_batches_and_differ_by_seed() -> None:
    full = low_dose(body_phantom_hu(3, 96), 12)
    simulator = NoiseSimulator("projection", "standard", PIXEL_MM, level=2e4)
    together = simulator.low_dose(full)
    alone = np.concatenate([simulator.low_dose(full[i : i + 1], i) for i in range(3)])
    assert np.abs(together - alone).max() < 0.01
    other = NoiseSimulator("projection", "standard", PIXEL_MM, seed=1, level=2e4).low_dose(full)
    inside = full > -500
    assert (other - together)[inside].std() > 5
    assert abs(np.corrcoef((together - full)[0][inside[0]], (together - full)[1][inside[0]])[0, 1]) < 0.05


def test_outside_the_reconstruction_nothing_changes() -> None:
    full = low_dose(body_phantom_hu(1, 96), 12).clip(-1020)
    full[0, :8], full[0, -8:] = -2000, -1024
    low = NoiseSimulator("image", "standard", PIXEL_MM, level=80).low_dose(full)
    assert np.array_equal(low[0, :8], full[0, :8])
    assert np.array_equal(low[0, -8:], full[0, -8:])
    assert low[0, 8:-8].min() == -1024


def test_oblong_slices_keep_their_size() -> None:
    full = low_dose(body_phantom_hu(2, 128), 12)[:, 10:110]
    low = NoiseSimulator("projection", "standard", PIXEL_MM).low_dose(full)
    assert low.shape == full.shape
    assert (low - full)[:, 40:60, 40:60].std() > 1


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown noise domain: found 'sinogram'.*projection, image, white"):
        NoiseSimulator("sinogram", "standard", 1)
    with pytest.raises(ConfigError, match=r"unknown texture: found 'B30'.*smooth, standard, sharp"):
        NoiseSimulator("image", "B30", 1)
    for level, pixel_mm in ((0, 1), (20, 0), (-1, 1), (np.nan, 1), (np.inf, 1), (20, np.inf), (20, "1")):
        with pytest.raises(ConfigError, match="(photons, or SD,|pixel size) must be a finite number above 0, found"):
            NoiseSimulator("image", "standard", pixel_mm, level=level)
    with pytest.raises(ConfigError, match="unknown texture: found nothing"):
        require_known(["image"], [])
    simulator = NoiseSimulator("image", "standard", 1)
    for dose in (25, 1, 0, -0.5):
        with pytest.raises(ConfigError, match=rf"above 0 and below 1 .* found {dose}$"):
            simulator.for_dose([np.zeros((64, 64))], dose)
    for sd_hu in (0, -1, np.inf, np.nan):
        with pytest.raises(ConfigError, match=f"the SD of the noise must be above 0 and at most 1000, found {sd_hu}$"):
            simulator.for_sd([np.zeros((64, 64))], sd_hu)
    with pytest.raises(DataError, match="soft tissue"):
        simulator.for_dose([np.full((64, 64), -800.0)], 0.5)


def test_too_few_photons_are_an_error_and_not_air() -> None:
    """34 cm of water-like tissue: at a thousandth of the dose the reconstruction would turn into air."""
    slices_hu = list(low_dose(body_phantom_hu(1, 96), 12))
    with pytest.raises(DataError, match="cannot be simulated here: .* too few photons get through"):
        NoiseSimulator("projection", "standard", 3.5).for_dose(slices_hu, 0.003)
    with pytest.raises(DataError, match="cannot be simulated here"):
        NoiseSimulator("projection", "standard", 3.5).for_dose(slices_hu, 1e-9)
    with pytest.raises(DataError, match="the noise of 20 photons cannot be simulated here: .* too few photons"):
        NoiseSimulator("projection", "standard", 3.5).for_photons(slices_hu, 20)
    NoiseSimulator("white", "standard", 3.5).for_dose(slices_hu, 0.003)


def test_what_few_photons_can_make_ends_at_one_number() -> None:
    """The mean shifts up, then down: where both meet, images are no better."""
    slices_hu = list(low_dose(body_phantom_hu(1, 96), 12))
    simulator = NoiseSimulator("projection", "standard", 3.5)
    for photons in (100, 350, 500, 600, 1000, 3000):
        with pytest.raises(DataError, match="too few photons"):
            simulator.for_photons(slices_hu, photons)
    for photons in (1e4, 1e5):
        assert simulator.for_photons(slices_hu, photons).level == photons
    for dose in (0.011, 0.03):
        with pytest.raises(DataError, match="too few photons"):
            simulator.for_dose(slices_hu, dose)


def test_counts_below_one_photon_are_one() -> None:
    """Through an attenuation of e^30 no photon comes: counts are electronic noise, and half of them negative."""
    integrals = torch.full((1, 90, 64), 30.0)
    noise = photon_noise_hu(integrals, [1.0], PIXEL_MM, "hann", [torch.Generator().manual_seed(0)])
    mean_error = torch.full((1, 90, 64), -30 - 0.3835)  # E[-ln max(N, 1)] of normal N with variance 10
    expected = back_project(filter_projections(mean_error, "hann")) / PIXEL_MM * 1000 / MU_WATER_PER_MM
    middle = np.s_[0, 16:48, 16:48]
    assert noise[middle].mean().item() == pytest.approx(expected[middle].mean().item(), rel=0.01)


def test_a_scan_without_noise_has_no_dose() -> None:
    with pytest.raises(DataError, match="the scan has no noise"):
        NoiseSimulator("projection", "standard", 3.5).for_dose([np.full((64, 64), 40, np.float32)], 0.25)


@pytest.mark.parametrize("domain", ["projection", "image", "white"])
def test_an_sd_is_that_of_the_noise_in_flat_soft_tissue(domain: str) -> None:
    clean = body_phantom_hu(4, 128)
    noise_hu = NoiseSimulator(domain, "standard", 2.8).for_sd(list(clean), 20).noise_hu(clean)
    flat = np.stack([soft_tissue(local_mean_and_sd(one)[0]) & (local_mean_and_sd(one)[1] < 1) for one in clean])
    assert noise_hu[flat].std() == pytest.approx(20, rel=0.12)  # by place, too


def test_seed_and_index_are_not_exchangeable() -> None:
    clean = np.zeros((1, 64, 64), np.float32)
    one, other = (
        NoiseSimulator("white", "standard", 1, seed=seed, level=20).noise_hu(clean, index)
        for seed, index in ((0, 1), (1, 0))
    )
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("domain", ["projection", "image"])
def test_oblong_slices_have_the_noise_of_those_with_air_around(domain: str) -> None:
    oblong = body_phantom_hu(1, 96)[:, :60]
    square = np.full((1, 96, 96), -1000, np.float32)
    square[:, 18:78] = oblong  # the middle of the slice is where the scanner's axis is
    simulator = NoiseSimulator(domain, "standard", 2)
    np.testing.assert_allclose(simulator.noise_hu(oblong), simulator.noise_hu(square)[:, 18:78], atol=1e-3)


def test_the_fill_of_a_masked_scan_does_not_set_the_dose() -> None:
    noisy = low_dose(body_phantom_hu(1, 128), 20)[0]
    body = noisy > -500
    masked = np.where(body, noisy, 0)
    found = flat_slice(masked)
    assert not found.places[~body].any()
    assert found.sd_hu == pytest.approx(flat_slice(noisy).sd_hu, rel=0.1)


def test_what_lies_outside_the_circle_is_told_and_has_no_noise() -> None:
    body = np.zeros((90, 90), np.float32)
    share = share_without_noise(body)
    assert share == pytest.approx(1 - np.pi / 4, abs=0.01)
    noise_hu = NoiseSimulator("white", "standard", 2, level=20).noise_hu(body[None])
    assert np.mean(noise_hu == 0) == pytest.approx(share, abs=0.02)
    oblong = np.zeros((60, 96), np.float32)
    noise_hu = NoiseSimulator("white", "standard", 2, level=20).noise_hu(oblong[None])
    assert share_without_noise(oblong) == pytest.approx(np.mean(noise_hu == 0), abs=0.02)
    assert share_without_noise(body_phantom_hu(1, 96)[0]) == 0
    assert share_without_noise(np.full((20, 20), -1000.0)) == 0


def _crop(lung_px: int) -> np.ndarray:
    """(3, 192, 192): soft tissue up to the corners, with 10 HU of noise, around a lung of a radius."""
    own_hu = 10 * correlated_noise((3, 192, 192), generator=torch.Generator().manual_seed(1)).numpy()
    return own_hu + np.where(inside_circle((192, 192), 96 - lung_px), -850, 40).astype(np.float32)


@pytest.mark.parametrize("lung_px", [0, 70])
@pytest.mark.parametrize("domain", ["projection", "image"])
def test_tissue_in_the_corners_does_not_raise_the_noise_in_the_circle(domain: str, lung_px: int) -> None:
    """Where no noise is made, none can be missing."""
    crop = _crop(lung_px)
    noise_hu = NoiseSimulator(domain, "standard", 0.8).for_dose(list(crop), 0.25).noise_hu(crop)
    tissue = inside_circle((192, 192), WINDOW_REACH_PX) & ~inside_circle((192, 192), 96 - lung_px - 6)
    assert noise_hu[:, tissue].std() == pytest.approx(10 * np.sqrt(1 / 0.25 - 1), rel=0.06)


@pytest.mark.parametrize("domain", ["projection", "image", "white"])
def test_soft_tissue_in_the_corners_alone_is_none(domain: str) -> None:
    crop, simulator = _crop(90), NoiseSimulator(domain, "standard", 0.8)
    with pytest.raises(DataError, match="no slice holds enough soft tissue within its inscribed circle"):
        simulator.for_dose(list(crop), 0.25)
    with pytest.raises(DataError, match="within its inscribed circle"):
        simulator.for_sd(list(crop), 20)


def test_places_that_are_measured_lie_in_the_circle_of_oblong_slices_too() -> None:
    for shape in ((192, 192), (151, 192), (192, 120)):
        found = flat_slice(_crop(0)[0, : shape[0], : shape[1]])
        assert not found.places[~inside_circle(shape, WINDOW_REACH_PX)].any()


def test_the_circle_is_that_in_which_noise_is_made() -> None:
    for shape in ((64, 64), (50, 64), (64, 41), (33, 65)):
        noise_hu = NoiseSimulator("white", "standard", 2, level=20).noise_hu(np.zeros((1, *shape), np.float32))
        np.testing.assert_array_equal(noise_hu[0] != 0, inside_circle(shape))


def test_noise_of_two_levels_has_the_mean_of_their_variances() -> None:
    noise_hu = np.random.default_rng(0).normal(0, 1, (128, 128)) * np.where(np.arange(128) < 64, 2, 14)
    assert noise_at_hu(noise_hu, np.ones((128, 128), bool)) == pytest.approx(10, rel=0.05)
