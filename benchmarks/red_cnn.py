"""A network to compare with."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

CHANNELS, KERNEL, DEPTH = 96, 5, 5


class REDCNN(nn.Module):
    """Five convolutions, then five transposed ones, with shortcuts (Chen et al., IEEE TMI 2017); random weights.

    No padding: the image shrinks by four pixels per convolution and grows again.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [1, *[CHANNELS] * DEPTH]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(few, many, KERNEL) for few, many in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(many, few, KERNEL) for few, many in reversed(pairs))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) to the same shape, at least 21 pixels a side."""
        shortcuts, x = [], image
        for index, layer in enumerate(self.down):
            if index % 2 == 0:  # the image, and the results of the second and fourth convolution
                shortcuts.append(x)
            x = layer(x).relu()
        for index, layer in enumerate(self.up):
            x = layer(x)
            if index % 2 == 0:
                x = x + shortcuts.pop()
            x = x.relu()
        return x
