"""Layers of CLIP's ResNet image tower (Radford et al., 2021), with the parameter names of its published weights.

They are those of open_clip's ``ModifiedResNet``, whose import takes seconds for models that are not needed here.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

EXPANSION = 4
"""Channels that leave a bottleneck, in units of its width."""


class Bottleneck(nn.Module):
    """A residual block that averages before it strides, so that nothing is aliased.

    Args:
        in_channels: channels that come in.
        width: of the 3x3 convolution; four times as many channels leave.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.bn3.weight)  # an untrained block passes its input on
        self.act3 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            layers = {"-1": nn.AvgPool2d(stride), "0": shortcut, "1": nn.BatchNorm2d(out_channels)}
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.avgpool(self.act2(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.act3(out)


def residual_layer(in_channels: int, width: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """Bottlenecks of one width, of which the first one strides."""
    first = Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width) for _ in range(blocks - 1)))
