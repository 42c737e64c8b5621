"""HU to [0, 1] and back, and whether an array can be HU: the arithmetic of :mod:`ctclip.transforms.hu_window`, without
MONAI, which takes seconds to import. Listing an export imports this, but not torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ctclip.errors import DataError
from ctclip.units import HUWindow

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


SCALED_BELOW = 10
"""An array whose values all lie closer to 0 is scaled: noise alone is stronger in HU."""


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
    if isinstance(original_hu, np.ndarray):
        return np.where(outside, original_hu, inside)
    return inside.where(~outside, original_hu)  # MONAI's tensors keep the meta data of the first


def require_finite(volume: Array, what: str = "the volume") -> None:
    """Refuse values that no pixel can have: the network would spread one of them over the slice.

    Args:
        volume: of any shape.
        what: for the start of the message.

    Raises:
        DataError: for NaN, infinite values, and those that float32 cannot hold.
    """
    # NaN is both the smallest and the largest value
    low, high = float(volume.min()), float(volume.max())
    if not np.isfinite([low, high]).all():
        raise DataError(f"{what} holds values that are not finite numbers (NaN or infinite)")
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise DataError(f"{what} holds values from {low:g} to {high:g}, expected HU, which float32 can hold")


def require_finite_result(processed: Array) -> None:
    """Refuse what a damaged model gives: in a file of integers NaN would become some HU.

    Raises:
        DataError: with the number of pixels that are NaN or infinite.
    """
    # NaN is both the smallest and the largest value
    if np.isfinite([float(processed.min()), float(processed.max())]).all():
        return
    not_finite = int((~(abs(processed) < math.inf)).sum())
    raise DataError(f"{not_finite} processed pixels are not finite; expected finite HU. Check the model.")


def require_hu(volume: np.ndarray, remedy: str = "") -> None:
    """Refuse arrays that cannot be CT in HU.

    CT numbers reach below 0: air is -1000, fat -100, and noise takes water below 0. Arrays that do not are [0, 1] or
    8-bit images, or stored values without their rescale intercept. Noise takes [0, 1] below 0 too, and z-scores reach
    there, but no value of theirs is large.

    Args:
        volume: of any shape.
        remedy: what else the caller offers, for the end of the message.

    Raises:
        DataError: with the smallest and largest value.
    """
    require_finite(volume)
    low, high = float(volume.min()), float(volume.max())
    if max(-low, high) < SCALED_BELOW:
        raise DataError(
            f"these values are not HU: smallest {low:g}, largest {high:g}, expected some beyond "
            f"{SCALED_BELOW} HU from 0; undo the scaling to [0, 1] or unit variance first{remedy}"
        )
    if low >= 0:
        raise DataError(
            f"these values are not HU: smallest {low:g}, largest {high:g}, expected air or fat "
            f"below 0; apply RescaleSlope and RescaleIntercept first{remedy}"
        )
