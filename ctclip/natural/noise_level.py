"""How much noise an image holds, at which brightness, and at which scale: measured where the image is flat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BLOCK_PX = 4
"""Side of a block in wavelet coefficients, twice as many pixels."""

FLAT_SHARE = 0.05
"""The share of blocks with the least texture, in which noise is measured."""

BRIGHTNESS_BINS = 10
"""Bins with equally many blocks, for the noise at each brightness."""

MEDIAN_OF_CHI2 = 0.96
"""Median over mean of a block's noise energy: 16 coefficients, chi-squared, times the channels of a bin's median."""

MIN_SIDE_PX = 2 * BLOCK_PX * 4
"""Smaller images hold too few blocks."""

LEAST_RANGE = 1 / 255
"""Range of brightness below which no dependence of the noise on it can be fitted."""


@dataclass(frozen=True)
class NoiseLevel:
    """Noise of an image, values in [0, 1].

    Args:
        sd: standard deviation of white noise of the same finest detail, from the median energy of blocks and therefore
            2 % low (``MEDIAN_OF_CHI2``): the thresholds of the adaptation were chosen so. ``variance`` is free of that.
        coarse_sd: the same, measured on the image averaged over 2x2 pixels and doubled: equal to ``sd`` when the noise
            is white, larger when neighbouring pixels have noise in common.
        brightness: (bins,) mean value of each bin of blocks.
        variance: (bins,) variance of the noise there.
    """

    sd: float
    coarse_sd: float
    brightness: np.ndarray
    variance: np.ndarray

    @property
    def coarseness(self) -> float:
        """``coarse_sd / sd``: 1 for white noise, 3 after a 3x3 mean."""
        return self.coarse_sd / max(self.sd, 1e-6)

    def sd_at(self, brightness: np.ndarray) -> np.ndarray:
        """SD of the noise at any brightness: a quadratic polynomial fitted to the measured variances.

        Relative errors count in the fit, because the error of a variance grows with it. Outside the measured
        brightness the nearest measured one holds. An image of one brightness has one SD.
        """
        measured = np.maximum(self.variance, 1e-8)
        if np.ptp(self.brightness) < LEAST_RANGE:
            return np.full(np.shape(brightness), np.sqrt(np.mean(measured)))
        coefficients = np.polyfit(self.brightness, measured, deg=2, w=1 / measured)
        inside = np.clip(brightness, self.brightness.min(), self.brightness.max())
        return np.sqrt(np.clip(np.polyval(coefficients, inside), measured.min() / 2, measured.max() * 1.5))


def measure_noise(image: np.ndarray) -> NoiseLevel | None:
    """Measure the noise of one image.

    In an orthonormal Haar transform, white noise is independent from band to band. Blocks are chosen by the energy of
    the horizontal and vertical band, and the noise is the diagonal band's in them, so that the choice does not make
    it smaller (the idea of weak-texture selection: Liu et al., IEEE TIP 2013).

    Args:
        image: (rows, columns, channels).

    Returns:
        the noise, or ``None`` for an image with a side below ``MIN_SIDE_PX``.
    """
    if min(image.shape[:2]) < MIN_SIDE_PX:
        return None
    brightness, texture, energy = _blocks(image)
    flat = texture <= np.quantile(texture, FLAT_SHARE)
    centers, variances = _by_brightness(brightness, texture, energy)
    return NoiseLevel(
        sd=_sd(energy[flat]),
        coarse_sd=2 * _sd(_flat_energy(average_2x2(image))),
        brightness=centers,
        variance=variances,
    )


def average_2x2(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels of (rows, columns, channels); an odd last row or column is counted twice."""
    rows, columns = image.shape[:2]
    padded = np.pad(image, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    return (padded[0::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 0::2] + padded[1::2, 1::2]) / 4


def _flat_energy(image: np.ndarray) -> np.ndarray:
    _, texture, energy = _blocks(image)
    return energy[texture <= np.quantile(texture, FLAT_SHARE)]


def _sd(energy: np.ndarray) -> float:
    return float(np.sqrt(np.median(energy)))


def _by_brightness(brightness: np.ndarray, texture: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.quantile(brightness, np.linspace(0, 1, BRIGHTNESS_BINS + 1))
    centers, variances = [], []
    for low, high in pairwise(edges):
        inside = (brightness >= low) & (brightness <= high)
        flat = inside & (texture <= np.quantile(texture[inside], FLAT_SHARE))
        centers.append(brightness[flat].mean())
        variances.append(np.median(energy[flat]) / MEDIAN_OF_CHI2)
    return np.array(centers), np.array(variances)


def _blocks(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness, texture energy and diagonal energy of every block and channel, flattened."""
    from skimage.measure import block_reduce

    rows, columns = (side // (2 * BLOCK_PX) * (2 * BLOCK_PX) for side in image.shape[:2])
    image = image[:rows, :columns]
    a, b, c, d = image[0::2, 0::2], image[0::2, 1::2], image[1::2, 0::2], image[1::2, 1::2]
    horizontal, vertical, diagonal = (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
    bands = ((a + b + c + d) / 4, horizontal**2 + vertical**2, diagonal**2)
    brightness, texture, energy = (block_reduce(band, (BLOCK_PX, BLOCK_PX, 1), np.mean).ravel() for band in bands)
    return brightness, texture, energy
