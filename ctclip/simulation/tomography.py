r"""Parallel-beam projection and filtered back-projection on torch, in units of pixels.

The conventions are those of scikit-image's ``radon`` and ``iradon`` with ``circle=True``: as many detector pixels as
the image has columns, views over 180 degrees, everything inside the inscribed circle; but the axis is the middle of
the image also for an even number of pixels. scikit-image works on one slice on the CPU; this works on a batch of slices
where they lie.
"""

from __future__ import annotations

import math

import torch

VIEWS = 720
"""Views over 180 degrees: about as many as 512 detector pixels need without streaks (pi / 2 times their number)."""

FINE_STEPS = 8
"""Places per detector pixel in back-projection."""

WINDOWS = ("ramp", "shepp-logan", "cosine", "hann")
"""Windows of the ramp filter, from the sharpest to the smoothest."""


def project(images: torch.Tensor, views: int = VIEWS) -> torch.Tensor:
    """Line integrals (Radon transform), by sums over rotated images with linear interpolation.

    Args:
        images: (batch, side, side) float, 0 outside the body.
        views: number of angles, evenly over 180 degrees.

    Returns:
        (batch, views, side) integrals, lengths in pixels.
    """
    batch, side = images.shape[0], images.shape[-1]
    half = (side - 1) / 2
    axis = (torch.arange(side, device=images.device) - half) / half
    across, along = torch.meshgrid(axis, axis, indexing="ij")  # detector pixel, step on the ray
    inside = _circle(side, images.device) * images
    sinogram = images.new_empty((batch, views, side))
    for view, angle in enumerate(_angles(views)):
        cos, sin = math.cos(angle), math.sin(angle)
        grid = torch.stack((across * cos + along * sin, along * cos - across * sin), dim=-1)
        rotated = torch.nn.functional.grid_sample(inside[None], grid[None].to(images.dtype), align_corners=True)
        sinogram[:, view] = rotated[0].sum(dim=-1)
    return sinogram


def filter_projections(sinogram: torch.Tensor, window: str) -> torch.Tensor:
    """Apply a windowed ramp filter; the ramp is band-limited in space (Kak and Slaney 1988, equation 3.61).

    Args:
        sinogram: (batch, views, side).
        window: one of :data:`WINDOWS`.

    Returns:
        the same shape.
    """
    side = sinogram.shape[-1]
    length = max(64, 2 ** math.ceil(math.log2(2 * side)))
    response = _ramp(length) * _window(length, window)
    spectrum = torch.fft.rfft(sinogram, n=length) * response.to(sinogram)
    return torch.fft.irfft(spectrum, n=length)[..., :side]


def back_project(sinogram: torch.Tensor) -> torch.Tensor:
    """Sum over views of what each pixel projects to, 0 outside the inscribed circle.

    A pixel reads the detector at the nearest of :data:`FINE_STEPS` places per pixel, linearly interpolated. The
    slices of a batch share their indices, which makes a slice of a batch of eight ten times cheaper than one alone.

    Args:
        sinogram: (batch, views, side), filtered for a reconstruction.

    Returns:
        (batch, side, side), scaled such that back-projecting filtered projections gives the image.
    """
    batch, views, side = sinogram.shape
    last = (side - 1) * FINE_STEPS
    fine = torch.nn.functional.interpolate(sinogram, size=last + 1, mode="linear", align_corners=True)
    tables = fine.permute(1, 2, 0).contiguous()
    axis = (torch.arange(side, device=sinogram.device) - (side - 1) / 2) * FINE_STEPS
    image = sinogram.new_zeros((side * side, batch))
    for table, angle in zip(tables, _angles(views), strict=True):
        place = axis[None, :] * math.cos(angle) - axis[:, None] * math.sin(angle) + last / 2
        nearest = place.round().clamp(0, last).flatten().int()
        image += torch.nn.functional.embedding(nearest, table)
    image = image.T.reshape(batch, side, side) * (math.pi / (2 * views))
    return image * _circle(side, sinogram.device)


def _angles(views: int) -> list[float]:
    return [math.pi * view / views for view in range(views)]


def _circle(side: int, device: torch.device) -> torch.Tensor:
    axis = torch.arange(side, device=device) - (side - 1) / 2
    return (axis[:, None].square() + axis[None, :].square() <= (side / 2) ** 2).float()


def _ramp(length: int) -> torch.Tensor:
    """Frequency response of the band-limited ramp, half of the spectrum, twice the frequency in cycles per pixel."""
    distance = torch.minimum(torch.arange(length), length - torch.arange(length)).double()
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance.clamp(min=1)).square(), 0.0)
    kernel[0] = 0.25
    return 2 * torch.fft.rfft(kernel).real


def _window(length: int, name: str) -> torch.Tensor:
    """Gain by frequency, from 1 at 0 to the Nyquist frequency."""
    share = torch.linspace(0, 1, length // 2 + 1, dtype=torch.float64)
    gains = {
        "ramp": torch.ones_like(share),
        "shepp-logan": torch.sinc(share / 2),
        "cosine": torch.cos(math.pi / 2 * share),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * share),
    }
    return gains[name]
