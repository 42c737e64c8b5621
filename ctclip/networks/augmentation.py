"""Progressive feature augmentation: noise on the encoder's features that grows with depth."""

from __future__ import annotations

import math

import torch
from torch import nn

from ctclip.errors import ConfigError
from ctclip.settings import is_number


class ProgressiveFeatureAugmentation(nn.Module):
    r"""Multiplies each element of feature :math:`F_i` by :math:`\alpha_i \sim N(1, (\gamma i)^2)`, in training only.

    It keeps the decoder from over-fitting to the exact features of the training noise. "Progressive" means growing
    with the depth :math:`i = 1..4`, not with training time (Cheng et al., CVPR 2024). The image itself, F0, is never
    touched.

    Args:
        gamma: strength; 0.025 and 0.05 are the paper's values. 0 switches the augmentation off.

    Raises:
        ConfigError: for a strength that is negative or no finite number.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        if not is_number(gamma) or not 0 <= gamma < math.inf:
            raise ConfigError(f"augmentation_gamma must be a finite number of at least 0, found {gamma!r}")
        self.gamma = gamma

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Augmented copies of F1..F4 in training mode, the features themselves in eval mode."""
        if not self.training or self.gamma == 0:
            return features
        return [
            feature * (1 + self.gamma * (index + 1) * torch.randn_like(feature))
            for index, feature in enumerate(features)
        ]

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}"
