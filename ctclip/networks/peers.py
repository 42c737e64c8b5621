"""Denoisers to compare with, trained on the same data by the same bundle: DnCNN and Restormer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ctclip.errors import ConfigError
from ctclip.networks.config import config_of_fields, require_whole_numbers
from ctclip.networks.denoiser import pad_to_multiple

RESTORMER_MULTIPLE = 8
"""Restormer halves its image three times."""

LEAST_DNCNN_DEPTH = 2
"""Its first and its last convolution."""


@dataclass(frozen=True)
class PeerConfig:
    """Architecture of a :class:`PeerDenoiser`.

    Args:
        architecture: "DnCNN" or "Restormer".
        width: channels of the first convolution.
        depth: convolutions of DnCNN, at least 2, or blocks per level of Restormer, coarse levels included.
        in_channels: channels of the image.

    Raises:
        ConfigError: when a value is out of range.
    """

    architecture: str
    width: int = 64
    depth: int = 20
    in_channels: int = 3

    def __post_init__(self) -> None:
        if self.architecture not in ("DnCNN", "Restormer"):
            raise ConfigError(f"architecture must be DnCNN or Restormer, found {self.architecture!r}")
        require_whole_numbers(self.width, self.depth, self.in_channels)
        if min(self.width, self.depth, self.in_channels) < 1:
            raise ConfigError(f"width, depth and in_channels must be at least 1, found {self}")
        if self.architecture == "DnCNN" and self.depth < LEAST_DNCNN_DEPTH:
            raise ConfigError(f"DnCNN's depth must be at least {LEAST_DNCNN_DEPTH}, found {self.depth}")
        if self.architecture == "Restormer" and self.width % 8:
            raise ConfigError(f"Restormer's width must be a multiple of 8, found {self.width}")

    @property
    def out_channels(self) -> int:
        """As many as go in."""
        return self.in_channels

    @property
    def encoder_name(self) -> str:
        """For people to read: there is no encoder."""
        return f"{self.architecture}, {self.width} channels, depth {self.depth}; no encoder"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a checkpoint."""
        return asdict(self)


class DnCNN(nn.Module):
    """A stack of 3x3 convolutions with BatchNorm that predicts the noise (Zhang et al., IEEE TIP 2017)."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return image - self.layers(image)


class PeerDenoiser(nn.Module):
    """DnCNN, or MONAI's Restormer (Zamir et al., CVPR 2022), for images of any size.

    Args:
        config: the architecture, or its fields as a mapping.
    """

    def __init__(self, config: PeerConfig | dict) -> None:
        super().__init__()
        self.config = config if isinstance(config, PeerConfig) else config_of_fields(PeerConfig, config)
        self.multiple = RESTORMER_MULTIPLE if self.config.architecture == "Restormer" else 1
        self.body = _restormer(self.config) if self.config.architecture == "Restormer" else _dncnn(self.config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Denoise (B, C, H, W), values nominally in [0, 1]; the result is not clipped."""
        height, width = image.shape[-2:]
        return self.body(pad_to_multiple(image, self.multiple))[..., :height, :width]


def _dncnn(config: PeerConfig) -> nn.Module:
    return DnCNN(config.in_channels, config.width, config.depth)


def _restormer(config: PeerConfig) -> nn.Module:
    from monai.networks.nets.restormer import Restormer

    return Restormer(
        spatial_dims=2,
        in_channels=config.in_channels,
        out_channels=config.in_channels,
        dim=config.width,
        num_blocks=(config.depth,) * 4,
        heads=(1, 2, 4, 8),
        num_refinement_blocks=config.depth,
    )
