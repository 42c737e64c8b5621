"""Adaptation to unseen noise as a MONAI inferer, for bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.inferers import SimpleInferer

from ctclip.hu_window import require_finite
from ctclip.natural.adaptive import TRAINING_SD, AdaptiveDenoiser
from ctclip.natural.methods import through_rgb_network
from ctclip.settings import require_above_0


class AdaptiveInferer(SimpleInferer):
    """Brings every image to the training noise of an RGB network, runs the network, and brings it back.

    Args:
        training_sd: SD of the white noise that the network was trained on.

    Raises:
        ConfigError: for an SD that is no finite number above 0.
    """

    def __init__(self, training_sd: float = TRAINING_SD) -> None:
        super().__init__()
        require_above_0("training_sd", training_sd)
        self.training_sd = training_sd

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Denoise (B, C, H, W) with 1 or 3 channels, values nominally in [0, 1]; gradients end here.

        Raises:
            DataError: for values that are not finite.
        """

        def denoise(images: np.ndarray) -> np.ndarray:
            batch = torch.as_tensor(images, dtype=torch.float32, device=inputs.device).movedim(-1, 1)
            run = super(AdaptiveInferer, self).__call__
            with torch.inference_mode():
                result = through_rgb_network(lambda rgb: run(rgb, network, *args, **kwargs), batch)
            return result.movedim(1, -1).cpu().numpy()

        images = torch.as_tensor(inputs).detach().movedim(1, -1).cpu().numpy()
        require_finite(images, "the batch")
        adapted = AdaptiveDenoiser(denoise, self.training_sd)(images)
        return torch.as_tensor(adapted, dtype=torch.float32, device=inputs.device).movedim(-1, 1)
