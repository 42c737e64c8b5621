"""Training volumes must show a body."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from monai.utils.enums import TransformBackends

from ctclip.data.volumes import is_volume
from ctclip.errors import DataError
from ctclip.transforms.projection_noise import BODY_ABOVE_HU

MIN_SHARE = 0.01
"""Noise alone takes fewer voxels of air that high; a small patient in a large field fills more."""


class RequireBodyd(MapTransform):
    """Refuses volumes of air, which cropping to the foreground would leave without voxels.

    Args:
        keys: volumes in HU as ``LoadImageCTd`` gives them.
        above_hu: what is denser counts as body.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, above_hu: float = BODY_ABOVE_HU, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.above_hu = above_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same items.

        Raises:
            DataError: with the file's name, when less than 1 % of it is denser than ``above_hu``.
        """
        for key in self.key_iterator(dict(data)):
            volume = torch.as_tensor(data[key])
            share = float((volume > self.above_hu).float().mean())
            if share < MIN_SHARE:
                raise DataError(
                    f"{_source(data[key])} holds no body: {100 * share:.2g} % of it lie above {self.above_hu:g} HU, "
                    f"expected at least {100 * MIN_SHARE:g} %; leave it out of the training data"
                )
        return dict(data)


def _source(volume: Any) -> str:
    """The file that it comes from; a DICOM slice with its folder, as its name tells little."""
    name = volume.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(volume, MetaTensor) else None
    if name is None:
        return "a volume"
    path = Path(str(name))
    return path.name if is_volume(path) else f"{path.parent.name}/{path.name}"
