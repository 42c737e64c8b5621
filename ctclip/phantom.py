"""A mathematical body phantom with known HU: for the demonstration, for tests, and to select models on a noise-free
truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctclip.simulation.correlated import correlated_noise
from ctclip.units import AIR_HU

EDGE_PX = 1.2
"""Width of the soft border of every shape, about the blur of a standard reconstruction kernel."""

NEIGHBOR_STEP = 2 / 19
"""Height between neighbouring slices: that of a phantom of 20 slices."""


@dataclass(frozen=True)
class Ellipse:
    """A shape in units of half the field of view: centre, half axes, angle in degrees, value; ``lean`` moves it
    along z."""

    x: float
    y: float
    a: float
    b: float
    hu: float
    angle: float = 0.0
    lean: float = 0.0

    def mask(self, size: int, z: float) -> np.ndarray:
        """(size, size) cover of each pixel, 0 to 1, at height ``z`` in [-1, 1]."""
        axis = (np.arange(size) + 0.5) / (size / 2) - 1
        x, y = axis[None, :] - self.x - self.lean * z, axis[:, None] - self.y
        cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        radius = np.hypot((cos * x + sin * y) / self.a, (cos * y - sin * x) / self.b)
        distance_px = (radius - 1) * min(self.a, self.b) * size / 2
        return np.clip(0.5 - distance_px / EDGE_PX, 0, 1)


def _fissures(x: float, y: float) -> list[Ellipse]:
    """Rows of thin dark and bright plates, ever finer: they show what a denoiser does to detail."""
    return [Ellipse(x + 0.045 * i, y, 0.020 / (1 + i), 0.06, 110 if i % 2 else -40) for i in range(5)]


def _inserts(x: float, y: float) -> list[Ellipse]:
    """Low-contrast lesions in the liver, 10 to 40 HU above it."""
    return [
        Ellipse(x + 0.11 * np.cos(k), y + 0.11 * np.sin(k), 0.012 + 0.006 * k, 0.012 + 0.006 * k, 60 + hu)
        for k, hu in enumerate((40, 30, 20, 10))
    ]


ABDOMEN: tuple[Ellipse, ...] = (
    Ellipse(0, 0, 0.86, 0.66, -100),  # subcutaneous fat
    Ellipse(0, 0, 0.79, 0.59, 45),  # muscle
    Ellipse(0, -0.02, 0.70, 0.50, -90),  # visceral fat
    Ellipse(-0.32, -0.06, 0.34, 0.36, 60, angle=-15),  # liver
    Ellipse(0.48, -0.02, 0.17, 0.24, 55, angle=20, lean=0.03),  # spleen
    Ellipse(0.24, -0.28, 0.20, 0.13, 20, lean=0.05),  # stomach
    Ellipse(0.24, -0.34, 0.13, 0.05, AIR_HU, lean=0.05),  # gas
    Ellipse(-0.30, 0.30, 0.10, 0.13, 35, angle=20),  # kidneys
    Ellipse(0.32, 0.30, 0.10, 0.13, 35, angle=-20),
    Ellipse(-0.28, 0.30, 0.04, 0.06, -80, angle=20),
    Ellipse(0.30, 0.30, 0.04, 0.06, -80, angle=-20),
    Ellipse(0, 0.38, 0.14, 0.12, 650),  # vertebra: cortex, marrow, canal
    Ellipse(0, 0.38, 0.12, 0.10, 180),
    Ellipse(0, 0.53, 0.045, 0.04, 30),
    Ellipse(-0.06, 0.20, 0.055, 0.055, 160, lean=0.02),  # aorta, vena cava
    Ellipse(0.07, 0.20, 0.060, 0.045, 120, lean=-0.02),
    *(
        Ellipse(0.74 * np.cos(t), 0.54 * np.sin(t), 0.05, 0.022, 500, angle=float(np.rad2deg(t)) + 90)
        for t in np.arange(0.3, 6.3, 0.7)
    ),
    *(
        Ellipse(-0.5 + 0.07 * i, -0.25 + 0.05 * i, 0.012 + 0.002 * i, 0.010, 120, lean=0.06) for i in range(6)
    ),  # vessels
    *_inserts(-0.32, 0.02),
    *_fissures(0.05, -0.05),
)


def body_phantom_hu(slices: int = 20, size: int = 512) -> np.ndarray:
    """The noise-free phantom: an abdomen with organs, bones, gas, low-contrast lesions and fine plates.

    Returns:
        float32 HU, (slices, size, size).
    """
    return _body_hu(_heights(slices), size)


def _heights(slices: int) -> np.ndarray:
    """Where the slices of a phantom lie along z, in [-1, 1]."""
    return np.linspace(-1, 1, slices) if slices > 1 else np.zeros(1)


def _body_hu(heights: np.ndarray, size: int) -> np.ndarray:
    """Noise-free slices at any heights: float32 HU, (slices, size, size)."""
    volume = np.full((len(heights), size, size), AIR_HU, dtype=np.float64)
    for index, z in enumerate(heights):
        for shape in ABDOMEN:
            cover = shape.mask(size, z)
            volume[index] += cover * (shape.hu - volume[index])
    return volume.astype(np.float32)


def low_dose(volume_hu: np.ndarray, sd_hu: float, *, seed: int = 0) -> np.ndarray:
    """Adds noise with the texture of filtered back-projection, strongest in the middle of the body.

    Args:
        volume_hu: (slices, rows, columns).
        sd_hu: SD in the centre; it falls to 60 % at the edge of the field of view.
        seed: of the random numbers.

    Returns:
        float32 HU, same shape.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, columns = volume_hu.shape[1:]
    radius_sq = np.linspace(-1, 1, rows)[:, None] ** 2 + np.linspace(-1, 1, columns)[None, :] ** 2
    local_sd_hu = sd_hu * (1 - 0.4 * np.clip(radius_sq, 0, 1))
    noise = correlated_noise(volume_hu.shape, generator=generator).numpy()
    return (volume_hu + local_sd_hu * noise).astype(np.float32)


def phantom_items(
    sd_hu: tuple[float, ...] = (15.0, 30.0, 60.0, 90.0),
    *,
    slices: int = 3,
    size: int = 256,
    seed: int = 0,
    num_slices: int = 1,
) -> list[dict[str, Any]]:
    """Noisy and clean phantom slices, the same ones for the same arguments.

    The slices and their noise do not depend on ``num_slices``, so that networks of one and of several slices compare.

    Args:
        sd_hu: noise levels in the centre of the body.
        slices: slices per level.
        size: rows and columns.
        seed: of the noise.
        num_slices: odd number of neighbouring slices that are the channels of an image, each with noise of its own.

    Returns:
        items with ``image``, (num_slices, size, size), and ``label``, (1, size, size): float32 in HU.
    """
    neighbors = range(-(num_slices // 2), num_slices // 2 + 1)
    clean = {n: _body_hu(_heights(slices) + n * NEIGHBOR_STEP, size) for n in neighbors}
    items = []
    for offset, level in enumerate(sd_hu):
        # n % num_slices numbers the neighbours from 0, the slice itself
        noisy = [low_dose(clean[n], level, seed=seed + offset + n % num_slices * len(sd_hu)) for n in neighbors]
        items += [
            {"image": image, "label": label[np.newaxis]}
            for image, label in zip(np.stack(noisy, axis=1), clean[0], strict=True)
        ]
    return items
