"""Denoising under noise that training never saw: the image is brought to the noise that the network knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ctclip.natural.impulses import find_impulses, keep_noise, replace_impulses
from ctclip.natural.noise_level import NoiseLevel, average_2x2, measure_noise
from ctclip.natural.stabilize import VarianceStabilizer

TRAINING_SD = 15 / 255
"""Noise that the networks of ``natural_clip_denoising`` are trained on."""

MAX_GAIN = 2.0
"""Weaker noise is amplified, with the image, by no more than this."""

FADE_SD = 4 / 255
"""Below this noise, at the brightness of the pixel, the network's effect fades out, with its square: there is nothing
left to remove."""

COARSE = 2.2
"""Coarseness from which noise counts as coarse; white noise has 1, and up to 1.6 was found on photographs."""

COARSE_MIN_SD = 2.5 / 255
"""Below this SD fine texture looks like coarse noise."""

COARSE_BOOST = 1.2
"""Coarse noise stays coarse after averaging: the network is told of that much more than is measured there."""

LEFT_AFTER_COARSE = 0.5
"""Noise that is left to remove once its coarse part is gone, in units of ``coarse_sd``."""

GREY_FACTOR = 3**0.5
"""By how much less noise a grey image gets: a colour network sees it in all of its channels."""

IMPULSE_ROUNDS = 3

Denoise = Callable[[np.ndarray], np.ndarray]
"""(images, rows, columns, channels) in [0, 1] to the same."""


@dataclass(frozen=True)
class AdaptiveDenoiser:
    """A network, used on images whose noise it was not trained on.

    1. Impulses become the median of their neighbours.
    2. Where neighbouring pixels have noise in common, it is estimated at half the resolution and subtracted.
    3. The image is transformed so that its noise has the SD of training at every brightness, denoised, and
       transformed back.

    The constants of this module were chosen on training images (CBSD432); no test set was used.

    Args:
        denoise: the network; it must take a grey image, one channel, too.
        training_sd: SD of the white noise that it was trained on.
        in_channels: of the network.
    """

    denoise: Denoise
    training_sd: float = TRAINING_SD
    in_channels: int = 3

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Denoise images of one size, each by its own noise.

        Args:
            images: (images, rows, columns, channels), values nominally in [0, 1].

        Returns:
            the same shape, float64. Images too small to measure their noise go straight to the network. One whose
            channels are all equal is denoised as the grey image that it is.
        """
        if measure_noise(images[0]) is None:
            return self.denoise(images)
        grey = np.array([_is_grey_in_colours(image) for image in images])
        if grey.any():
            results = np.empty(images.shape)
            results[grey] = self(images[grey][..., :1])
            if not grey.all():
                results[~grey] = self(images[~grey])
            return results
        cleaned, noises = zip(*map(_without_impulses, images.astype(np.float64)), strict=True)
        prepared, noises = self._without_coarse_noise(list(cleaned), list(noises))
        return self._at_training_level(prepared, noises)

    def _without_coarse_noise(
        self, images: list[np.ndarray], noises: list[NoiseLevel]
    ) -> tuple[list[np.ndarray], list[NoiseLevel]]:
        coarse = [index for index, noise in enumerate(noises) if _is_coarse(noise)]
        halves = [average_2x2(images[index]) for index in coarse]
        noise_of_halves = [measure_noise(half) for half in halves]
        if not coarse or None in noise_of_halves:
            return images, noises
        boosted = [_scaled(noise, COARSE_BOOST) for noise in noise_of_halves if noise]
        for index, half, clean in zip(coarse, halves, self._at_training_level(halves, boosted), strict=True):
            rows, columns = images[index].shape[:2]
            enlarged = ndimage.zoom(half - clean, (2, 2, 1), order=3, mode="nearest", grid_mode=True)
            images[index] = images[index] - enlarged[:rows, :columns]
            noises[index] = _scaled(noises[index], LEFT_AFTER_COARSE * noises[index].coarseness)
        return images, noises

    def _target_sd(self, image: np.ndarray) -> float:
        """The training noise; for a grey image, which a colour network sees in all of its channels, the SD that
        independent noise of three channels leaves in their mean."""
        grey_in_colours = image.shape[-1] < self.in_channels
        return self.training_sd / (GREY_FACTOR if grey_in_colours else 1.0)

    def _at_training_level(self, images: list[np.ndarray], noises: list[NoiseLevel]) -> np.ndarray:
        stabilizers = [
            VarianceStabilizer(noise, self._target_sd(image), (float(image.min()), float(image.max())), MAX_GAIN)
            for image, noise in zip(images, noises, strict=True)
        ]
        stable = np.stack([each.forward(image) for each, image in zip(stabilizers, images, strict=True)])
        results = []
        for image, noise, stabilizer, result in zip(images, noises, stabilizers, self.denoise(stable), strict=True):
            denoised = stabilizer.inverse(result)
            effect = np.minimum(1.0, (noise.sd_at(denoised) / FADE_SD) ** 2)
            results.append(image + effect * (denoised - image))
        return np.stack(results)


def _is_grey_in_colours(image: np.ndarray) -> bool:
    """Whether a colour image has the same value in all channels of every pixel."""
    return image.shape[-1] > 1 and np.array_equal(image, np.broadcast_to(image[..., :1], image.shape))


def _without_impulses(image: np.ndarray) -> tuple[np.ndarray, NoiseLevel]:
    for _ in range(IMPULSE_ROUNDS):
        noise = measure_noise(image)
        assert noise is not None
        impulses = keep_noise(find_impulses(image, noise))
        if not impulses.any():
            return image, noise
        image = replace_impulses(image, impulses)
    noise = measure_noise(image)
    assert noise is not None
    return image, noise


def _is_coarse(noise: NoiseLevel) -> bool:
    return noise.coarseness > COARSE and noise.sd > COARSE_MIN_SD


def _scaled(noise: NoiseLevel, factor: float) -> NoiseLevel:
    return replace(noise, sd=noise.sd * factor, variance=noise.variance * factor**2)
