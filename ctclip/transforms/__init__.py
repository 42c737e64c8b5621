"""MONAI transforms between CT volumes in HU and what the network sees."""

from __future__ import annotations

from ctclip.transforms.ct_noise import RandCorrelatedNoise, RandWhiteNoise
from ctclip.transforms.hu_window import (
    RestoreOutsideHUWindow,
    RestoreOutsideHUWindowd,
    ScaleHUWindow,
    ScaleHUWindowd,
)
from ctclip.transforms.image_noise import (
    RandPoissonGaussianNoise,
    RandPoissonNoise,
    RandSaltAndPepperNoise,
    RandSpatialGaussianNoise,
    RandSpeckleNoise,
)
from ctclip.transforms.lesions import RandLesionsd
from ctclip.transforms.load import CTReader, LoadImageCTd, RequireSameGridd
from ctclip.transforms.neighbor_average import NeighborAverage, NeighborAveraged
from ctclip.transforms.noise import RandNoised
from ctclip.transforms.phantom_patches import RandPhantomd
from ctclip.transforms.projection_noise import ProjectionNoised, RandNoiseFieldd, RandSliceRolld
from ctclip.transforms.require_body import RequireBodyd
from ctclip.transforms.save import SaveImageCTd
from ctclip.transforms.stack import StackNeighborSlices, StackNeighborSlicesd
from ctclip.transforms.strength import BlendWithOriginald

__all__ = [
    "BlendWithOriginald",
    "CTReader",
    "LoadImageCTd",
    "NeighborAverage",
    "NeighborAveraged",
    "ProjectionNoised",
    "RandCorrelatedNoise",
    "RandLesionsd",
    "RandNoiseFieldd",
    "RandNoised",
    "RandPhantomd",
    "RandPoissonGaussianNoise",
    "RandPoissonNoise",
    "RandSaltAndPepperNoise",
    "RandSliceRolld",
    "RandSpatialGaussianNoise",
    "RandSpeckleNoise",
    "RandWhiteNoise",
    "RequireBodyd",
    "RequireSameGridd",
    "RestoreOutsideHUWindow",
    "RestoreOutsideHUWindowd",
    "SaveImageCTd",
    "ScaleHUWindow",
    "ScaleHUWindowd",
    "StackNeighborSlices",
    "StackNeighborSlicesd",
]
