"""Slices to measure with. Times do not depend on the anatomy, so a few different ones are enough."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.settings import IMAGE_SIZE, NOISE_HU
from ctclip.demo import write_ct_series
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.units import MODEL_HU_WINDOW

DIFFERENT_SLICES = 10


def noisy_slices_hu(slices: int) -> list[np.ndarray]:
    """So many (512, 512) slices of the noisy phantom in HU; from the eleventh on the same ones come again."""
    noisy = low_dose(body_phantom_hu(min(slices, DIFFERENT_SLICES), IMAGE_SIZE), NOISE_HU)
    return list(islice(cycle(noisy), slices))


def unit_images(slices: int) -> torch.Tensor:
    """The same as (slices, 1, 512, 512) float32 in [0, 1]."""
    low, high = MODEL_HU_WINDOW
    images = torch.from_numpy(np.stack(noisy_slices_hu(slices)))[:, None]
    return ((images - low) / (high - low)).clamp(0, 1)


def write_series(folder: Path, slices: int) -> None:
    """Write them as a CT series."""
    # A list of references to ten slices, because 1000 stacked ones fill a gigabyte.
    write_ct_series(folder, noisy_slices_hu(slices))
