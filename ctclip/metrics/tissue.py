"""Bias of CT numbers by tissue."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ctclip.metrics.noise import WINDOW_PX
from ctclip.units import HUWindow

TISSUES_HU: dict[str, HUWindow] = {
    "air": (-1024.0, -950.0),
    "lung": (-950.0, -600.0),
    "fat": (-130.0, -60.0),
    "soft tissue": (0.0, 120.0),
    "bone": (250.0, 2000.0),
}
"""Ranges of the local mean, with gaps between them where two tissues meet. Padding lies below all of them."""

FLAT_WITHIN_HU = 20.0
"""A place is flat where the means over 9x9 and 19x19 pixels differ by less: borders would show blur, not bias."""

MIN_PX = 200
"""Fewer pixels than this say nothing reliable about a tissue in a slice."""


def tissue_bias_hu(pred_hu: np.ndarray, reference_hu: np.ndarray) -> dict[str, float]:
    """Mean of (prediction - reference) in each tissue.

    Pixels are chosen by the *local mean* of the reference, where it is flat. Choosing by the pixels' own values would
    choose by their noise: pixels of fat whose noise happened to be positive would be missing, and every denoiser would
    seem to be biased (regression to the mean).

    Args:
        pred_hu: a slice, (rows, columns).
        reference_hu: the same slice of the reference.

    Returns:
        bias in HU by the names of :data:`TISSUES_HU`; NaN for a tissue of fewer than 200 flat pixels.
    """
    values = reference_hu.astype(np.float64)
    local = ndimage.uniform_filter(values, WINDOW_PX)
    wide = ndimage.uniform_filter(values, 2 * WINDOW_PX + 1)
    flat = np.abs(local - wide) < FLAT_WITHIN_HU
    difference = pred_hu.astype(np.float64) - values
    bias = {}
    for tissue, (low, high) in TISSUES_HU.items():
        inside = flat & (local >= low) & (local < high)
        bias[tissue] = float(difference[inside].mean()) if inside.sum() >= MIN_PX else float("nan")
    return bias
