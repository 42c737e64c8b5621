"""Random CT noise for training, in the image domain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

QUARTER_DOSE_CUTOFF = 0.22
"""Cut-off in cycles/pixel that gives the texture of 3 mm quarter-dose abdominal CT (lag-1 correlation 0.47)."""

Range = tuple[float, float]


def correlated_noise(
    shape: tuple[int, int], cutoff: float = QUARTER_DOSE_CUTOFF, low_power: float = 1.0, *, rng: np.random.RandomState
) -> np.ndarray:
    r"""Gaussian noise of unit SD with the noise power spectrum of filtered back-projection.

    :math:`NPS(f) \propto f^{p} \exp(-(f / f_c)^2)`: a ramp, rolled off by the reconstruction kernel.

    Args:
        shape: rows and columns.
        cutoff: :math:`f_c` in cycles/pixel; sharper kernels have higher ones.
        low_power: :math:`p`; 1 is the ramp, less means more power at low frequencies.
        rng: source of the white noise.

    Returns:
        float64 array of zero mean (expected) and SD 1 (expected over all noise, not of this sample).
    """
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    power = frequency**low_power * np.exp(-((frequency / cutoff) ** 2))
    filtered = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * np.sqrt(power)).real
    return filtered / np.sqrt(power.mean())


class RandCorrelatedNoise(RandomizableTransform):
    """Adds zero-mean CT noise of random level and texture to a 2D slice in HU.

    The noise is a mixture of :func:`correlated_noise` and white noise. Its SD is drawn log-uniformly, so that every
    octave of dose is seen equally often; all other parameters are drawn uniformly.

    Args:
        prob: probability that noise is added at all.
        sd_hu: range of the SD in HU; the lower end must be above 0.
        cutoff: range of the cut-off frequency in cycles/pixel.
        low_power: range of the exponent of the ramp.
        white_fraction: range of the part of the variance that is white.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        prob: float = 1.0,
        sd_hu: Range = (10.0, 100.0),
        cutoff: Range = (0.15, 0.40),
        low_power: Range = (0.5, 1.2),
        white_fraction: Range = (0.0, 0.3),
    ) -> None:
        super().__init__(prob)
        if not 0 < sd_hu[0] <= sd_hu[1]:
            raise ValueError(f"sd_hu needs 0 < lower <= upper, found {sd_hu}")
        self.sd_hu, self.cutoff, self.low_power, self.white_fraction = sd_hu, cutoff, low_power, white_fraction
        self._noise_hu: np.ndarray | None = None

    def randomize(self, shape: tuple[int, ...]) -> None:
        """Draw level and texture once, and noise of its own for each channel of a (C, H, W) slice."""
        super().randomize(None)
        self._noise_hu = None
        if not self._do_transform:
            return
        sd_hu = np.exp(self.R.uniform(*np.log(self.sd_hu)))
        white = self.R.uniform(*self.white_fraction)
        cutoff, low_power = self.R.uniform(*self.cutoff), self.R.uniform(*self.low_power)
        plane = (shape[-2], shape[-1])
        texture = np.stack([correlated_noise(plane, cutoff, low_power, rng=self.R) for _ in range(shape[0])])
        self._noise_hu = sd_hu * (np.sqrt(1 - white) * texture + np.sqrt(white) * self.R.standard_normal(shape))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """Noisy copy of a (C, H, W) slice, or stack of slices, in HU."""
        clean: torch.Tensor = convert_to_tensor(img, track_meta=True, dtype=torch.float32)
        if randomize:
            self.randomize(tuple(clean.shape))
        if self._noise_hu is None:
            return clean
        return clean + torch.as_tensor(self._noise_hu, dtype=torch.float32, device=clean.device)


class RandCorrelatedNoised(MapTransform, Randomizable):
    """Dictionary version of :class:`RandCorrelatedNoise`; each key gets noise of its own.

    Args:
        keys: slices in HU.
        prob: probability that noise is added at all.
        sd_hu: range of the SD in HU.
        cutoff: range of the cut-off frequency in cycles/pixel.
        low_power: range of the exponent of the ramp.
        white_fraction: range of the part of the variance that is white.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = RandCorrelatedNoise.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        sd_hu: Range = (10.0, 100.0),
        cutoff: Range = (0.15, 0.40),
        low_power: Range = (0.5, 1.2),
        white_fraction: Range = (0.0, 0.3),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.noise = RandCorrelatedNoise(prob, sd_hu, cutoff, low_power, white_fraction)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCorrelatedNoised:
        super().set_random_state(seed, state)
        self.noise.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        noisy = dict(data)
        for key in self.key_iterator(noisy):
            noisy[key] = self.noise(noisy[key])
        return noisy
