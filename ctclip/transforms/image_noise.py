"""Noise of natural images, for images in [0, 1]: the kinds on which the paper and its successors are tested."""

from __future__ import annotations

import math

import torch
from monai.config.type_definitions import NdarrayOrTensor
from torch.nn import functional as F

from ctclip.errors import DataError
from ctclip.settings import is_number
from ctclip.transforms.noise import RandNoise, Range, normal, require_image, require_range

BOX_SIDE = 3
"""Side of the box that makes "spatial Gaussian" noise out of white noise; it divides the SD by 3."""


BEYOND_UNIT = 2.0
"""How far images may reach beyond [0, 1]: other noise of a mixture does, by less. HU do by more."""


class _RandUnitNoise(RandNoise):
    """Noise that depends on the values of the image, which must lie in [0, 1]."""

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """As any :class:`RandNoise`.

        Raises:
            DataError: for an image in HU, grey values or another unit, which would be destroyed, and for NaN.
        """
        low, high = float(img.min()), float(img.max())
        if not (low >= -BEYOND_UNIT and high <= 1 + BEYOND_UNIT):  # NaN is neither
            raise DataError(
                f"{type(self).__name__} is for images in [0, 1], found values from {low:g} to {high:g}; for CT in HU "
                "take RandCorrelatedNoise or RandWhiteNoise"
            )
        return super().__call__(img, randomize)


class RandSpatialGaussianNoise(RandNoise):
    """White Gaussian noise, averaged over 3x3 pixels: its SD is a third of ``sigma``. Images are (C, H, W).

    Args:
        prob: probability that noise is added at all.
        sigma: range of the SD *before* averaging, in the unit of the image; the paper tests 40/255 to 55/255 on [0, 1].
    """

    def __init__(self, prob: float = 1.0, sigma: Range = (40 / 255, 55 / 255)) -> None:
        require_range("sigma", sigma, least=0)
        super().__init__(prob, sigma=sigma)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        require_image(self, image)
        channels, rows, columns = image.shape
        white = torch.randn(
            (channels, rows + BOX_SIDE - 1, columns + BOX_SIDE - 1), generator=generator, device=image.device
        )
        return image + parameters["sigma"] * F.avg_pool2d(white, BOX_SIDE, stride=1)


class RandPoissonNoise(_RandUnitNoise):
    """Photon noise: ``image + scale * (Poisson(image * peak) / peak - image)``, clipped to [0, 1].

    Args:
        prob: probability that noise is added at all.
        scale: range of the factor on the noise; the paper tests 2 to 3.5.
        peak: photons at the value 1; ``None`` takes the number of grey values in the image, rounded up to a power of
            two, as scikit-image and the paper do, which makes the level depend on the image.
    """

    def __init__(self, prob: float = 1.0, scale: Range = (1.0, 1.0), peak: float | None = 255.0) -> None:
        require_range("scale", scale, least=0)
        if peak is not None and not (is_number(peak) and 0 < peak < math.inf):
            raise ValueError(f"peak must be a finite number above 0, or None, found {peak!r}")
        super().__init__(prob, scale=scale)
        self.peak = peak

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        peak = self.peak or 2 ** math.ceil(math.log2(len(torch.unique(image))))
        counted = torch.poisson(image.clamp(min=0) * peak, generator=generator) / peak
        return (image + parameters["scale"] * (counted - image)).clamp(0, 1)


class RandPoissonGaussianNoise(_RandUnitNoise):
    r"""Camera noise of variance :math:`\sigma_s^2 x + \sigma_c^2`: photons and read-out.

    Args:
        prob: probability that noise is added at all.
        sigma_s: range of the photon noise's SD at the value 1.
        sigma_c: range of the read-out noise's SD.
    """

    def __init__(self, prob: float = 1.0, sigma_s: Range = (0.04, 0.04), sigma_c: Range = (0.03, 0.03)) -> None:
        require_range("sigma_s", sigma_s, least=0)
        require_range("sigma_c", sigma_c, least=0)
        if sigma_s[0] == 0:
            raise ValueError(
                f"sigma_s must be above 0, found {tuple(sigma_s)}; for read-out noise alone use white noise"
            )
        super().__init__(prob, sigma_s=sigma_s, sigma_c=sigma_c)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        gain = parameters["sigma_s"] ** 2
        photons = torch.poisson(image.clamp(min=0) / gain, generator=generator) * gain
        return photons + parameters["sigma_c"] * normal(image, generator)


class RandSaltAndPepperNoise(_RandUnitNoise):
    """Replaces values by 0 or 1, equally often.

    Args:
        prob: probability that noise is added at all.
        amount: range of the share of values that are replaced.
    """

    def __init__(self, prob: float = 1.0, amount: Range = (0.02, 0.02)) -> None:
        require_range("amount", amount, least=0, most=1)
        super().__init__(prob, amount=amount)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        drawn = torch.rand(image.shape, generator=generator, device=image.device)
        half = parameters["amount"] / 2
        salted = torch.where(drawn < half, torch.ones_like(image), image)
        return torch.where(drawn > 1 - half, torch.zeros_like(image), salted)


class RandSpeckleNoise(_RandUnitNoise):
    """Multiplicative noise: ``image + image * n`` with Gaussian ``n``.

    Args:
        prob: probability that noise is added at all.
        variance: range of the variance of ``n``.
    """

    def __init__(self, prob: float = 1.0, variance: Range = (0.04, 0.04)) -> None:
        require_range("variance", variance, least=0)
        super().__init__(prob, variance=variance)

    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        return image + image * math.sqrt(parameters["variance"]) * normal(image, generator)
