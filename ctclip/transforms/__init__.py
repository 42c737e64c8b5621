"""MONAI transforms between CT volumes in HU and what the network sees."""

from __future__ import annotations

from ctclip.transforms.hu_window import (
    RestoreOutsideHUWindow,
    RestoreOutsideHUWindowd,
    ScaleHUWindow,
    ScaleHUWindowd,
)
from ctclip.transforms.neighbor_average import NeighborAverage, NeighborAveraged
from ctclip.transforms.noise import RandCorrelatedNoise, RandCorrelatedNoised
from ctclip.transforms.stack import StackNeighborSlices, StackNeighborSlicesd

__all__ = [
    "NeighborAverage",
    "NeighborAveraged",
    "RandCorrelatedNoise",
    "RandCorrelatedNoised",
    "RestoreOutsideHUWindow",
    "RestoreOutsideHUWindowd",
    "ScaleHUWindow",
    "ScaleHUWindowd",
    "StackNeighborSlices",
    "StackNeighborSlicesd",
]
