"""Test noise as the published protocols add it: NumPy's legacy generator, seeded anew for every image.

The same kinds as random transforms for training are in :mod:`ctclip.transforms.image_noise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctclip.errors import ConfigError

SEED = 0
"""The seed of the published tests, set before every image."""

BOX_SIDE_PX = 3
"""Side of the box of "spatial Gaussian" noise."""

POISSON_PEAK = 255.0
"""Photons at the value 1 in the fixed-peak form."""


def _gaussian(image: np.ndarray, sigma: float, random: np.random.RandomState) -> np.ndarray:
    return image + random.normal(0, sigma / 255, image.shape)


def _spatial(image: np.ndarray, sigma: float, random: np.random.RandomState) -> np.ndarray:
    white = random.normal(0, sigma / 255, image.shape)
    return image + ndimage.uniform_filter(white, size=(BOX_SIDE_PX, BOX_SIDE_PX, 1), mode="mirror")


def _poisson(image: np.ndarray, scale: float, random: np.random.RandomState) -> np.ndarray:
    peak = 2 ** math.ceil(math.log2(len(np.unique(image))))
    return _photons(image, scale, peak, random)


def _poisson_fixed(image: np.ndarray, scale: float, random: np.random.RandomState) -> np.ndarray:
    return _photons(image, scale, POISSON_PEAK, random)


def _photons(image: np.ndarray, scale: float, peak: float, random: np.random.RandomState) -> np.ndarray:
    return np.clip(image + scale * (random.poisson(image * peak) / peak - image), 0, 1)


def _speckle(image: np.ndarray, variance: float, random: np.random.RandomState) -> np.ndarray:
    return np.clip(image * (1 + random.normal(0, math.sqrt(variance), image.shape)), 0, 1)


def _salt_and_pepper(image: np.ndarray, amount: float, random: np.random.RandomState) -> np.ndarray:
    drawn = random.uniform(size=image.shape)
    return np.where(drawn < amount / 2, 0.0, np.where(drawn < amount, 1.0, image))


def _mixture(image: np.ndarray, level: float, random: np.random.RandomState) -> np.ndarray:
    noisy = _speckle(image, 0.005 * level, random)
    noisy = _salt_and_pepper(noisy, 0.0025 * level, random)
    return _gaussian(noisy, 5 * level, random)


@dataclass(frozen=True)
class NoiseFamily:
    """A kind of noise.

    Args:
        title: for tables and plots.
        unit: what its level is.
        levels: the levels that are tested by default.
        noisy: (rows, columns, channels) in [0, 1], level and generator to the noisy image.
        clipped: whether the noisy image lies in [0, 1].
    """

    title: str
    unit: str
    levels: tuple[float, ...]
    noisy: Callable[[np.ndarray, float, np.random.RandomState], np.ndarray]
    clipped: bool


FAMILIES = {
    "gaussian": NoiseFamily("Gaussian", "SD in grey values of 255", (15, 25, 50), _gaussian, False),
    "spatial": NoiseFamily("spatial Gaussian", "SD before the 3x3 mean, of 255", (40, 45, 50, 55), _spatial, False),
    "poisson": NoiseFamily("Poisson", "factor; peak from the grey values", (2, 2.5, 3, 3.5), _poisson, True),
    "poisson-fixed": NoiseFamily("Poisson, peak 255", "factor", (2, 2.5, 3, 3.5), _poisson_fixed, True),
    "speckle": NoiseFamily("speckle", "variance of the factor", (0.02, 0.04), _speckle, True),
    "saltpepper": NoiseFamily("salt and pepper", "share of the values", (0.01, 0.02), _salt_and_pepper, True),
    "mixture": NoiseFamily("mixture", "level", (1, 2, 3, 4), _mixture, False),
}
"""Gaussian, spatial Gaussian and Poisson noise as in Cheng et al., CVPR 2024; speckle and salt-and-pepper as MATLAB's
``imnoise``, with the levels of IDF (ICCV 2025). The mixture is ctclip's own, because no published definition was found:
speckle of variance 0.005, then salt and pepper on 0.25 % of the values, then Gaussian noise of 5, each times the
level."""

DEFAULT_FAMILIES = tuple(name for name in FAMILIES if name != "poisson-fixed")


@dataclass(frozen=True)
class Noise:
    """One family at one level: a column of the benchmark."""

    family: str
    level: float

    def __str__(self) -> str:
        return f"{self.family}:{self.level:g}"

    @property
    def title(self) -> str:
        """For tables, for example "Poisson 3.5"."""
        return f"{FAMILIES[self.family].title} {self.level:g}"

    def add_to(self, image: np.ndarray, seed: int = SEED) -> np.ndarray:
        """Noisy float64 copy of an image, the same for the same image and seed.

        Args:
            image: (rows, columns, channels) in [0, 1].
            seed: of NumPy's legacy generator.
        """
        return FAMILIES[self.family].noisy(image.astype(np.float64), self.level, np.random.RandomState(seed))


def parse_noise(texts: Sequence[str]) -> list[Noise]:
    """Noise from texts such as ``gaussian:15,25``, ``mixture:1-4`` or ``speckle`` alone (its default levels).

    Raises:
        ConfigError: for an unknown family or a level that is no number above 0.
    """
    found: list[Noise] = []
    for text in texts:
        family, _, levels = text.partition(":")
        if family not in FAMILIES:
            raise ConfigError(f"unknown noise {family!r}; expected one of {', '.join(FAMILIES)}")
        numbers = _levels(text, levels) if levels else list(FAMILIES[family].levels)
        if family == "saltpepper" and max(numbers) > 1:
            raise ConfigError(f"salt and pepper is a share of the values, at most 1; found {text!r}")
        found += [Noise(family, number) for number in numbers]
    return list(dict.fromkeys(found))


def _levels(text: str, levels: str) -> list[float]:
    numbers: list[float] = []
    try:
        for part in levels.split(","):
            first, dash, last = part.partition("-")
            numbers += [float(n) for n in range(int(first), int(last) + 1)] if dash else [float(part)]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < np.inf for number in numbers):
        raise ConfigError(
            f"noise levels must be numbers above 0, such as gaussian:15,25 or mixture:1-4; found {text!r}"
        )
    return numbers
