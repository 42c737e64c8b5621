"""The learnable decoder: from the coarsest feature back to the image, one skip connection at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

NEGATIVE_SLOPE = 0.2
"""Slope of the published network's LeakyReLU."""

WIDTH_FACTORS = (8, 4, 2, 1, 1)
"""Channels of the five blocks, coarse to fine, in units of the decoder's width."""


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
        width: of the blocks, which have 8, 4, 2, 1 and 1 times as many channels.
        align_corners: corner convention of the bilinear up-sampling.
        head_width: channels of the last block instead.
    """

    def __init__(
        self,
        skip_channels: Sequence[int],
        out_channels: int,
        *,
        width: int,
        align_corners: bool,
        head_width: int | None = None,
    ) -> None:
        super().__init__()
        widths = [width * factor for factor in WIDTH_FACTORS]
        widths[-1] = head_width or widths[-1]
        skips = list(reversed(skip_channels))
        incoming = [0, *widths[:-1]]
        self.blocks = nn.ModuleList(
            DecoderBlock(from_below + skip, out) for from_below, skip, out in zip(incoming, skips, widths, strict=True)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
        self.last = _conv3x3(widths[-1], out_channels)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Decode F0..F4, where F0 is (B, C, H, W) and F1..F4 have strides 2, 4, 8, 16, into (B, out_channels, H, W)."""
        x = features[-1]
        # A loop that TorchScript can unroll: block 0 takes the coarsest feature alone.
        for index, block in enumerate(self.blocks):
            if index > 0:
                x = torch.cat([self.upsample(x), features[-1 - index]], dim=1)
            x = block(x)
        return self.last(x)
