"""Noise power spectra of uniform regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid

from ctclip.errors import DataError
from ctclip.metrics.noise import noise_sd_hu
from ctclip.units import SOFT_TISSUE_HU_RANGE

MIN_ROI_PX = 32
"""A smaller region has too few frequencies for a curve."""

BLOCK_PX = 16
"""Regions are judged in blocks, each large enough for several grains of noise."""

MAX_MEAN_SPREAD = 0.5
"""Largest SD of the blocks' means in units of the noise SD. Noise of reconstructions has little power at low
frequencies: its spread is below 0.4, while an organ border of two noise SDs gives 0.9."""

MAX_VARIANCE_RATIO = 5.0
"""Largest variance in a block over the median of all blocks: in noise below 3, with a thin bright vessel far above."""

MAX_SD_RATIO = 1.5
"""Largest SD of a region over the noise of soft tissue: in real scans noise alone has 0.8 to 1.2. What is full of
structure, like a bar pattern, looks alike in every block."""

REGIONS_PER_SLICE = 8
"""Regions that are taken from a patient's slice."""


@dataclass(frozen=True)
class RadialNPS:
    """A noise power spectrum, averaged over all directions.

    Args:
        frequency_per_mm: middle of each ring, from 0, or the lowest that is known, to the Nyquist frequency.
        nps_hu2_mm2: mean of the 2D spectrum in the ring, in HU^2 mm^2.
    """

    frequency_per_mm: np.ndarray
    nps_hu2_mm2: np.ndarray

    @property
    def mean_frequency_per_mm(self) -> float:
        """The texture in one number, f_av = int f NPS df / int NPS df over this curve; lower is blotchier.

        From 0 to the Nyquist frequency, where the outer rings count half. Below the first one the curve is level.
        """
        f, nps = np.append(0.0, self.frequency_per_mm), np.append(self.nps_hu2_mm2[:1], self.nps_hu2_mm2)
        total = trapezoid(nps, f)
        return float(trapezoid(f * nps, f) / total) if total > 0 else float("nan")


def noise_power_spectrum_of_repeats(images_hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    r"""2D noise power spectrum of repeated scans of one object, of any shape (ICRU report 87, eq. 11.1).

    .. math:: NPS(u, v) = \frac{d^2}{N_x N_y} \langle |DFT(noise)|^2 \rangle

    The noise of a repeat is its difference from their mean, which takes 1/repeats of the noise along; that is made up
    for.

    Args:
        images_hu: (repeats, rows, columns), equal but for their noise; at least 2.
        pixel_mm: side d of the square pixels.

    Returns:
        (rows, columns) in HU^2 mm^2 with frequency 0 first, as from ``numpy.fft.fft2``. Its integral, the sum over
        all values times 1/(rows columns d^2), is the variance.

    Raises:
        DataError: when there are fewer than two repeats.
    """
    repeats = len(images_hu)
    if repeats < 2:
        raise DataError(f"a noise spectrum of repeats needs two or more of them, found {repeats}")
    differences = images_hu.astype(np.float64) - images_hu.mean(axis=0, dtype=np.float64)
    return _mean_spectrum(differences, pixel_mm) * repeats / (repeats - 1)


def uniform_tissue(before_hu: np.ndarray, after_hu: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regions of a patient's slice that show soft tissue and noise only.

    Noise hides faint anatomy, which denoising uncovers: of all regions that look uniform before, those that vary least
    after are taken. Where less than about 1 HU of noise is left even these show anatomy.

    Args:
        before_hu: (rows, columns).
        after_hu: the same slice, denoised.
        valid: mask of the pixels to choose from.

    Returns:
        (regions, 32, 32) in HU, before and after; at most 8 regions, maybe none.
    """
    low, high = SOFT_TISSUE_HU_RANGE
    most_hu = MAX_SD_RATIO * noise_sd_hu(before_hu)
    rows, columns = before_hu.shape
    squares = [
        (slice(y, y + MIN_ROI_PX), slice(x, x + MIN_ROI_PX))
        for y in range(0, rows - MIN_ROI_PX + 1, BLOCK_PX)
        for x in range(0, columns - MIN_ROI_PX + 1, BLOCK_PX)
    ]
    uniform = [
        each
        for each in squares
        if low < before_hu[each].mean() < high
        and valid[each].all()
        and before_hu[each].std() <= most_hu
        and _is_uniform(before_hu[each])
    ]
    chosen = sorted(uniform, key=lambda each: float(after_hu[each].std()))[:REGIONS_PER_SLICE]
    before, after = (
        np.array([image[each] for each in chosen]).reshape(-1, MIN_ROI_PX, MIN_ROI_PX)
        for image in (before_hu, after_hu)
    )
    return before, after


def tissue_nps(regions_hu: np.ndarray, pixel_mm: float) -> RadialNPS:
    """Noise power spectrum of regions of tissue.

    Not only the mean of each region is taken away but a polynomial of second order, since tissue shades off (AAPM
    TG-233). It takes noise of low frequencies along: all at 0, which the curve leaves out, and of white noise 43 % in
    the first ring of 32 x 32 pixels, which is left so: dividing by the rest would raise what is left of anatomy too.
    The mean frequency of white noise comes out 4 % too high, that of blotches of 1.5 pixels (SD) 27 %.

    Args:
        regions_hu: (regions, rows, columns) from :func:`uniform_tissue`; better 20 or more.
        pixel_mm: side of the square pixels.
    """
    rows, columns = regions_hu.shape[1:]
    y, x = (np.indices((rows, columns)).reshape(2, -1) - rows / 2) / rows
    shade = np.stack([np.ones_like(x), y, x, y * y, x * y, x * x], axis=1)
    flat = regions_hu.reshape(len(regions_hu), -1).astype(np.float64)
    noise = flat - flat @ np.linalg.pinv(shade).T @ shade.T
    curve = radial_nps(_mean_spectrum(noise.reshape(regions_hu.shape), pixel_mm), pixel_mm)
    return RadialNPS(curve.frequency_per_mm[1:], curve.nps_hu2_mm2[1:])  # the fit has taken all that was at 0


def radial_nps(nps_hu2_mm2: np.ndarray, pixel_mm: float) -> RadialNPS:
    """Mean of a 2D spectrum over rings one frequency step wide; the first is frequency 0 alone.

    Args:
        nps_hu2_mm2: from :func:`noise_power_spectrum_of_repeats`, which holds the noise at frequency 0 as at any other:
            what was taken away there is the mean over repeats, not that of an image.
        pixel_mm: side of the square pixels.
    """
    rows, columns = nps_hu2_mm2.shape
    radius = np.hypot(np.fft.fftfreq(rows, pixel_mm)[:, None], np.fft.fftfreq(columns, pixel_mm)[None, :])
    step = 1 / (min(rows, columns) * pixel_mm)
    ring = np.floor(radius / step + 0.5).astype(int)
    rings = min(rows, columns) // 2 + 1
    counts = np.bincount(ring.ravel())[:rings]
    sums = np.bincount(ring.ravel(), weights=nps_hu2_mm2.ravel())[:rings]
    return RadialNPS(step * np.arange(rings), sums / counts)


def _mean_spectrum(noise_hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    rows, columns = noise_hu.shape[1:]
    return pixel_mm**2 / (rows * columns) * np.mean(np.abs(np.fft.fft2(noise_hu)) ** 2, axis=0)


def _spread_and_ratio(region_hu: np.ndarray) -> tuple[float, float]:
    """SD of the blocks' means in noise SDs, and the largest variance of a block over the median one."""
    rows, columns = (side // BLOCK_PX for side in region_hu.shape)
    blocks = region_hu[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    blocks = blocks.astype(np.float64)
    variance = blocks.var(axis=(1, 3))
    typical = max(float(np.median(variance)), np.finfo(np.float64).tiny)
    return float(blocks.mean(axis=(1, 3)).std() / np.sqrt(typical)), float(variance.max() / typical)


def _is_uniform(region_hu: np.ndarray) -> bool:
    mean_spread, ratio = _spread_and_ratio(region_hu)
    return mean_spread <= MAX_MEAN_SPREAD and ratio <= MAX_VARIANCE_RATIO
