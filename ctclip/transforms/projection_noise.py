"""Noise of simulated projections for training: streaks where the body is wide, as in real low-dose CT."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.simulation import BATCH, TEXTURES, NoiseSimulator
from ctclip.transforms.load import require_meta_data
from ctclip.transforms.noise import MAX_SEED, Range, normal, require_probability, require_range

PHOTONS: Range = (5e4, 1e6)
"""Range of photons per ray, log-uniform: from streaks of photon starvation to even noise."""

BODY_ABOVE_HU = -500.0
"""The noise is scaled to an SD of 1 over what is denser."""

LEAST_BODY_VOXELS = 256
"""In a batch of slices; fewer give no SD to scale by: that of a single voxel is 0."""


class ProjectionNoised(MapTransform):
    """Makes a noise volume of SD 1 for each CT volume, in the projection domain of :mod:`ctclip.simulation`.

    Number of photons and texture vary from batch of slices to batch; the same volume size and seed always give the same
    ones, so that MONAI's ``CacheDataset`` computes the noise once (about half a second per slice of 512x512 on a CPU
    core). It takes two bytes per voxel. Batches with hardly any body (:data:`LEAST_BODY_VOXELS`) have none: zeros.

    Args:
        keys: (1, X, Y, Z) volumes in HU as ``LoadImageCTd`` gives them.
        noise_key: the item that the noise of the last of the keys becomes, (1, X, Y, Z) float16.
        seed: of the noise.
        device: where it is computed.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        DataError: while MONAI keeps no meta data, which hold the size of the pixels.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        noise_key: str,
        seed: int = 0,
        device: str | torch.device = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.noise_key, self.seed, self.device = noise_key, seed, torch.device(device)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        with_noise = dict(data)
        for key in self.key_iterator(with_noise):
            volume = require_meta_data(self, convert_to_tensor(with_noise[key], track_meta=True, dtype=torch.float32))
            pixel_mm = float(volume.pixdim[:2].mean())
            noise = self.unit_noise(volume[0].cpu().numpy().T, pixel_mm)
            with_noise[self.noise_key] = torch.from_numpy(noise.T[np.newaxis].astype(np.float16))
        return with_noise

    def unit_noise(self, slices_hu: np.ndarray, pixel_mm: float) -> np.ndarray:
        """Noise of SD 1 in the body for (slices, rows, columns), the same shape; zeros where there is no body."""
        drawn = np.random.RandomState(self.seed)
        noise = np.zeros_like(slices_hu)
        for first in range(0, len(slices_hu), BATCH):
            batch = slices_hu[first : first + BATCH]
            texture = drawn.choice(list(TEXTURES))
            photons = float(np.exp(drawn.uniform(*np.log(PHOTONS))))
            simulator = NoiseSimulator("projection", texture, pixel_mm, self.seed, self.device, photons)
            made = simulator.noise_hu(batch, first)
            in_body = made[batch > BODY_ABOVE_HU]
            if in_body.size >= LEAST_BODY_VOXELS and in_body.std() > 0:
                noise[first : first + BATCH] = made / in_body.std()
        return noise


class RandSliceRolld(MapTransform, Randomizable):
    """Moves the slices of a noise volume on by a random number, so that no slice always has the same noise.

    Args:
        keys: (1, X, Y, Z) volumes; they become (num_slices, X, Y, Z), the noise of neighbouring slices as channels,
            as :class:`~ctclip.transforms.StackNeighborSlicesd` lays images, but the last slice goes on with the first.
        allow_missing_keys: do not raise when a key is missing.
        num_slices: odd number of slices in a stack.

    Raises:
        ValueError: for an even number of slices, or less than one.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, *, num_slices: int = 1) -> None:
        super().__init__(keys, allow_missing_keys)
        if num_slices < 1 or num_slices % 2 == 0:
            raise ValueError(f"num_slices must be odd and at least 1, found {num_slices}")
        self.reach = num_slices // 2

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        rolled = dict(data)
        for key in self.key_iterator(rolled):
            volume = torch.as_tensor(rolled[key])
            shift = self.R.randint(volume.shape[-1])
            neighbors = range(-self.reach, self.reach + 1)
            rolled[key] = torch.cat([torch.roll(volume, shift - neighbor, dims=-1) for neighbor in neighbors])
        return rolled


class RandNoiseFieldd(RandomizableTransform, MapTransform):
    """Adds a noise patch to an image patch, scaled to a random SD, with a random part of white noise.

    Args:
        keys: images in HU, (C, H, W), that get the same noise.
        noise_key: noise of SD 1: (C, H, W), or (1, H, W) for all channels alike.
        prob: probability that noise is added at all.
        sd_hu: range of the SD in HU, drawn log-uniformly; the lower end must be above 0.
        white_fraction: range of the part of the variance that is white.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ValueError: when a range is empty or out of bounds, ``prob`` is none, or noise and image differ in their number
            of channels.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        noise_key: str,
        prob: float = 1.0,
        sd_hu: Range = (10.0, 100.0),
        white_fraction: Range = (0.0, 0.3),
        allow_missing_keys: bool = False,
    ) -> None:
        require_probability(prob)
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        require_range("sd_hu", sd_hu, above=0)
        require_range("white_fraction", white_fraction, least=0, most=1)
        self.noise_key, self.sd_hu, self.white_fraction = noise_key, sd_hu, white_fraction

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        noisy = dict(data)
        self.randomize(None)
        field = torch.as_tensor(noisy[self.noise_key])
        if not self._do_transform:
            return noisy
        sd_hu = float(np.exp(self.R.uniform(*np.log(self.sd_hu))))
        white, seed = self.R.uniform(*self.white_fraction), self.R.randint(MAX_SEED)
        for key in self.key_iterator(noisy):
            image: torch.Tensor = convert_to_tensor(noisy[key], track_meta=True, dtype=torch.float32)
            if len(field) not in (1, len(image)):
                raise ValueError(
                    f"the noise needs 1 channel or the {len(image)} of {key!r}, found {len(field)}; "
                    "give RandSliceRolld the num_slices of the image"
                )
            generator = torch.Generator(image.device).manual_seed(seed)
            unit = (1 - white) ** 0.5 * field.to(image) + white**0.5 * normal(image[: len(field)], generator)
            noisy[key] = image + sd_hu * unit
        return noisy
