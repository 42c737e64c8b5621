"""Low-contrast detail of known shape, so that a network learns to keep what a radiologist looks for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.settings import is_range_of_counts
from ctclip.transforms.noise import Range, require_image, require_range

EDGE_PX = 1.5
"""Width of a lesion's border, about the blur of a standard reconstruction kernel."""


def ellipse_cover(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], angle_rad: float
) -> np.ndarray:
    """Cover of each pixel by an ellipse with a soft border.

    Args:
        shape: rows and columns.
        centre: row and column, in pixels.
        radii: half axes in pixels.
        angle_rad: angle between the first half axis and the row axis.

    Returns:
        float64, ``shape``, from 0 outside to 1 inside, 0.5 on the border.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    y, x = rows - centre[0], columns - centre[1]
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    radius = np.hypot((cos * y + sin * x) / radii[0], (cos * x - sin * y) / radii[1])
    return np.clip(0.5 - (radius - 1) * min(radii) / EDGE_PX, 0, 1)


class RandLesionsd(RandomizableTransform, MapTransform):
    """Adds the same random low-contrast ellipses to all keys, before noise is added to one of them.

    Clinical scans hold few small low-contrast lesions, and a network that minimises the squared error over them learns
    that a faint spot is noise. With lesions of known shape in image and label it is paid for keeping them.

    Contrast and radius are drawn log-uniformly, the sign at random, positions uniformly.

    Args:
        keys: 2D slices in HU, (C, H, W), all of one size.
        prob: probability that lesions are added at all.
        count: least and greatest number of lesions per slice.
        contrast_hu: range of the contrast's magnitude in HU; the lower end must be above 0.
        radius_px: range of the half axes in pixels; the lower end must be above 0.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ValueError: for a range that is empty or out of bounds, and for volumes.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        count: tuple[int, int] = (0, 12),
        contrast_hu: Range = (5.0, 60.0),
        radius_px: Range = (1.5, 10.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not is_range_of_counts(count):
            raise ValueError(f"count needs two whole numbers, 0 <= least <= greatest, found {count!r}")
        require_range("contrast_hu", contrast_hu, above=0)
        require_range("radius_px", radius_px, above=0)
        self.count, self.contrast_hu, self.radius_px = count, contrast_hu, radius_px

    def lesions_hu(self, shape: tuple[int, int]) -> np.ndarray:
        """A new random field of lesions: float64 HU to add, ``shape``."""
        field = np.zeros(shape)
        for _ in range(self.R.randint(self.count[0], self.count[1] + 1)):
            contrast_hu = self.R.choice((-1, 1)) * np.exp(self.R.uniform(*np.log(self.contrast_hu)))
            low, high = np.log(self.radius_px)
            radii = np.exp(self.R.uniform(low, high, size=2))
            centre = self.R.uniform(0, shape)
            field += contrast_hu * ellipse_cover(shape, tuple(centre), tuple(radii), self.R.uniform(0, np.pi))
        return field

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        with_lesions = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return with_lesions
        keys = list(self.key_iterator(with_lesions))
        if not keys:
            return with_lesions
        for key in keys:
            require_image(self, with_lesions[key])
        shape = tuple(with_lesions[keys[0]].shape[-2:])
        field = torch.as_tensor(self.lesions_hu(shape), dtype=torch.float32)
        for key in keys:
            image: torch.Tensor = convert_to_tensor(with_lesions[key], track_meta=True, dtype=torch.float32)
            with_lesions[key] = image + field.to(image.device)
        return with_lesions
