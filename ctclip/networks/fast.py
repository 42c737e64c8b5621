"""The same network, arranged for speed: BatchNorm folded, channels last, nothing joined, bfloat16 where it does no
harm."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ctclip.networks.build import Network
from ctclip.networks.config import ENCODER_IMAGE_CHANNELS
from ctclip.networks.decoder import NEGATIVE_SLOPE, DecoderBlock
from ctclip.networks.denoiser import DenseFeatureDenoiser, pad_to_multiple
from ctclip.networks.encoder import DenseFeatureEncoder


def optimized_network(network: Network, *, precision: str, compiled: bool = False) -> nn.Module:
    """The fastest form of a network for inference.

    Args:
        network: on its device. Those on CLIP's tower become a :class:`FastDenoiser`, which is a
            copy; others run as they are, under autocast.
        precision: "fp32" or "bf16".
        compiled: use ``torch.compile``, which works for some ten seconds in the first pass of each image size.

    Returns:
        a module in eval mode: (B, C, H, W) float32 in [0, 1] to the same.
    """
    fast: nn.Module
    if isinstance(network, DenseFeatureDenoiser) and isinstance(network.encoder, DenseFeatureEncoder):
        fast = FastDenoiser(network, precision)
    else:
        fast = _Autocast(network, precision)
    if compiled:
        # Without the emulation a tensor that is rounded and widened again would be taken for the tensor itself.
        fast.compile(options={"emulate_precision_casts": True})
    return fast


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
    """

    def __init__(self, network: DenseFeatureDenoiser, precision: str = "fp32") -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        assert isinstance(network.encoder, DenseFeatureEncoder)
        self.pad_multiple, self.residual = network.pad_multiple, network.residual
        self.first_out, self.end_out = network.first_out, network.end_out
        self.input_conv, self.encoder = network.input_conv, network.encoder
        _fold_batchnorm(self.encoder)
        self.first_block, *others = network.decoder.blocks
        skips = (*reversed(network.config.tap_channels[:-1]), ENCODER_IMAGE_CHANNELS)
        self.blocks = nn.ModuleList(_SplitBlock(block, skip) for block, skip in zip(others, skips, strict=True))
        self.upsample, self.last = network.decoder.upsample, network.decoder.last
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._narrow_repeated_image(network)
        self._widen_for_image_parts()
        deep = [self.encoder.layer1, self.encoder.layer2, self.encoder.layer3, self.first_block, self.blocks]
        # A correction may be rounded to bfloat16, an image may not.
        for module in [*deep, self.last] if self.residual else deep:
            module.to(self.dtype)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See :class:`~ctclip.networks.DenseFeatureDenoiser`."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.pad_multiple).contiguous(memory_format=torch.channels_last)
        f0 = padded if self.input_conv is None else self.input_conv(padded)
        f1 = self.encoder.stem(f0).to(self.dtype)
        f2, f3, f4 = self.encoder.after_stem(f1)
        x = self.first_block(f4)
        for block, skip in zip(self.blocks, (f3, f2, f1, self._image_parts(f0)), strict=True):
            x = block(self.upsample(x), skip)
        clean = self.last(x.to(self.last.weight.dtype)).float()
        if self.residual:
            clean = padded[:, self.first_out : self.end_out] + clean
        return clean[..., :height, :width]

    def _convolutions_of_image(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        last = self.blocks[-1]
        assert isinstance(last, _SplitBlock)
        return self.encoder.conv1, last.of_skip

    def _narrow_repeated_image(self, network: DenseFeatureDenoiser) -> None:
        """One channel instead of three equal ones."""
        if network.config.in_channels == 1 and network.input_conv is None:
            for conv in self._convolutions_of_image():
                conv.weight = nn.Parameter(conv.weight.sum(dim=1, keepdim=True))

    def _image_parts(self, f0: torch.Tensor) -> torch.Tensor:
        """F0 for the decoder: itself, or parts in bfloat16 whose products with the widened weights add up."""
        if self.dtype == torch.float32:
            return f0
        coarse, fine = _in_two(f0)
        return torch.cat([coarse, fine, coarse], dim=1)

    def _widen_for_image_parts(self) -> None:
        if self.dtype != torch.float32:
            _, conv = self._convolutions_of_image()
            coarse, fine = _in_two(conv.weight)
            conv.weight = nn.Parameter(torch.cat([coarse, coarse, fine], dim=1))


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


class _Autocast(nn.Module):
    """Any other network."""

    def __init__(self, network: Network, precision: str) -> None:
        super().__init__()
        self.network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bf16 = precision == "bf16"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.network(image.contiguous(memory_format=torch.channels_last)).float()


def _convolution(weight: torch.Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], kernel_size=3, padding=1, bias=False)
    conv.weight = nn.Parameter(weight.detach().clone())
    return conv


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
