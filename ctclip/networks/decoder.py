"""The learnable decoder: from the coarsest feature back to the image, one skip connection at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

NEGATIVE_SLOPE = 0.2
"""Slope of the published network's LeakyReLU."""

WIDTH_FACTORS = (8, 4, 2, 1, 1)
"""Channels of the five blocks, coarse to fine, in units of the decoder's width."""

SQUARE = 2
"""Side of the squares of pixels that a half-resolution head works on."""


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)


class DecoderBlock(nn.Sequential):
    """Two 3x3 convolutions without bias or normalisation, each followed by LeakyReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            _conv3x3(in_channels, out_channels),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            _conv3x3(out_channels, out_channels),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )


class DenseFeatureDecoder(nn.Module):
    """Five blocks that take F4 up to the image; blocks 1-4 up-sample by two and join the next finer feature.

    Args:
        skip_channels: channels of F0..F4.
        out_channels: channels of the result.
        width: channels of the finest block.
        align_corners: corner convention of the bilinear up-sampling.
        half_resolution_head: block 4 does not up-sample; it joins F0 with the pixels of each 2x2 square as channels,
            and the last convolution gives the four pixels (Shi et al., *Real-Time Single Image and Video
            Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network*, CVPR 2016).
    """

    def __init__(
        self,
        skip_channels: Sequence[int],
        out_channels: int,
        *,
        width: int,
        align_corners: bool,
        half_resolution_head: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTH_FACTORS]
        squares = SQUARE**2 if half_resolution_head else 1
        skips = [*reversed(skip_channels[1:]), skip_channels[0] * squares]
        incoming = [0, *widths[:-1]]
        self.blocks = nn.ModuleList(
            DecoderBlock(from_below + skip, out) for from_below, skip, out in zip(incoming, skips, widths, strict=True)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
        self.last = _conv3x3(width, out_channels * squares)
        # Plain attributes, because TorchScript cannot hold constants of the module.
        self.half_resolution_head, self.square, self.finest = half_resolution_head, SQUARE, len(widths) - 1

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Decode F0..F4, where F0 is (B, C, H, W) and F1..F4 have strides 2, 4, 8, 16, into (B, out_channels, H, W)."""
        x = features[-1]
        # A loop that TorchScript can unroll: block 0 takes the coarsest feature alone.
        for index, block in enumerate(self.blocks):
            if index > 0:
                skip = features[-1 - index]
                if index == self.finest and self.half_resolution_head:
                    skip = F.pixel_unshuffle(skip, self.square)
                else:
                    x = self.upsample(x)
                x = torch.cat([x, skip], dim=1)
            x = block(x)
        x = self.last(x)
        return F.pixel_shuffle(x, self.square) if self.half_resolution_head else x
