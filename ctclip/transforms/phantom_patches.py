"""Training patches of known truth among those of real scans."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.transforms.lesions import ellipse_cover
from ctclip.transforms.noise import require_image
from ctclip.units import AIR_HU

TISSUE_HU = (-120.0, 120.0)
"""From fat to enhanced parenchyma: the values of most backgrounds and organs."""

OTHER_HU = (AIR_HU, -800.0, 300.0, 600.0, 1000.0)
"""Air, lung, enhanced vessels, spongy and compact bone."""

AIR_PROBABILITY = 0.3
"""Backgrounds of air, so that the border of a body is seen as often as in patches of real slices."""

OTHER_PROBABILITY = 0.25
MAX_ORGANS = 5
RADIUS_PX = (8.0, 150.0)
"""From vessels to bodies that reach beyond the patch; log-uniform."""

MARGIN = 0.2
"""How far outside the patch, in parts of its size, an organ's centre may lie."""


class RandPhantomd(RandomizableTransform, MapTransform):
    """Replaces some patches, in all keys alike, by piecewise constant organs without any noise.

    The target of a real scan carries noise of its own, so a network that minimises the squared error over real scans
    alone learns to keep part of all noise. Phantoms have an exact truth: over them it learns what a flat region and
    the border of an organ look like, and the two together give less error *and* more contrast than either alone
    (measured, see ``docs/results/ct_compact.md``).

    Each phantom has a uniform background and 0 to 5 ellipses with a soft border. Low-contrast detail is left to
    :class:`~ctclip.transforms.RandLesionsd`.

    Args:
        keys: 2D patches in HU, (C, H, W), all of one size.
        prob: probability that a patch is replaced.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ValueError: for volumes.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, keys: KeysCollection, prob: float = 0.25, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def phantom_hu(self, shape: tuple[int, int]) -> np.ndarray:
        """A new random phantom: float64 HU, ``shape``."""
        background_hu = AIR_HU if self.R.rand() < AIR_PROBABILITY else self.R.uniform(*TISSUE_HU)
        field = np.full(shape, background_hu)
        side = np.array(shape)
        least, most = np.log(RADIUS_PX)
        for _ in range(self.R.randint(MAX_ORGANS + 1)):
            centre = self.R.uniform(-MARGIN * side, (1 + MARGIN) * side)
            radii = np.exp(self.R.uniform(least, most, size=2))
            cover = ellipse_cover(shape, tuple(centre), tuple(radii), self.R.uniform(0, np.pi))
            organ_hu = self.R.choice(OTHER_HU) if self.R.rand() < OTHER_PROBABILITY else self.R.uniform(*TISSUE_HU)
            field += cover * (organ_hu - field)
        return field

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        replaced = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return replaced
        keys = list(self.key_iterator(replaced))
        if not keys:
            return replaced
        for key in keys:
            require_image(self, replaced[key])
        shape = tuple(replaced[keys[0]].shape[-2:])
        phantom = torch.as_tensor(self.phantom_hu(shape), dtype=torch.float32)
        for key in keys:
            image: torch.Tensor = convert_to_tensor(replaced[key], track_meta=True, dtype=torch.float32)
            replaced[key] = torch.zeros_like(image) + phantom.to(image.device)
        return replaced
