"""Noise of any level and any dependence on brightness, made into the one noise that a network knows."""

from __future__ import annotations

import numpy as np
from scipy.integrate import cumulative_trapezoid

from ctclip.natural.noise_level import NoiseLevel

GRID = 2048
"""Values for which the transform is tabulated."""

TOLERANCE = 0.2
"""Noise that differs by no more than this share from the target at every brightness is taken for it: texture makes
measured noise too high by up to 17 %."""

MARGIN = 0.05
"""How far the table reaches beyond the image's values, in which a network's result may lie."""

CENTER = 0.5
"""Where the middle of the image's range comes to lie."""


class VarianceStabilizer:
    r"""The transform :math:`f(x) = \int \sigma_t / \sigma(x)\,dx`, after which noise of SD :math:`\sigma(x)` has the SD
    :math:`\sigma_t` at every brightness, and its inverse.

    For noise of one level it is a change of contrast. (Anscombe's transform is the case of Poisson noise; general
    form: Bartlett 1936.) The noise's variance is a quadratic polynomial of the brightness, fitted to the measured one.

    Args:
        noise: of the image.
        target_sd: SD of the noise afterwards.
        values: smallest and largest value of the image.
        max_gain: contrast is increased by no more than this where the noise is below ``target_sd``.
    """

    def __init__(self, noise: NoiseLevel, target_sd: float, values: tuple[float, float], max_gain: float = 1.0) -> None:
        low, high = values
        self._x = np.linspace(low - MARGIN, high + MARGIN, GRID)
        sd = noise.sd_at(self._x)
        if np.abs(sd / target_sd - 1).max() <= TOLERANCE:
            sd = np.full_like(sd, target_sd)
        slope = target_sd / np.maximum(sd, target_sd / max_gain)
        f = cumulative_trapezoid(slope, self._x, initial=0)
        self._f = f - np.interp((low + high) / 2, self._x, f) + CENTER

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Image values to values with even noise."""
        return np.interp(image, self._x, self._f)

    def inverse(self, stabilized: np.ndarray) -> np.ndarray:
        """Back again; values beyond the table become its ends."""
        return np.interp(stabilized, self._f, self._x)
