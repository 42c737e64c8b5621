"""The same network, arranged for speed: BatchNorm folded, channels last, nothing joined, bfloat16 where it does no
harm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ctclip.errors import ConfigError
from ctclip.networks.config import ENCODER_IMAGE_CHANNELS
from ctclip.networks.cudnn import FusedBottlenecks, MatrixUpsample, runs_on_cudnn
from ctclip.networks.decoder import NEGATIVE_SLOPE, DecoderBlock, DenseFeatureDecoder
from ctclip.networks.denoiser import DenseFeatureDenoiser, pad_to_multiple, require_channels
from ctclip.networks.encoder import DenseFeatureEncoder
from ctclip.networks.float32 import exact_float32
from ctclip.settings import require_found

NetworkKind = TypeVar("NetworkKind", bound=nn.Module)

GPU_CHANNELS = 8
"""cuDNN multiplies bfloat16 on tensor cores where channels are a multiple of this: with 16 channels, of which seven are
zero, five times faster than with 9."""


def inference_copy(network: NetworkKind, device: torch.device | None) -> NetworkKind:
    """In float32, whatever :func:`torch.set_default_dtype` said when it was built."""
    return copy.deepcopy(network).eval().to(device=device, dtype=torch.float32)


class FastDenoiser(nn.Module):
    """A :class:`~ctclip.networks.DenseFeatureDenoiser` for inference only; takes and gives the same.

    Where the decoder convolves a joint tensor of coarser and skipped features, this one convolves both and adds the
    results, which costs less than joining them.

    What changes beside speed is rounding. bfloat16 has eight significant bits: an image in [0, 1] that stands for 4096
    HU would come in steps of 8 HU, and filters whose weights sum to zero would no longer do so. Therefore the encoder's
    stem stays in float32, the decoder's last block gets the image, and its weights for it, as sums of two bfloat16
    numbers, and the result leaves in float32.

    Args:
        network: is copied; one on CLIP's tower.
        precision: "fp32" or "bf16", of the other convolutions.
        device: of the copy; ``None``: the network's.
        compilable: on a GPU, keep to layers that PyTorch's compiler can take; without, bfloat16 takes those of
            :mod:`ctclip.networks.cudnn`, a third faster.

    Raises:
        ConfigError: for a network on another encoder, and for an unknown precision.
    """

    def __init__(
        self,
        network: DenseFeatureDenoiser,
        precision: str = "fp32",
        device: torch.device | None = None,
        *,
        compilable: bool = False,
    ) -> None:
        super().__init__()
        require_found(precision=precision)
        network = inference_copy(network, device)
        encoder = network.encoder
        if not isinstance(encoder, DenseFeatureEncoder):
            raise ConfigError(
                f"FastDenoiser is for networks on CLIP's ResNet, found one on {network.config.backbone}; take "
                "optimized_network"
            )
        _fold_batchnorm(encoder)
        self.pad_multiple, self.residual = network.pad_multiple, network.residual
        self.in_channels = network.in_channels
        self.first_out, self.end_out = network.first_out, network.end_out
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.input_conv = network.input_conv
        self.stem = nn.Sequential(encoder.conv1, encoder.act1, encoder.conv2, encoder.act2, encoder.conv3, encoder.act3)
        deep = DeepLayers(encoder, network.decoder, network.config.tap_channels[:-1])
        if network.config.in_channels == 1 and network.input_conv is None:
            for conv in (encoder.conv1, deep.of_image):  # one channel instead of three equal ones
                conv.weight = nn.Parameter(conv.weight.sum(dim=1, keepdim=True))
        if self.dtype == torch.bfloat16:
            deep.become_bf16(rounded_result=self.residual)
        self.zero_channels = 0
        if self.dtype == torch.bfloat16 and deep.of_image.weight.is_cuda:
            self.zero_channels = deep.widen_image(GPU_CHANNELS)
            if not compilable and runs_on_cudnn(deep.of_image.weight):
                deep.fuse()
        self.deep: nn.Module = deep
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See :class:`~ctclip.networks.DenseFeatureDenoiser`."""
        require_channels(image, self.in_channels)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.pad_multiple)
        clean = self.deep(*self.features(padded)).float()
        if self.residual:
            clean = padded[:, self.first_out : self.end_out] + clean
        return clean[..., :height, :width]

    def features(self, padded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the deep layers take: F1, and F0, in bfloat16 as parts for the widened weights."""
        padded = padded.contiguous(memory_format=torch.channels_last)
        with exact_float32(padded.device):  # the image in TF32 would cost up to 4 HU
            f0 = padded if self.input_conv is None else self.input_conv(padded)
            f1 = self.stem(f0).to(self.dtype)
        if self.dtype == torch.float32:
            return f1, f0
        coarse, fine = _in_two(f0)
        parts = torch.cat([coarse, fine, coarse], dim=1)
        if self.zero_channels:
            parts = _with_zero_channels(parts, self.zero_channels).contiguous(memory_format=torch.channels_last)
        return f1, parts


class DeepLayers(nn.Module):
    """Everything between F1 and the result: the residual layers and the decoder.

    Args:
        encoder: without BatchNorm.
        decoder: of the same network.
        skip_channels: channels of F1, F2 and F3.
    """

    def __init__(
        self, encoder: DenseFeatureEncoder, decoder: DenseFeatureDecoder, skip_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.avgpool = encoder.avgpool
        self.layer1, self.layer2, self.layer3 = encoder.layer1, encoder.layer2, encoder.layer3
        self.first_block, *others = decoder.blocks
        skips = (*reversed(skip_channels), ENCODER_IMAGE_CHANNELS)
        self.blocks = nn.ModuleList(_SplitBlock(block, skip) for block, skip in zip(others, skips, strict=True))
        self.upsample: nn.Module = decoder.upsample
        self.align_corners = bool(decoder.upsample.align_corners)
        self.last = decoder.last

    @property
    def of_image(self) -> nn.Conv2d:
        """The convolution of F0."""
        last = self.blocks[-1]
        assert isinstance(last, _SplitBlock)
        return last.of_skip

    def become_bf16(self, *, rounded_result: bool) -> None:
        """Round the weights, those of F0 to the sum of two; the result only where it is a correction, not an image."""
        coarse, fine = _in_two(self.of_image.weight)
        self.of_image.weight = nn.Parameter(torch.cat([coarse, coarse, fine], dim=1))
        last = self.last.weight.dtype
        self.to(torch.bfloat16)
        if not rounded_result:
            self.last.to(last)

    def widen_image(self, multiple: int) -> int:
        """Append channels of weight zero to those of F0, up to a multiple; gives how many."""
        weight = self.of_image.weight
        missing = -weight.shape[1] % multiple
        self.of_image.weight = nn.Parameter(_with_zero_channels(weight, missing))
        return missing

    def fuse(self) -> None:
        """Take the layers of :mod:`ctclip.networks.cudnn`."""
        self.layer1, self.avgpool = FusedBottlenecks(self.layer1, pooled=True), nn.Identity()
        self.layer2, self.layer3 = FusedBottlenecks(self.layer2), FusedBottlenecks(self.layer3)
        self.upsample = MatrixUpsample(align_corners=self.align_corners)

    def forward(self, f1: torch.Tensor, image_parts: torch.Tensor) -> torch.Tensor:
        """(B, C, H/2, W/2) and (B, C', H, W) to the result, (B, out_channels, H, W)."""
        f2 = self.layer1(self.avgpool(f1))
        f3 = self.layer2(f2)
        x = self.first_block(self.layer3(f3))
        for block, skip in zip(self.blocks, (f3, f2, f1, image_parts), strict=True):
            x = block(self.upsample(x), skip)
        return self.last(x.to(self.last.weight.dtype))


class _SplitBlock(nn.Module):
    """A decoder block whose first convolution takes the coarser features and the skipped ones one by one."""

    def __init__(self, block: nn.Module, skip_channels: int) -> None:
        super().__init__()
        assert isinstance(block, DecoderBlock)
        joint, second = block[0], block[2]
        assert isinstance(joint, nn.Conv2d)
        below, skip = joint.weight.split([joint.in_channels - skip_channels, skip_channels], dim=1)
        self.of_below, self.of_skip, self.second = _convolution(below), _convolution(skip), second

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.of_below(below)
        x += self.of_skip(skip)
        x = F.leaky_relu_(x, NEGATIVE_SLOPE)
        return F.leaky_relu_(self.second(x), NEGATIVE_SLOPE)


def _convolution(weight: torch.Tensor) -> nn.Conv2d:
    # On "meta" it draws no random weights.
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], kernel_size=3, padding=1, bias=False, device="meta")
    conv.weight = nn.Parameter(weight.detach().clone())
    return conv


def _with_zero_channels(values: torch.Tensor, more: int) -> torch.Tensor:
    return F.pad(values, (0, 0, 0, 0, 0, more))


def _in_two(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A float32 tensor as the sum of two bfloat16 tensors, to 16 significant bits."""
    coarse = values.bfloat16()
    return coarse, (values - coarse.float()).bfloat16()


def _fold_batchnorm(encoder: DenseFeatureEncoder) -> None:
    """Put each BatchNorm's scale and shift into the convolution before it."""
    for module in list(encoder.modules()):
        children = dict(module.named_children())
        order = [name for name in children if "act" not in name]
        for conv_name, norm_name in pairwise(order):
            conv, norm = children[conv_name], children[norm_name]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
