"""Contrast of an object with its background."""

from __future__ import annotations

import numpy as np


def contrast_hu(image_hu: np.ndarray, inside: np.ndarray, background: np.ndarray) -> float:
    """Mean inside minus mean of the background, in HU.

    Args:
        image_hu: of any shape.
        inside: mask of the object, of that shape.
        background: mask of its surroundings.
    """
    return float(image_hu[inside].mean() - image_hu[background].mean())


def contrast_to_noise(image_hu: np.ndarray, inside: np.ndarray, background: np.ndarray) -> float:
    """CNR: the contrast's magnitude over the SD of the background.

    Alone it says little: a filter that blurs raises it. Report it beside the noise power spectrum.

    Args:
        image_hu: of any shape.
        inside: mask of the object, of that shape.
        background: mask of its surroundings.

    Returns:
        at least 0; infinite for a background without noise.
    """
    sd_hu = float(image_hu[background].std())
    contrast = abs(contrast_hu(image_hu, inside, background))
    return contrast / sd_hu if sd_hu > 0 else float("inf")
