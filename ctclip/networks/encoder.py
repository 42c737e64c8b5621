"""The dense-feature encoder: CLIP's ResNet image tower without the parts that a denoiser does not need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ctclip.networks.resnet import residual_layer


class FreezableEncoder(nn.Module):
    """Base of the encoders: what "frozen" means.

    Args:
        drifting_batchnorm: see :class:`DenseFeatureEncoder`.
    """

    def __init__(self, *, drifting_batchnorm: bool = False) -> None:
        super().__init__()
        self.frozen, self.drifting_batchnorm = False, drifting_batchnorm

    def freeze(self) -> FreezableEncoder:
        """Stop all learning in this module for good: gradients and, without ``drifting_batchnorm``, statistics."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> FreezableEncoder:
        """Like ``nn.Module.train``, except that a frozen encoder always stays in eval mode."""
        return super().train(mode and (self.drifting_batchnorm or not self.frozen))


class DenseFeatureEncoder(FreezableEncoder):
    """Taps F1..F4 of open_clip's ``ModifiedResNet``; ``layer4``, the attention pool and the text tower are left out.

    The input is the raw image in [0, 1], without CLIP's mean and standard deviation, crop or resize (Cheng et al.,
    CVPR 2024). Parameter names are those of CLIP's image tower without its ``visual.`` prefix.

    Frozen means that no parameter takes a gradient *and* that every BatchNorm keeps its statistics, whatever
    ``train()`` is called on this module or on a parent of it. Gradients still flow through to the input, which the
    learned input convolution of the published network needs.

    Args:
        layers: residual blocks in ``layer1``, ``layer2``, ``layer3``.
        width: channels after the stem.
        frozen: ``False`` only for pre-training an encoder of one's own.
        drifting_batchnorm: let a frozen encoder's BatchNorm use and update batch statistics in training mode, as the
            published code does by mistake; only to measure what that does.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6),
        width: int = 64,
        *,
        frozen: bool = True,
        drifting_batchnorm: bool = False,
    ) -> None:
        super().__init__(drifting_batchnorm=drifting_batchnorm)
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(half), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(half, half, kernel_size=3, padding=1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(half), nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(half, width, kernel_size=3, padding=1, bias=False)
        self.bn3, self.act3 = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = residual_layer(width, width, layers[0])
        self.layer2 = residual_layer(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = residual_layer(8 * width, 4 * width, layers[2], stride=2)
        if frozen:
            self.freeze()

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Dense features of an image.

        Args:
            image: (B, 3, H, W) in [0, 1], H and W multiples of 16.

        Returns:
            F1..F4 with strides 2, 4, 8, 16 and ``width`` times 1, 4, 8, 16 channels. F1 is taken before the stem's
            pooling.
        """
        f1 = self.stem(image)
        return [f1] + self.after_stem(f1)  # noqa: RUF005  TorchScript has no star

    def stem(self, image: torch.Tensor) -> torch.Tensor:
        """F1 of an image."""
        x = self.act1(self.bn1(self.conv1(image)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.act3(self.bn3(self.conv3(x)))

    def after_stem(self, f1: torch.Tensor) -> list[torch.Tensor]:
        """F2..F4 from F1."""
        f2 = self.layer1(self.avgpool(f1))
        f3 = self.layer2(f2)
        return [f2, f3, self.layer3(f3)]
