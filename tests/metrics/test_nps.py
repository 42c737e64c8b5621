from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctclip.errors import DataError
from ctclip.metrics.nps import (
    _is_uniform,
    noise_power_spectrum_of_repeats,
    radial_nps,
    tissue_nps,
    uniform_tissue,
)
from ctclip.phantom import body_phantom_hu
from ctclip.simulation.correlated import correlated_noise

PIXEL_MM = 0.7


def noise_power_spectrum(rois_hu: np.ndarray) -> np.ndarray:
    """Of uniform regions, ICRU report 87, eq. 11.1."""
    rows, columns = rois_hu.shape[1:]
    noise = rois_hu.astype(np.float64) - rois_hu.mean(axis=(1, 2), keepdims=True)
    return PIXEL_MM**2 / (rows * columns) * np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)


def ct_noise(count: int, side: int = 64, cutoff: float = 0.22, sd_hu: float = 20.0, seed: int = 0) -> np.ndarray:
    return sd_hu * correlated_noise((count, side, side), cutoff, generator=torch.Generator().manual_seed(seed)).numpy()


def test_the_integral_is_the_variance_and_white_noise_is_flat() -> None:
    white = np.random.default_rng(0).normal(0, 12, (200, 64, 64))
    nps = noise_power_spectrum(white)
    step = 1 / (64 * PIXEL_MM)
    assert nps.sum() * step**2 == pytest.approx(144, rel=0.01)
    curve = radial_nps(nps, PIXEL_MM)
    assert curve.frequency_per_mm[-1] == pytest.approx(1 / (2 * PIXEL_MM)), "the Nyquist frequency"
    np.testing.assert_allclose(curve.nps_hu2_mm2[3:], 144 * PIXEL_MM**2, rtol=0.05)


def blurred(white: np.ndarray, sigma_px: float) -> np.ndarray:
    return ndimage.gaussian_filter(white, (0, sigma_px, sigma_px), mode="wrap") if sigma_px else white


def mean_frequency_of_blurred(sigma_px: float) -> float:
    """Closed form, in 1/mm: the spectrum is exp(-(2 pi sigma f)^2) up to the Nyquist frequency."""
    f = np.linspace(0, 0.5 / PIXEL_MM, 4001)
    nps = np.exp(-((2 * np.pi * sigma_px * PIXEL_MM * f) ** 2))
    return float((f * nps).sum() / nps.sum())


@pytest.mark.parametrize(("sigma_px", "within"), [(0.0, 0.01), (0.8, 0.01), (1.5, 0.01), (3.0, 0.03)])
def test_the_mean_frequency_of_repeats_counts_frequency_0(sigma_px: float, within: float) -> None:
    noise = blurred(np.random.default_rng(0).normal(0, 20, (200, 128, 128)), sigma_px)
    curve = radial_nps(noise_power_spectrum_of_repeats(noise, PIXEL_MM), PIXEL_MM)
    assert curve.frequency_per_mm[0] == 0
    assert curve.nps_hu2_mm2[0] == pytest.approx(curve.nps_hu2_mm2[1], rel=0.3)
    assert curve.mean_frequency_per_mm == pytest.approx(mean_frequency_of_blurred(sigma_px), rel=within)


@pytest.mark.parametrize(("sigma_px", "too_high"), [(0.0, 0.044), (0.8, 0.15), (1.5, 0.27)])
def test_the_mean_frequency_of_tissue_is_too_high_by_what_the_fit_takes(sigma_px: float, too_high: float) -> None:
    wide = blurred(np.random.default_rng(0).normal(60, 20, (12, 256, 256)), sigma_px)
    regions = wide.reshape(12, 8, 32, 8, 32).swapaxes(2, 3).reshape(-1, 32, 32)
    curve = tissue_nps(regions, PIXEL_MM)
    assert curve.frequency_per_mm[0] == pytest.approx(1 / (32 * PIXEL_MM))
    ratio = curve.mean_frequency_per_mm / mean_frequency_of_blurred(sigma_px)
    assert ratio == pytest.approx(1 + too_high, abs=0.02)


def test_the_shape_is_the_one_that_the_noise_was_made_with() -> None:
    curve = radial_nps(noise_power_spectrum(ct_noise(400)), PIXEL_MM)
    f = curve.frequency_per_mm * PIXEL_MM
    expected = f * np.exp(-((f / 0.22) ** 2))
    scale = curve.nps_hu2_mm2.sum() / expected.sum()
    tolerance = 0.01 * scale * expected.max()
    np.testing.assert_allclose(curve.nps_hu2_mm2[2:], scale * expected[2:], rtol=0.08, atol=tolerance)
    assert f[np.argmax(curve.nps_hu2_mm2)] == pytest.approx(0.22 / np.sqrt(2), abs=0.03)
    assert curve.mean_frequency_per_mm * PIXEL_MM == pytest.approx((f * expected).sum() / expected.sum(), rel=0.02)


def test_repeats_of_any_object_give_the_noise_alone() -> None:
    noise = ct_noise(6, side=128)
    alone = noise_power_spectrum_of_repeats(noise, PIXEL_MM)
    with_body = noise_power_spectrum_of_repeats(noise + body_phantom_hu(1, 128), PIXEL_MM)
    np.testing.assert_allclose(with_body, alone, rtol=1e-4, atol=1e-3)
    step = 1 / (128 * PIXEL_MM)
    assert alone.sum() * step**2 == pytest.approx(400, rel=0.05)
    with pytest.raises(DataError, match="found 1"):
        noise_power_spectrum_of_repeats(noise[:1], PIXEL_MM)


@pytest.mark.parametrize("cutoff", [0.12, 0.22, 0.40])
def test_noise_of_every_kernel_is_uniform(cutoff: float) -> None:
    step = 1 / (64 * PIXEL_MM)
    for seed in range(5):
        regions = ct_noise(20, cutoff=cutoff, seed=seed)
        assert all(_is_uniform(each) for each in regions)
        assert noise_power_spectrum(regions).sum() * step**2 == pytest.approx(400, rel=0.05)


def test_anatomy_is_not() -> None:
    noise = ct_noise(10)
    edge, faint_edge, vessel = noise.copy(), noise.copy(), noise.copy()
    edge[3, :, 40:] += 50
    faint_edge[3, :, 40:] += 30
    vessel[5, 20:24, 20:24] += 300
    body = body_phantom_hu(1, 256)[0, 90:154, 90:154] + ct_noise(2)
    for regions in (edge, faint_edge, vessel, body):
        assert not all(_is_uniform(each) for each in regions)


def test_regions_of_a_slice_are_uniform_soft_tissue_that_varies_least_afterwards() -> None:
    noise = np.random.default_rng(0).normal(0, 20, (96, 96))
    before = np.where(np.add.outer(np.arange(96) // 64, np.arange(96) // 64) > 0, 400.0, 40.0) + noise
    after = before - 0.9 * noise
    after[40:64, 40:64] += np.where(np.indices((24, 24))[0] % 2, 5, -5)  # what the noise hid
    everywhere = np.ones(before.shape, dtype=bool)
    nine = [before[y : y + 32, x : x + 32] for y in (0, 16, 32) for x in (0, 16, 32)]

    def found(valid: np.ndarray) -> list[int]:
        regions, denoised = uniform_tissue(before, after, valid)
        assert regions.shape == denoised.shape == (len(regions), 32, 32)
        assert np.all(denoised.std(axis=(1, 2)) < 0.5 * regions.std(axis=(1, 2)))
        return [next(i for i, each in enumerate(nine) if np.array_equal(each, region)) for region in regions]

    assert set(found(everywhere)) == set(range(8)), "eight at most, without the one that shows most"
    first_invalid = everywhere.copy()
    first_invalid[0, 0] = False
    assert set(found(first_invalid)) == set(range(1, 9))
    assert found(first_invalid)[-1] == 8
    before[20:24, 20:24] += 300  # a vessel
    assert set(found(everywhere)) == {2, 5, 6, 7, 8}


def test_bars_that_look_alike_everywhere_are_no_noise() -> None:
    before = np.full((128, 128), 40.0) + np.random.default_rng(0).normal(0, 10, (128, 128))
    before[:, :80] += np.where(np.indices((128, 80))[1] // 4 % 2, 150, -150)  # the bars of a phantom
    valid = np.ones(before.shape, dtype=bool)
    valid[:, 80:96] = False
    regions, _ = uniform_tissue(before, before, valid)
    assert len(regions) == 7, "those of the last 32 columns"
    assert regions.std(axis=(1, 2)).max() < 11


def test_shading_of_tissue_is_no_noise() -> None:
    noise = ct_noise(30, side=32)
    y, x = np.indices((32, 32)) / 32 - 0.5
    shaded = noise + 60 + 30 * y - 20 * x + 40 * y * y - 30 * x * y + 25 * x * x
    plain, found = (tissue_nps(regions, PIXEL_MM) for regions in (noise, shaded))
    np.testing.assert_allclose(found.nps_hu2_mm2, plain.nps_hu2_mm2, rtol=1e-3)
    known = radial_nps(noise_power_spectrum(ct_noise(400, side=32)), PIXEL_MM)
    np.testing.assert_allclose(found.nps_hu2_mm2[3:9], known.nps_hu2_mm2[4:10], rtol=0.15)
