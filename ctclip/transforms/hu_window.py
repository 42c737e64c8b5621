"""HU to [0, 1], back again, and the values that the window cannot hold."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.hu_window import hu_to_unit, restore_outside_window, unit_to_hu
from ctclip.settings import require_hu_window
from ctclip.units import MODEL_HU_WINDOW


class ScaleHUWindow(InvertibleTransform):
    """Scales an HU window linearly to [0, 1], clipping what lies outside; ``inverse`` scales back to HU.

    Inside the window ``inverse`` undoes the transform up to float32 rounding. What was clipped is lost here:
    :class:`RestoreOutsideHUWindow` puts it back. Both directions take arrays and give float32 tensors, as MONAI's
    ``ScaleIntensityRange`` does.

    Args:
        a_min: lower end of the window in HU.
        a_max: upper end of the window in HU.

    Raises:
        ConfigError: for a window that is empty, upside down or not finite.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, a_min: float = MODEL_HU_WINDOW[0], a_max: float = MODEL_HU_WINDOW[1]) -> None:
        self.window = (a_min, a_max)
        require_hu_window(self.window)

    def __call__(self, data: NdarrayOrTensor) -> NdarrayOrTensor:
        """HU of any shape to [0, 1]."""
        return hu_to_unit(_float_tensor(data), self.window)

    def inverse(self, data: NdarrayOrTensor) -> NdarrayOrTensor:
        """[0, 1] of any shape to HU; values beyond [0, 1] continue on the same line."""
        return unit_to_hu(_float_tensor(data), self.window)


class ScaleHUWindowd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`ScaleHUWindow`.

    Args:
        keys: items to scale.
        a_min: lower end of the window in HU.
        a_max: upper end of the window in HU.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = ScaleHUWindow.backend

    def __init__(
        self,
        keys: KeysCollection,
        a_min: float = MODEL_HU_WINDOW[0],
        a_max: float = MODEL_HU_WINDOW[1],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = ScaleHUWindow(a_min, a_max)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            scaled[key] = self.scaler(scaled[key])
        return scaled

    def inverse(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        restored = dict(data)
        for key in self.key_iterator(restored):
            restored[key] = self.scaler.inverse(restored[key])
        return restored


class RestoreOutsideHUWindow(Transform):
    """Puts back what the network's window cannot hold: metal above it, padding and plan lines below it.

    Args:
        a_min: lower end of the window in HU.
        a_max: upper end of the window in HU.

    Raises:
        ConfigError: for a window that is empty, upside down or not finite.
    """

    backend = ScaleHUWindow.backend

    def __init__(self, a_min: float = MODEL_HU_WINDOW[0], a_max: float = MODEL_HU_WINDOW[1]) -> None:
        self.window = (a_min, a_max)
        require_hu_window(self.window)

    def __call__(  # type: ignore[override]  # MONAI's array transforms with a second input do the same
        self, denoised_hu: NdarrayOrTensor, original_hu: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """``original_hu`` where it lies outside the window, elsewhere ``denoised_hu`` clipped to the window.

        The result is of the kind of ``denoised_hu``, array or tensor, with its meta data and applied operations.
        """
        original, *_ = convert_to_dst_type(original_hu, denoised_hu, dtype=original_hu.dtype)
        return restore_outside_window(denoised_hu, original, self.window)  # type: ignore[type-var]  # both of one kind


class RestoreOutsideHUWindowd(MapTransform):
    """Dictionary version of :class:`RestoreOutsideHUWindow`.

    Args:
        keys: denoised items in HU.
        ref_key: the item that holds the original HU.
        a_min: lower end of the window in HU.
        a_max: upper end of the window in HU.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = RestoreOutsideHUWindow.backend

    def __init__(
        self,
        keys: KeysCollection,
        ref_key: str,
        a_min: float = MODEL_HU_WINDOW[0],
        a_max: float = MODEL_HU_WINDOW[1],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key
        self.restorer = RestoreOutsideHUWindow(a_min, a_max)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        restored = dict(data)
        for key in self.key_iterator(restored):
            restored[key] = self.restorer(restored[key], restored[self.ref_key])
        return restored


def _float_tensor(data: NdarrayOrTensor) -> torch.Tensor:
    return convert_to_tensor(data, dtype=torch.float32, track_meta=get_track_meta())
