from __future__ import annotations

import numpy as np
import pytest

from ctclip.metrics.contrast import contrast_hu, contrast_to_noise


def test_contrast_and_its_ratio_to_the_noise() -> None:
    inside = np.zeros((200, 200), dtype=bool)
    inside[50:150, 50:150] = True
    noise = np.random.default_rng(0).normal(0, 6, inside.shape)
    image = 40 - 12 * inside + np.where(inside, 2 * noise, noise)  # that of the background counts
    assert contrast_hu(image, inside, ~inside) == pytest.approx(-12, abs=0.3)
    assert contrast_to_noise(image, inside, ~inside) == pytest.approx(2, abs=0.05)
    assert contrast_to_noise(1.0 * inside, inside, ~inside) == np.inf
