"""Bias of CT numbers by tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctclip.metrics.noise import WINDOW_PX, compare_local_noise, local_mean_and_sd
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


REACH_PX = 2 * WINDOW_PX + 1
"""Side of the square on which the choice of a pixel depends."""


@dataclass(frozen=True)
class TissueChange:
    """What denoising did to a tissue in a slice; NaN where too little of it is there.

    Args:
        noise_before_hu: noise SD in its flattest fifth.
        noise_after_hu: noise SD in the same places.
        bias_hu: mean of (after - before) over all of its flat places.
    """

    noise_before_hu: float
    noise_after_hu: float
    bias_hu: float


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
    difference = pred_hu.astype(np.float64) - reference_hu
    return {tissue: _bias_hu(difference, inside) for tissue, inside in _tissues(reference_hu).items()}


def tissue_changes(before_hu: np.ndarray, after_hu: np.ndarray, valid: np.ndarray) -> dict[str, TissueChange]:
    """Noise and bias in each tissue, without a reference.

    Pixels are chosen by the local mean of the slice before, as in :func:`tissue_bias_hu`.

    Args:
        before_hu: (rows, columns).
        after_hu: the same slice, denoised.
        valid: mask of the pixels to choose from.

    Returns:
        by the names of :data:`TISSUES_HU`.
    """
    before, after = local_mean_and_sd(before_hu), local_mean_and_sd(after_hu)
    difference = after_hu.astype(np.float64) - before_hu
    changes = {}
    for tissue, inside in _tissues(before_hu).items():
        noise = compare_local_noise(before, after, inside & valid)
        changes[tissue] = TissueChange(noise.before_hu, noise.after_hu, _bias_hu(difference, inside & valid))
    return changes


def _tissues(reference_hu: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of the flat places of each tissue."""
    values = reference_hu.astype(np.float64)
    local = ndimage.uniform_filter(values, WINDOW_PX)
    flat = np.abs(local - ndimage.uniform_filter(values, REACH_PX)) < FLAT_WITHIN_HU
    return {tissue: flat & (local >= low) & (local < high) for tissue, (low, high) in TISSUES_HU.items()}


def _bias_hu(difference_hu: np.ndarray, inside: np.ndarray) -> float:
    return float(difference_hu[inside].mean()) if inside.sum() >= MIN_PX else float("nan")
