"""Noise and bias of CT slices without a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctclip.units import SOFT_TISSUE_HU_RANGE

WINDOW_PX = 9
"""Side of the square in which mean and SD are taken: small enough to fit between organ borders."""

FLAT_QUANTILE = 0.2
"""The flattest fifth of soft tissue shows noise, the rest also anatomy."""

MIN_TISSUE_PX = 500
"""Fewer soft-tissue pixels than this say nothing reliable about a slice."""

NO_VARIANCE_HU2 = 1e-6
"""What rounding leaves of the variance of constant values; noise of real scans has at least 0.1."""

SAME_VALUE_HU = 1e-3
"""Means of one value that differ by less do so by rounding."""


@dataclass(frozen=True)
class NoiseComparison:
    """A slice before and after denoising.

    Args:
        before_hu: noise SD before, in HU.
        after_hu: noise SD after, in the same flat soft tissue.
        shift_hu: change of the mean value there.
    """

    before_hu: float
    after_hu: float
    shift_hu: float


def local_mean_and_sd(slice_hu: np.ndarray, window_px: int = WINDOW_PX) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD in a square around each pixel of a (rows, columns) slice, both of the same shape, in HU."""
    values = slice_hu.astype(np.float64)
    mean = ndimage.uniform_filter(values, window_px)
    variance = ndimage.uniform_filter(values * values, window_px) - mean * mean
    return mean, np.sqrt(np.maximum(variance, 0))


def noise_sd_hu(slice_hu: np.ndarray) -> float:
    """Noise of a slice: 20th percentile of the local SD in soft tissue (local mean of -50 to 150 HU).

    Returns:
        SD in HU, or NaN for a slice with too little soft tissue.
    """
    mean, sd = local_mean_and_sd(slice_hu)
    tissue = without_fill(soft_tissue(mean), mean, sd)
    return float(np.quantile(sd[tissue], FLAT_QUANTILE)) if tissue.sum() >= MIN_TISSUE_PX else float("nan")


def volume_noise_sd_hu(volume_hu: np.ndarray) -> float:
    """Noise of a volume: median over its slices, those with too little soft tissue left out.

    Args:
        volume_hu: (slices, rows, columns).

    Returns:
        SD in HU, or NaN when no slice holds enough soft tissue.
    """
    return median_of_known([noise_sd_hu(each) for each in volume_hu])


def median_of_known(values: Sequence[float]) -> float:
    """Median of the values that are finite numbers, or NaN without any."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def noise_correlation(slice_hu: np.ndarray) -> float:
    """Correlation of the noise of neighbouring pixels in flat soft tissue: 0 for white noise, about 0.5 in body CT.

    Deviations from the local mean over 9x9 pixels in the flattest fifth of soft tissue, rows and columns alike. Taking
    away that mean and choosing flat places lower the value a little: 0.41 is found for 0.47 without anatomy.

    Returns:
        a number from -1 to 1, or NaN for a slice with too little soft tissue.
    """
    mean, sd = local_mean_and_sd(slice_hu)
    tissue = without_fill(soft_tissue(mean), mean, sd)
    if tissue.sum() < MIN_TISSUE_PX:
        return float("nan")
    flat = tissue & (sd <= np.quantile(sd[tissue], FLAT_QUANTILE))
    noise = slice_hu - mean
    variance = float(np.mean(noise[flat] ** 2))
    if variance < NO_VARIANCE_HU2:
        return float("nan")
    neighbours = [np.mean((noise * np.roll(noise, 1, axis))[flat]) for axis in (0, 1)]
    return float(np.mean(neighbours)) / variance


def compare_noise(before_hu: np.ndarray, after_hu: np.ndarray) -> NoiseComparison:
    """Noise before and after, and the change of the mean, in flat soft tissue of the slice before.

    "Before" chooses the places (where its local SD is at most the 20th percentile), "after" is measured at the same
    ones, as the root of the mean local variance.

    Args:
        before_hu: (rows, columns).
        after_hu: the same slice, denoised.

    Returns:
        three numbers in HU, all NaN for a slice with too little soft tissue.
    """
    before = local_mean_and_sd(before_hu)
    return compare_local_noise(before, local_mean_and_sd(after_hu), soft_tissue(before[0]))


def compare_local_noise(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], tissue: np.ndarray
) -> NoiseComparison:
    """As :func:`compare_noise`, in any tissue.

    Args:
        before: from :func:`local_mean_and_sd`.
        after: the same of the denoised slice.
        tissue: mask of the pixels to choose from.

    Returns:
        three numbers in HU, all NaN for fewer than 500 pixels.
    """
    (mean, sd), (mean_after, sd_after) = before, after
    tissue = without_fill(tissue, mean, sd)
    if tissue.sum() < MIN_TISSUE_PX:
        return NoiseComparison(*[float("nan")] * 3)
    flat = tissue & (sd <= np.quantile(sd[tissue], FLAT_QUANTILE))
    return NoiseComparison(
        before_hu=root_mean_square(sd[flat]),
        after_hu=root_mean_square(sd_after[flat]),
        shift_hu=float(np.mean(mean_after[flat] - mean[flat])),
    )


def soft_tissue(local_mean_hu: np.ndarray) -> np.ndarray:
    """Mask of the places whose local mean is that of soft tissue, -50 to 150 HU."""
    return (local_mean_hu > SOFT_TISSUE_HU_RANGE[0]) & (local_mean_hu < SOFT_TISSUE_HU_RANGE[1])


def without_fill(tissue: np.ndarray, local_mean_hu: np.ndarray, local_sd_hu: np.ndarray) -> np.ndarray:
    """A mask without the places around what a masked scan is filled with, which may have the value of tissue.

    A fill is one value over whole neighbourhoods. Several such values are a phantom without noise, and stay.

    Args:
        tissue: the mask, (rows, columns).
        local_mean_hu: of the same slice, from :func:`local_mean_and_sd`.
        local_sd_hu: likewise.
    """
    constant = tissue & (local_sd_hu**2 < NO_VARIANCE_HU2)
    if not constant.any() or np.ptp(local_mean_hu[constant]) > SAME_VALUE_HU:
        return tissue
    # everything whose own square reaches into one that is filled
    return tissue & ~ndimage.maximum_filter(constant, 2 * WINDOW_PX - 1)


def root_mean_square(values: np.ndarray) -> float:
    """Of values of any shape; of SDs, the SD of all of their places together."""
    return float(np.sqrt(np.mean(np.square(values))))
