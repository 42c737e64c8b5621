"""Adaptation to unseen noise as a MONAI inferer, for bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.inferers import SimpleInferer

from ctclip.natural.adaptive import TRAINING_SD, AdaptiveDenoiser
from ctclip.natural.methods import through_rgb_network


class AdaptiveInferer(SimpleInferer):
    """Brings every image to the training noise of an RGB network, runs the network, and brings it back.

    Args:
        training_sd: SD of the white noise that the network was trained on.
    """

    def __init__(self, training_sd: float = TRAINING_SD) -> None:
        super().__init__()
        self.training_sd = training_sd

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Denoise (B, C, H, W) with 1 or 3 channels, values nominally in [0, 1]."""

        def denoise(images: np.ndarray) -> np.ndarray:
            batch = torch.as_tensor(images, dtype=torch.float32, device=inputs.device).movedim(-1, 1)
            run = super(AdaptiveInferer, self).__call__
            result = through_rgb_network(lambda rgb: run(rgb, network, *args, **kwargs), batch)
            return result.movedim(1, -1).cpu().numpy()

        images = torch.as_tensor(inputs).movedim(1, -1).cpu().numpy()
        adapted = AdaptiveDenoiser(denoise, self.training_sd)(images)
        return torch.as_tensor(adapted, dtype=torch.float32, device=inputs.device).movedim(-1, 1)
