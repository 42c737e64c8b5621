"""Phantom slices as MONAI data items: a validation set with a noise-free truth that needs no files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctclip.phantom import body_phantom_hu, low_dose


def phantom_items(
    sd_hu: tuple[float, ...] = (15.0, 30.0, 60.0, 90.0), *, slices: int = 3, size: int = 256, seed: int = 0
) -> list[dict[str, Any]]:
    """Noisy and clean phantom slices, the same ones for the same arguments.

    Args:
        sd_hu: noise levels in the centre of the body.
        slices: slices per level.
        size: rows and columns.
        seed: of the noise.

    Returns:
        items with ``image`` and ``label``, (1, size, size) float32 in HU.
    """
    clean = body_phantom_hu(slices, size)
    items = []
    for offset, level in enumerate(sd_hu):
        noisy = low_dose(clean, level, seed=seed + offset)
        items += [
            {"image": image[np.newaxis], "label": label[np.newaxis]} for image, label in zip(noisy, clean, strict=True)
        ]
    return items
