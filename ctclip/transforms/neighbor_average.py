"""Cleaner training targets from noisy scans: neighbouring slices where they show the same anatomy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_numpy, convert_to_tensor
from monai.utils.enums import TransformBackends
from scipy import ndimage

from ctclip.errors import DataError

SMOOTHING_PX = (0.5, 1.5, 4.0)
"""Scales of the comparison: small vessels show in the first, moving organ borders in the last."""

AGREES_BELOW_SD, DIFFERS_ABOVE_SD = 3.0, 4.0
"""Differences of up to 3 SD are taken for noise (99.7 % of all noise), of more than 4 SD for anatomy; linear
between."""

SD_FROM_LOWER_QUARTILE = 1 / 0.3186
"""SD of a normal distribution over the lower quartile of its absolute values. The quartile, unlike the usual median, is
moved little by the many pixels in which the anatomy really differs."""

TISSUE_HU = (-200.0, 300.0)
"""Where the noise of the difference is measured."""


class NeighborAverage(Transform):
    r"""Replaces each slice by the mean of the slices before and after it, wherever these agree with it.

    A clinical scan is its own noise's only witness: a network trained on "slice plus noise -> slice" learns to keep
    the noise of the slice. The mean of the neighbours has *other* noise, so a network trained on "slice plus noise
    -> neighbours" cannot predict it and learns the anatomy alone (the argument of Noise2Noise, Lehtinen et al. 2018,
    and of Noise2Sim, Niu et al. 2022). Where the neighbours show other anatomy the slice itself stays the target.

    The comparison is a difference, smoothed at several scales, in units of its own robust SD in soft tissue.

    Args:
        distance: neighbours are slices ``z - distance`` and ``z + distance``; it must be large enough for their
            noise to be independent (2 in all three volumes that ct-compact was trained on, measured: correlation
            below 0.06, against 0.24 to 0.48 between direct neighbours). At the ends of the volume the one that
            exists is used: every slice has one from twice as many slices on.
        self_weight: share of the slice itself in its target, also where the neighbours agree. A normal-dose scan shows
            noise too, part of it the noise of the low-dose one; a share above 0 teaches to keep that part, and with
            it faint detail.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, distance: int = 2, self_weight: float = 0.0) -> None:
        if distance < 1:
            raise ValueError(f"distance must be at least 1, found {distance}")
        if not 0 <= self_weight <= 1:
            raise ValueError(f"self_weight must lie between 0 and 1, found {self_weight}")
        self.distance, self.self_weight = distance, self_weight

    def __call__(self, volume: NdarrayOrTensor) -> torch.Tensor:
        """(1, X, Y, Z) in HU to its targets, same shape, float32.

        Raises:
            ValueError: for another number of dimensions or channels.
            DataError: when the volume has too few slices for each of them to have a neighbour.
        """
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(
                f"averaging neighbours needs a volume with one channel, (1, X, Y, Z), found shape {tuple(volume.shape)}"
            )
        slices = convert_to_numpy(volume).astype(np.float32)[0]
        count = slices.shape[-1]
        if count < 2 * self.distance:
            raise DataError(
                f"neighbours {self.distance} slices apart need at least {2 * self.distance} slices, found {count}; "
                "leave the volume out, or give a smaller --neighbor_distance"
            )
        target = np.empty_like(slices)
        for z in range(count):
            neighbors = [n for n in (z - self.distance, z + self.distance) if 0 <= n < count]
            mean = slices[..., neighbors].mean(axis=-1)
            weight = (1 - self.self_weight) * agreement(slices[..., z], mean)
            target[..., z] = weight * mean + (1 - weight) * slices[..., z]
        out = convert_to_tensor(volume, track_meta=True, dtype=torch.float32).clone()
        out[0] = torch.as_tensor(target)
        return out


def agreement(slice_hu: np.ndarray, other_hu: np.ndarray) -> np.ndarray:
    """Where two slices in HU show the same anatomy: 1 where they differ by noise only, 0 where by more; same shape."""
    difference = slice_hu - other_hu
    tissue = (slice_hu > TISSUE_HU[0]) & (slice_hu < TISSUE_HU[1])
    weight = np.ones_like(difference)
    if not tissue.any():
        return 0 * weight
    for sigma in SMOOTHING_PX:
        smooth = ndimage.gaussian_filter(difference, sigma)
        sd_hu = SD_FROM_LOWER_QUARTILE * np.quantile(np.abs(smooth[tissue]), 0.25) + np.finfo(np.float32).eps
        excess = (DIFFERS_ABOVE_SD - np.abs(smooth) / sd_hu) / (DIFFERS_ABOVE_SD - AGREES_BELOW_SD)
        weight = np.minimum(weight, np.clip(excess, 0, 1))
    return weight


class NeighborAveraged(MapTransform):
    """Dictionary version of :class:`NeighborAverage`.

    Args:
        keys: volumes in HU.
        distance: distance of the neighbours in slices.
        self_weight: share of the slice itself in its target.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = NeighborAverage.backend

    def __init__(
        self,
        keys: KeysCollection,
        distance: int = 2,
        self_weight: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.average = NeighborAverage(distance, self_weight)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        averaged = dict(data)
        for key in self.key_iterator(averaged):
            averaged[key] = self.average(averaged[key])
        return averaged
