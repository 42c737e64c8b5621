"""Noise with the power spectrum of filtered back-projection, made by a filter."""

from __future__ import annotations

import math

import torch

from ctclip.errors import DataError

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

    Raises:
        DataError: for slices of less than two pixels, which have no neighbours to correlate with.
    """
    if math.prod(shape[-2:]) < 2:
        raise DataError(f"noise with a texture needs slices of at least two pixels, found shape {tuple(shape)}")
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
