"""Noise of reconstructed CT slices, in HU."""

from __future__ import annotations

import numpy as np
import torch

from ctclip.simulation.correlated import correlated_noise
from ctclip.transforms.noise import RandNoise, Range, normal, require_image, require_range


class RandCorrelatedNoise(RandNoise):
    """Adds zero-mean CT noise of random level and texture to a slice in HU.

    The noise is a mixture of :func:`correlated_noise` and white noise. Its SD is drawn log-uniformly, so that every
    octave of dose is seen equally often; all other parameters are drawn uniformly.

    Args:
        prob: probability that noise is added at all.
        sd_hu: range of the SD in HU; the lower end must be above 0.
        cutoff: range of the cut-off frequency in cycles/pixel.
        low_power: range of the exponent of the ramp; the lower end must be at least 0.
        white_fraction: range of the part of the variance that is white.

    Raises:
        ValueError: for a range that is empty or out of bounds, and an image of another shape than (C, H, W).
        DataError: for an image of a single pixel.
    """

    def __init__(
        self,
        prob: float = 1.0,
        sd_hu: Range = (10.0, 100.0),
        cutoff: Range = (0.15, 0.40),
        low_power: Range = (0.5, 1.2),
        white_fraction: Range = (0.0, 0.3),
    ) -> None:
        require_range("sd_hu", sd_hu, above=0)
        require_range("cutoff", cutoff, above=0)
        require_range("low_power", low_power, least=0)
        require_range("white_fraction", white_fraction, least=0, most=1)
        log_sd = (float(np.log(sd_hu[0])), float(np.log(sd_hu[1])))
        super().__init__(prob, log_sd=log_sd, cutoff=cutoff, low_power=low_power, white_fraction=white_fraction)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        require_image(self, image)
        texture = correlated_noise(
            tuple(image.shape), parameters["cutoff"], parameters["low_power"], generator=generator
        )
        white = parameters["white_fraction"]
        unit = np.sqrt(1 - white) * texture + np.sqrt(white) * normal(image, generator)
        return image + float(np.exp(parameters["log_sd"])) * unit


class RandWhiteNoise(RandNoise):
    """Adds independent Gaussian noise to each pixel, in the unit of the image.

    MONAI's ``RandGaussianNoise`` draws its noise with numpy on the CPU; this one draws it where the image lies.

    Args:
        prob: probability that noise is added at all.
        sd: range of the SD, in HU for images in HU. 80 HU is the level of the paper's CT recipe (5/255 of 4096 HU).
    """

    def __init__(self, prob: float = 1.0, sd: Range = (80.0, 80.0)) -> None:
        require_range("sd", sd, least=0)
        super().__init__(prob, sd=sd)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        return image + parameters["sd"] * normal(image, generator)
