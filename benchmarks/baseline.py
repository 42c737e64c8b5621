"""The published form of the network, to compare with: nothing of it is optimised, on purpose.

Written from the description of the published code: 1x1 convolution from one channel to three, CLIP RN50 with its
``layer4``, whose output is thrown away, decoder with ``align_corners=True``, no residual. It shares no code with
``ctclip.networks``, so that it stays what it is when that package gets faster. Names are those of published
checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ctclip.networks import DenseFeatureDenoiser

RN50_LAYERS, RN50_WIDTH = (3, 4, 6, 3), 64
DECODER_CHANNELS = ((1024, 512), (512 + 512, 256), (256 + 256, 128), (128 + 64, 64), (64 + 3, 64))
"""In and out of each block, coarse to fine; what comes in is up-sampled plus skipped channels."""

FEATURE_NOISE = 0.025
"""``aug_level`` of the published CT configuration: SD of the noise on F1 in training."""


class PublishedNetwork(nn.Module):
    """The published CT network with random weights: (B, 1, H, W) in [0, 1] to the same shape; H and W are multiples of
    32."""

    def __init__(self) -> None:
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet

        self.first = nn.Conv2d(1, 3, kernel_size=1, bias=False)
        self.encoder = ModifiedResNet(list(RN50_LAYERS), output_dim=1, heads=1, image_size=32, width=RN50_WIDTH)
        self.encoder.attnpool = None
        self.up_path = nn.ModuleList(
            _Block(in_channels, out_channels, upsamples=index > 0)
            for index, (in_channels, out_channels) in enumerate(DECODER_CHANNELS)
        )
        self.last = _conv3x3(DECODER_CHANNELS[-1][1], 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The denoised image, not clipped."""
        f0 = self.first(image)
        skips = self._features(f0)
        if self.training:
            skips = [
                skip * (1 + FEATURE_NOISE * depth * torch.randn_like(skip)) for depth, skip in enumerate(skips, start=1)
            ]
        x = self.up_path[0](skips[-1])
        for block, skip in zip(self.up_path[1:], [*skips[-2::-1], f0], strict=True):
            x = block(x, skip)
        return self.last(x)

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        tower = self.encoder
        x = tower.act1(tower.bn1(tower.conv1(image)))
        x = tower.act2(tower.bn2(tower.conv2(x)))
        f1 = tower.act3(tower.bn3(tower.conv3(x)))
        f2 = tower.layer1(tower.avgpool(f1))
        f3 = tower.layer2(f2)
        f4 = tower.layer3(f3)
        tower.layer4(f4)  # the published code computes it too
        return [f1, f2, f3, f4]


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, upsamples: bool) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True) if upsamples else None
        self.conv_block = _Convolutions(in_channels, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        if self.upsample is not None:
            x = torch.cat([self.upsample(x), skip], dim=1)
        return self.conv_block(x)


class _Convolutions(nn.Module):
    # A module of its own because published checkpoints spell its weights "up_path.0.conv_block.block.0.weight".
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _conv3x3(in_channels, out_channels),
            nn.LeakyReLU(0.2, inplace=True),
            _conv3x3(out_channels, out_channels),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)


def published_network(*, seed: int = 0) -> PublishedNetwork:
    """The published network in eval mode, with random weights and BatchNorm statistics.

    Open_clip starts with residual branches of weight zero; here every layer has a part in the result, so that a
    comparison of results would notice a wrong one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PublishedNetwork().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def ours_with_weights_of(network: PublishedNetwork) -> DenseFeatureDenoiser:
    """ctclip's network in its reference configuration with the weights of a published one, in eval mode.

    They go through a file, the way in which ctclip converts a published checkpoint.
    """
    from ctclip.weights.published import read_published

    with TemporaryDirectory() as folder:
        path = Path(folder) / "net_g_latest.pth"
        torch.save({"params": network.state_dict()}, path)
        return read_published(path)[0]
