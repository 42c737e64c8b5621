"""HU to [0, 1] and back: the arithmetic of :mod:`ctclip.transforms.hu_window`, without MONAI, which takes seconds to
import."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from ctclip.units import HUWindow

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def hu_to_unit(hu: Array, window: HUWindow) -> Array:
    """Scale a window of HU linearly to [0, 1], clipping what lies outside."""
    low, high = window
    return ((hu - low) / (high - low)).clip(0, 1)


def unit_to_hu(unit: Array, window: HUWindow) -> Array:
    """[0, 1] to HU; values beyond [0, 1] continue on the same line."""
    low, high = window
    return unit * (high - low) + low


def restore_outside_window(denoised_hu: Array, original_hu: Array, window: HUWindow) -> Array:
    """``original_hu`` where it lies outside the window, elsewhere ``denoised_hu`` clipped to the window."""
    low, high = window
    outside = (original_hu < low) | (original_hu > high)
    inside = denoised_hu.clip(low, high)
    if isinstance(original_hu, torch.Tensor):
        return torch.where(outside, original_hu, inside)
    return np.where(outside, original_hu, inside)
