"""Neighbouring slices as channels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends


class StackNeighborSlices(Transform):
    """Lays each slice between its neighbours: one channel becomes ``num_slices`` channels.

    Channel ``num_slices // 2`` is the slice itself; beyond the first and last slice the outermost one is repeated.

    Args:
        num_slices: odd number of slices in a stack; 1 changes nothing.
        slice_dim: spatial dimension along which slices follow each other; -1 is z in MONAI's (C, X, Y, Z) order.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, num_slices: int = 3, slice_dim: int = -1) -> None:
        if num_slices < 1 or num_slices % 2 == 0:
            raise ValueError(f"num_slices must be odd and at least 1, found {num_slices}")
        self.num_slices, self.slice_dim = num_slices, slice_dim

    def __call__(self, volume: NdarrayOrTensor) -> torch.Tensor:
        """(1, ...) volume to (num_slices, ...)."""
        slices: torch.Tensor = convert_to_tensor(volume, track_meta=True)
        if slices.shape[0] != 1:
            raise ValueError(f"stacking slices needs a volume with one channel, found shape {tuple(slices.shape)}")
        spatial_dims = slices.ndim - 1
        if not -spatial_dims <= self.slice_dim < spatial_dims:
            raise ValueError(f"slice_dim must be one of the {spatial_dims} spatial dimensions, found {self.slice_dim}")
        dim = self.slice_dim if self.slice_dim < 0 else self.slice_dim + 1
        count, reach = slices.shape[dim], self.num_slices // 2
        index = torch.arange(count, device=slices.device)
        shifted = [(index + offset).clamp(0, count - 1) for offset in range(-reach, reach + 1)]
        return torch.cat([slices.index_select(dim, which) for which in shifted], dim=0)


class StackNeighborSlicesd(MapTransform):
    """Dictionary version of :class:`StackNeighborSlices`.

    Args:
        keys: items to stack.
        num_slices: odd number of slices in a stack.
        slice_dim: spatial dimension along which slices follow each other.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = StackNeighborSlices.backend

    def __init__(
        self, keys: KeysCollection, num_slices: int = 3, slice_dim: int = -1, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.stacker = StackNeighborSlices(num_slices, slice_dim)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        stacked = dict(data)
        for key in self.key_iterator(stacked):
            stacked[key] = self.stacker(stacked[key])
        return stacked
