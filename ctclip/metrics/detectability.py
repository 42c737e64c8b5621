"""Can a faint lesion still be seen? Model observers."""

from __future__ import annotations

import numpy as np
from scipy.special import eval_laguerre

from ctclip.errors import DataError

SPARE_SAMPLES = 10
"""Samples beyond the number of channels: with fewer the covariance is a guess."""


def laguerre_gauss_channels(side_px: int, width_px: float, count: int = 6) -> np.ndarray:
    r"""Channels for round signals in the centre of an image (Barrett et al. 1998; Gallas and Barrett 2003, eq. 8).

    .. math:: u_p(r) = \frac{\sqrt 2}{a} \exp(-\pi r^2 / a^2) L_p(2 \pi r^2 / a^2)

    Args:
        side_px: of the square images.
        width_px: :math:`a`; about the diameter of the signal, 1.5 times it for blurred ones.
        count: channels, p from 0 to count - 1.

    Returns:
        (count, side_px, side_px) float64, orthonormal but for sampling.
    """
    axis = np.arange(side_px) - (side_px - 1) / 2
    g = 2 * np.pi * (axis[:, None] ** 2 + axis[None, :] ** 2) / width_px**2
    return np.stack([np.sqrt(2) / width_px * np.exp(-g / 2) * eval_laguerre(p, g) for p in range(count)])


def channelized_hotelling(present_hu: np.ndarray, absent_hu: np.ndarray, channels: np.ndarray) -> float:
    r"""Channelized Hotelling observer: how well it tells images with a signal from those without.

    :math:`d'^2 = \Delta v^T S^{-1} \Delta v` with the channel outputs' mean difference and mean covariance. From n
    images per class this is too large on average; the unbiased estimator for normal outputs is used (Wunderlich et al.,
    IEEE TMI 34, 453, 2015):

    .. math:: \hat d^2 = \frac{f - m - 1}{f} d'^2 - m \left(\frac{1}{n_1} + \frac{1}{n_0}\right), f = n_1 + n_0 - 2

    with m channels. Negative estimates are given as 0.

    Args:
        present_hu: (images, rows, columns) with the signal in the centre.
        absent_hu: the same without.
        channels: (m, rows, columns).

    Returns:
        d', the distance of the two classes in standard deviations, at least 0.

    Raises:
        DataError: when a class has too few images.
    """
    count = len(channels)
    fewest = min(len(present_hu), len(absent_hu))
    if fewest < count + SPARE_SAMPLES:
        raise DataError(
            f"{count} channels need {count + SPARE_SAMPLES} images or more per class, found {fewest}: take more images "
            "or fewer channels"
        )
    weights = channels.reshape(count, -1).T
    present, absent = (x.reshape(len(x), -1).astype(np.float64) @ weights for x in (present_hu, absent_hu))
    n1, n0 = len(present), len(absent)
    freedom = n1 + n0 - 2
    scatter = (n1 - 1) * np.cov(present, rowvar=False) + (n0 - 1) * np.cov(absent, rowvar=False)
    covariance = np.atleast_2d(scatter) / freedom
    difference = present.mean(axis=0) - absent.mean(axis=0)
    if not difference.any():
        return 0.0
    # a filter that erases all noise leaves no variance to divide by; the pseudo-inverse leaves such channels out
    squared = float(difference @ np.linalg.pinv(covariance, hermitian=True) @ difference)
    unbiased = (freedom - count - 1) / freedom * squared - count * (1 / n1 + 1 / n0)
    return float(np.sqrt(max(unbiased, 0.0)))
