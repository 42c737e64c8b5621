"""Noise of reconstructed CT slices, in HU."""

from __future__ import annotations

import numpy as np
import torch

from ctclip.transforms.noise import RandNoise, Range, normal

QUARTER_DOSE_CUTOFF = 0.22
"""Cut-off in cycles/pixel that gives the texture of 3 mm quarter-dose abdominal CT (lag-1 correlation 0.47)."""


def correlated_noise(
    shape: tuple[int, ...],
    cutoff: float = QUARTER_DOSE_CUTOFF,
    low_power: float = 1.0,
    *,
    generator: torch.Generator,
) -> torch.Tensor:
    r"""Gaussian noise of unit SD with the noise power spectrum of filtered back-projection.

    :math:`NPS(f) \propto f^{p} \exp(-(f / f_c)^2)`: a ramp, rolled off by the reconstruction kernel.

    Args:
        shape: (..., rows, columns); every slice has noise of its own.
        cutoff: :math:`f_c` in cycles/pixel; sharper kernels have higher ones.
        low_power: :math:`p`; 1 is the ramp, less means more power at low frequencies.
        generator: source of the white noise; its device is that of the result.

    Returns:
        float32 tensor of zero mean (expected) and SD 1 (expected over all noise, not of this sample).
    """
    device = generator.device
    frequency = torch.hypot(
        torch.fft.fftfreq(shape[-2], device=device)[:, None], torch.fft.rfftfreq(shape[-1], device=device)[None, :]
    )
    amplitude = torch.sqrt(frequency**low_power * torch.exp(-((frequency / cutoff) ** 2)))
    white = torch.randn(shape, generator=generator, device=device)
    filtered = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=tuple(shape[-2:]))
    return filtered / _rms_of_full_spectrum(amplitude, columns=shape[-1])


def _rms_of_full_spectrum(amplitude: torch.Tensor, columns: int) -> torch.Tensor:
    """Root mean square over all frequencies of a spectrum of which rfft holds one half."""
    weight = torch.full((amplitude.shape[-1],), 2.0, device=amplitude.device)
    weight[0] = 1.0  # the zero column stands for itself alone, and so does the Nyquist column of an even size
    if columns % 2 == 0:
        weight[-1] = 1.0
    return torch.sqrt((amplitude.square() * weight).sum() / (amplitude.shape[0] * columns))


class RandCorrelatedNoise(RandNoise):
    """Adds zero-mean CT noise of random level and texture to a slice in HU.

    The noise is a mixture of :func:`correlated_noise` and white noise. Its SD is drawn log-uniformly, so that every
    octave of dose is seen equally often; all other parameters are drawn uniformly.

    Args:
        prob: probability that noise is added at all.
        sd_hu: range of the SD in HU; the lower end must be above 0.
        cutoff: range of the cut-off frequency in cycles/pixel.
        low_power: range of the exponent of the ramp.
        white_fraction: range of the part of the variance that is white.
    """

    def __init__(
        self,
        prob: float = 1.0,
        sd_hu: Range = (10.0, 100.0),
        cutoff: Range = (0.15, 0.40),
        low_power: Range = (0.5, 1.2),
        white_fraction: Range = (0.0, 0.3),
    ) -> None:
        if not 0 < sd_hu[0] <= sd_hu[1]:
            raise ValueError(f"sd_hu needs 0 < lower <= upper, found {tuple(sd_hu)}")
        log_sd = (float(np.log(sd_hu[0])), float(np.log(sd_hu[1])))
        super().__init__(prob, log_sd=log_sd, cutoff=cutoff, low_power=low_power, white_fraction=white_fraction)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
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
        super().__init__(prob, sd=sd)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        return image + parameters["sd"] * normal(image, generator)
