"""Blending of the network's result with the original."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.strength import find_strength


class BlendWithOriginald(MapTransform):
    """``original + strength * (denoised - original)``.

    Args:
        keys: denoised items.
        ref_key: the item that holds the original, in the same unit and shape.
        strength: 0 to 1, or the name of a preset, see :func:`ctclip.strength.find_strength`.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ConfigError: for an unknown strength.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, keys: KeysCollection, ref_key: str, strength: str | float, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key, self.strength = ref_key, find_strength(strength)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        blended = dict(data)
        original: torch.Tensor = convert_to_tensor(blended[self.ref_key], dtype=torch.float32)
        for key in self.key_iterator(blended):
            denoised: torch.Tensor = convert_to_tensor(blended[key], track_meta=True, dtype=torch.float32)
            blended[key] = torch.lerp(original.to(denoised.device), denoised, self.strength)
        return blended
