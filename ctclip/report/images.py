"""HU images as pictures inside a page."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

GREY_LEVELS = 255

DIFFERENCE_HU = 50.0
"""Differences are shown from minus this (black) to plus this (white): noise of low dose fits in."""


def png_data_uri(image_hu: np.ndarray, window_hu: tuple[float, float]) -> str:
    """An 8-bit grey PNG as data URI, black at the lower end of the window and white at the upper one.

    Args:
        image_hu: (rows, columns); NaN is black.
        window_hu: lower and upper end.
    """
    low, high = window_hu
    share = np.clip((np.nan_to_num(image_hu, nan=low).astype(np.float64) - low) / (high - low), 0, 1)
    file = BytesIO()
    Image.fromarray(np.rint(GREY_LEVELS * share).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def difference_data_uri(before_hu: np.ndarray, after_hu: np.ndarray, window_hu: tuple[float, float]) -> str:
    """after - before as :func:`png_data_uri`, grey where they are equal, of what a window shows of both.

    Args:
        before_hu: (rows, columns).
        after_hu: the same shape.
        window_hu: beyond its ends nothing is seen to change.
    """
    return png_data_uri(difference_hu(before_hu, after_hu, window_hu), (-DIFFERENCE_HU, DIFFERENCE_HU))


def difference_hu(before_hu: np.ndarray, after_hu: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """after - before of what a window shows of both; the same shape."""
    return np.clip(after_hu, *window_hu) - np.clip(before_hu, *window_hu)
