"""A photograph-like image whose noise-free values are known."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """(256, 320, 3) in [0.1, 0.9]: slow colour gradients, and sharp-edged discs of other brightness."""
    y, x = np.mgrid[:256, :320] / 256.0
    image = np.stack([0.3 + 0.4 * x / 1.25, 0.3 + 0.4 * y, 0.6 - 0.2 * x * y], axis=-1)
    for row, column, radius, value in ((70, 80, 40, 0.85), (180, 230, 55, 0.15), (60, 250, 25, 0.5)):
        disc = (np.mgrid[:256, :320][0] - row) ** 2 + (np.mgrid[:256, :320][1] - column) ** 2 < radius**2
        image[disc] = value
    return image
