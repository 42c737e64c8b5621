"""Noise made where it arises: photon counts of a detector, reconstructed like an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ctclip.simulation.tomography import VIEWS, back_project, filter_projections, project
from ctclip.units import AIR_HU

MU_WATER_PER_MM = 0.02
"""Attenuation of water at the mean energy of a 120 kV spectrum (about 70 keV)."""

ELECTRONIC_VARIANCE = 10.0
"""Variance of the electronic noise in squared photons (Zeng et al. 2015)."""


def line_integrals(slices_hu: torch.Tensor, pixel_mm: float, *, views: int = VIEWS, shrink: int = 2) -> torch.Tensor:
    """Attenuation along parallel rays.

    Args:
        slices_hu: (batch, side, side); values below air count as air.
        pixel_mm: side of a pixel.
        views: number of angles.
        shrink: the slices are projected at a fraction of their size; the level of noise does not see finer detail.

    Returns:
        (batch, views, side), without unit.
    """
    attenuation_per_mm = (slices_hu.clamp(min=AIR_HU) - AIR_HU) / -AIR_HU * MU_WATER_PER_MM
    small = torch.nn.functional.avg_pool2d(attenuation_per_mm, shrink, ceil_mode=True)
    integrals = project(small, views) * (shrink * pixel_mm)
    return torch.nn.functional.interpolate(integrals, slices_hu.shape[-1], mode="linear")


def photon_noise_hu(
    integrals: torch.Tensor,
    photons: Sequence[float],
    pixel_mm: float,
    window: str,
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    r"""Noise of filtered back-projection at a finite number of photons.

    :math:`N = Poisson(I_0 e^{-p}) + Normal(0, \sigma_e^2)` and :math:`p' = -\ln(\max(N, 1) / I_0)`. Only the difference
    :math:`p' - p` is reconstructed: it can be added to the slice, which no re-projection blurs then.

    Args:
        integrals: :math:`p`, (batch, views, side), from :func:`line_integrals`.
        photons: :math:`I_0` of each slice, photons per ray without an object.
        pixel_mm: side of a pixel.
        window: of the ramp filter.
        generators: one per slice, on the device of ``integrals``.

    Returns:
        (batch, side, side) in HU.
    """
    errors = [_error(*each) for each in zip(integrals, photons, generators, strict=True)]
    return back_project(filter_projections(torch.stack(errors), window)) / pixel_mm * (-AIR_HU / MU_WATER_PER_MM)


def _error(integrals: torch.Tensor, photons: float, generator: torch.Generator) -> torch.Tensor:
    counted = _counted(photons * torch.exp(-integrals), generator)
    return -torch.log(counted.clamp(min=1) / photons) - integrals


def _counted(expected: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    electronic = torch.randn(expected.shape, generator=generator, device=expected.device) * ELECTRONIC_VARIANCE**0.5
    return torch.poisson(expected, generator=generator) + electronic


def back_projected_variance(log_variance: torch.Tensor) -> torch.Tensor:
    r"""Variance by place of a slice whose line integrals have noise: a pixel's noise sums up over the rays through it.

    Args:
        log_variance: of the line integrals, (batch, views, side). That of :math:`I_0` photons is :math:`p - \ln I_0`;
            electronic noise adds :math:`\sigma_e^2 e^{2p} / I_0^2` to the variance.

    Returns:
        (batch, side, side), but for a factor that the filter and the size of a pixel make.
    """
    return back_project(torch.exp(log_variance))


def photons_with(variance: np.ndarray, photon: np.ndarray, electronic: np.ndarray) -> np.ndarray:
    r"""The number :math:`I_0` at which :math:`photon / I_0 + electronic / I_0^2` is the variance; arrays of a shape."""
    return (photon + np.sqrt(photon**2 + 4 * electronic * variance)) / (2 * variance)


def relative_sd(integrals: torch.Tensor) -> torch.Tensor:
    """Where the noise of photons is strong in a slice.

    Args:
        integrals: (batch, views, side).

    Returns:
        (batch, side, side), 1 at the pixel of the strongest noise.
    """
    # relative to the densest ray e^p stays in float32
    variance = back_projected_variance(integrals - integrals.amax(dim=(1, 2), keepdim=True))
    return (variance / variance.amax(dim=(1, 2), keepdim=True)).sqrt()
