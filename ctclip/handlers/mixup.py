"""Mixup of training pairs, part of the paper's recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.engines import default_prepare_batch


class MixUpBatch:
    """``prepare_batch`` of a trainer: with some probability every pair becomes a blend with another one of its batch.

    Noisy and clean image are blended with the same weights, drawn for each pair (Zhang et al., *mixup*, ICLR 2018).

    Args:
        alpha: both parameters of the Beta distribution of the weights.
        prob: probability that a batch is blended.

    Raises:
        ValueError: for an ``alpha`` that is not above 0, or a probability outside 0 to 1.
    """

    def __init__(self, alpha: float = 1.2, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must be a number from 0 to 1, found {prob}")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a finite number above 0, found {alpha}")
        self.weights, self.prob = torch.distributions.Beta(alpha, alpha), prob

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, ...) images and labels on the device, blended or not."""
        image, label = default_prepare_batch(*args, **kwargs)[:2]
        if label is None:
            raise ValueError("mixup needs a batch with labels")
        if torch.rand(()) >= self.prob:
            return image, label
        weight = self.weights.sample((len(image), *[1] * (image.ndim - 1))).to(image.device)
        order = torch.randperm(len(image))
        return weight * image + (1 - weight) * image[order], weight * label + (1 - weight) * label[order]
