"""Layers in the forms that NVIDIA's libraries compute fastest: what PyTorch does in several passes over the GPU's
memory, in one, and up-sampling on the units that multiply matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ctclip.devices import AMPERE


def runs_on_cudnn(tensor: torch.Tensor) -> bool:
    """Whether NVIDIA's library convolves such a tensor in bfloat16; PyTorch for AMD calls its devices "cuda" too."""
    cudnn = torch.backends.cudnn
    if not (tensor.is_cuda and torch.version.cuda is not None and cudnn.is_available() and cudnn.enabled):
        return False
    return torch.cuda.get_device_capability(tensor.device) >= AMPERE


class FusedBottlenecks(nn.Sequential):
    """Residual blocks of a CLIP ResNet whose BatchNorm is folded, with biases, sums and ReLU inside of convolutions.

    A pooling in front of a 1x1 convolution becomes part of it: the mean of four pixels, weighted, is a convolution
    of 2x2 pixels in steps of two. Its weights, a quarter of the others, are as exact.

    Args:
        blocks: a layer of open_clip's ``ModifiedResNet``; its convolutions are taken over and changed.
        pooled: also pool what goes into the first of them.
    """

    def __init__(self, blocks: nn.Sequential, *, pooled: bool = False) -> None:
        super().__init__(*(_FusedBottleneck(block, pooled=pooled and block is blocks[0]) for block in blocks))


class _FusedBottleneck(nn.Module):
    def __init__(self, block: Any, *, pooled: bool) -> None:  # open_clip's, which takes seconds to import
        super().__init__()
        inside = isinstance(block.avgpool, nn.AvgPool2d)
        self.conv1: nn.Conv2d = _after_pooling(block.conv1) if pooled else block.conv1
        self.conv2: nn.Conv2d = block.conv2
        self.conv3: nn.Conv2d = _after_pooling(block.conv3) if inside else block.conv3
        self.shortcut: nn.Module = nn.Identity()
        if block.downsample is not None:
            _, shortcut, _ = block.downsample  # pooling, convolution, folded BatchNorm
            self.conv3.bias = nn.Parameter(self.conv3.bias + shortcut.bias)
            shortcut.bias = None
            self.shortcut = _after_pooling(shortcut) if pooled or inside else shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = _convolve(self.conv2, _convolve(self.conv1, x))
        return _convolve(self.conv3, inner, self.shortcut(x))


def _convolve(conv: nn.Conv2d, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
    """``relu(conv(x) + shortcut)``."""
    if not x.is_cuda:  # where a denoiser goes when the GPU's memory does not suffice
        result = conv(x)
        return (result if shortcut is None else result + shortcut).relu_()
    how: Any = conv.stride, conv.padding, conv.dilation, conv.groups
    if shortcut is None:
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *how)
    return torch.cudnn_convolution_add_relu(x, conv.weight, shortcut, 1.0, conv.bias, *how)


def _after_pooling(conv: nn.Conv2d) -> nn.Conv2d:
    """``conv(avg_pool2d(x, 2))`` as one convolution; of a 1x1 convolution."""
    joint = nn.Conv2d(conv.in_channels, conv.out_channels, kernel_size=2, stride=2, bias=False, device="meta")
    joint.weight = nn.Parameter((conv.weight / 4).repeat(1, 1, 2, 2))
    joint.bias = conv.bias
    return joint


class MatrixUpsample(nn.Module):
    """Bilinear up-sampling by two, ``nn.Upsample(scale_factor=2, mode="bilinear")``, as two products of matrices.

    Each axis is multiplied by a matrix with two weights per row. All but these are zeros, yet on an H200, in bfloat16
    and ``channels_last``, it takes a sixth of the time of PyTorch's own kernel for CT slices, as long for images of
    1,500 rows, and longer only above.

    Args:
        align_corners: corner convention.
    """

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in ``channels_last`` to (B, C, 2H, 2W), likewise."""
        batch, channels, height, width = x.shape
        rows, columns = (_doubling(size, self.align_corners, x.device, x.dtype) for size in (height, width))
        taller = rows @ x.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
        wider = columns @ taller.view(batch, 2 * height, width, channels)
        return wider.permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _doubling(size: int, align_corners: bool, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(2 * size, size): from an axis to twice as many points on it.

    The two weights of a row add up to one after rounding too, or features would be brighter in some rows.
    """
    unit = torch.eye(size, dtype=torch.float64)[None]
    weights = F.interpolate(unit, size=2 * size, mode="linear", align_corners=align_corners)[0].T
    larger = torch.where(weights >= 0.5, weights, 0).to(dtype).double()
    smaller = (1 - larger.sum(dim=1, keepdim=True)).expand_as(weights)
    return torch.where((weights > 0) & (weights < 0.5), smaller, larger).to(device, dtype)
