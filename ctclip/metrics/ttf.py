"""Sharpness: the task transfer function of a disc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctclip.errors import DataError

BINS_PER_PX = 4
"""Oversampling of the edge: the disc's border crosses pixels at every phase."""

EDGE_WIDTH_PX = 8.0
"""How far to both sides of the border the profile reaches; blur beyond it is not seen."""

MIN_CONTRAST_TO_NOISE = 5.0
"""Contrast over the noise of the two plateaus. Below, the curve shows the noise."""

FREQUENCIES = 256
"""Points of the curve between 0 and the Nyquist frequency of the pixels."""


HALF = 0.5


@dataclass(frozen=True)
class TaskTransfer:
    """How much contrast is left at each spatial frequency.

    Args:
        frequency_per_mm: from 0 to the Nyquist frequency.
        ttf: 1 at frequency 0.
        contrast_hu: measured, inside minus outside.
    """

    frequency_per_mm: np.ndarray
    ttf: np.ndarray
    contrast_hu: float

    @property
    def f50_per_mm(self) -> float:
        """Frequency at which half of the contrast is left; NaN when that is beyond the Nyquist frequency."""
        below = np.flatnonzero(self.ttf < HALF)
        if not len(below):
            return float("nan")
        last = int(below[0])
        high, low = self.ttf[last - 1], self.ttf[last]
        step = self.frequency_per_mm[1] - self.frequency_per_mm[0]
        return float(self.frequency_per_mm[last - 1] + step * (high - HALF) / (high - low))


def task_transfer_function(
    images_hu: np.ndarray, centre_px: tuple[float, float], radius_px: float, pixel_mm: float
) -> TaskTransfer:
    r"""Task transfer function of a disc in a uniform surrounding, from the profile across its border.

    Every pixel is placed by its distance to the border; the mean profile (edge spread) is differentiated (line spread)
    and transformed:

    .. math:: TTF(f) = \left| \frac{\int LSF(r) e^{-2 \pi i f r} dr}{\int LSF(r) dr} \right|

    (Richard et al., Med Phys 39, 4115, 2012; AAPM TG-233). A denoiser is no linear system: its TTF belongs to this
    contrast and this noise level. Repeats are averaged *after* denoising, which keeps that and lowers the noise of the
    curve.

    Args:
        images_hu: (repeats, rows, columns) of the same disc.
        centre_px: row and column of the centre; (0, 0) is the centre of the first pixel.
        radius_px: of the disc; larger than 8 px.
        pixel_mm: side of the square pixels.

    Raises:
        DataError: when the disc is too small or too near to the border of the image, or drowns in noise.
    """
    rows, columns = images_hu.shape[1:]
    reach = radius_px + EDGE_WIDTH_PX
    room = min(*centre_px, rows - 1 - centre_px[0], columns - 1 - centre_px[1])
    if radius_px <= EDGE_WIDTH_PX or room < reach:
        raise DataError(
            f"a disc needs a radius above {EDGE_WIDTH_PX:g} px and {reach:g} px of room, found {radius_px:g} and "
            f"{room:g}"
        )
    profile, contrast_hu = _edge_spread(images_hu.mean(axis=0, dtype=np.float64), centre_px, radius_px)
    return _transfer(np.diff(profile), contrast_hu, pixel_mm)


def _edge_spread(image_hu: np.ndarray, centre_px: tuple[float, float], radius_px: float) -> tuple[np.ndarray, float]:
    """Mean value by distance to the border, from inside to outside, and the contrast."""
    y, x = np.indices(image_hu.shape)
    distance = np.hypot(y - centre_px[0], x - centre_px[1]) - radius_px
    near = np.abs(distance) < EDGE_WIDTH_PX
    bins = np.floor((distance[near] + EDGE_WIDTH_PX) * BINS_PER_PX).astype(int)
    count = int(2 * EDGE_WIDTH_PX * BINS_PER_PX)
    counts = np.bincount(bins, minlength=count)
    sums = np.bincount(bins, weights=image_hu[near], minlength=count)
    filled = counts > 0
    middles = np.arange(count)
    profile = np.interp(middles, middles[filled], sums[filled] / counts[filled])
    plateau = count // 4
    inside, outside = profile[:plateau], profile[-plateau:]
    contrast_hu = float(inside.mean() - outside.mean())
    noise_hu = float(np.hypot(inside.std(), outside.std())) + np.finfo(np.float64).tiny
    if abs(contrast_hu) < MIN_CONTRAST_TO_NOISE * noise_hu:
        raise DataError(
            f"the edge cannot be measured: contrast {contrast_hu:.1f} HU over {noise_hu:.1f} HU of noise in the "
            f"profile, expected a factor of {MIN_CONTRAST_TO_NOISE:g} or more; average more repeats"
        )
    return profile, contrast_hu


def _transfer(line_spread: np.ndarray, contrast_hu: float, pixel_mm: float) -> TaskTransfer:
    step_mm = pixel_mm / BINS_PER_PX
    # noise far from the border is weighted down, the border itself is left alone
    distance_px = np.abs(np.arange(len(line_spread)) - _centre_of(line_spread)) / BINS_PER_PX
    window = np.interp(distance_px, [EDGE_WIDTH_PX / 2, EDGE_WIDTH_PX], [1, 0])
    weighted = line_spread * window
    frequency = np.linspace(0, 0.5 / pixel_mm, FREQUENCIES)
    place_mm = step_mm * np.arange(len(line_spread))
    spectrum = np.exp(-2j * np.pi * frequency[:, None] * place_mm[None, :]) @ weighted
    # binning and differences over one step are two box filters of that width
    boxes = np.sinc(frequency * step_mm) ** 2
    return TaskTransfer(frequency, np.abs(spectrum) / np.abs(weighted.sum()) / boxes, contrast_hu)


def _centre_of(line_spread: np.ndarray) -> float:
    smooth = np.abs(ndimage.gaussian_filter1d(line_spread, BINS_PER_PX))
    return float(np.argmax(smooth))
