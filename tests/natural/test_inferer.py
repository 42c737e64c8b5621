"""Adaptation as a MONAI inferer."""

from __future__ import annotations

import numpy as np
import torch

from ctclip.natural.adaptive import AdaptiveDenoiser
from ctclip.natural.inferer import AdaptiveInferer
from ctclip.natural.noise import Noise


def test_the_inferer_is_the_adaptive_denoiser(picture: np.ndarray) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
    noisy = Noise("gaussian", 50).add_to(picture)

    def denoise(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.as_tensor(images, dtype=torch.float32).movedim(-1, 1)).movedim(1, -1).numpy()

    expected = AdaptiveDenoiser(denoise)(noisy[np.newaxis])[0]
    batch = torch.as_tensor(noisy, dtype=torch.float32).movedim(-1, 0)[None]
    with torch.no_grad():
        found = AdaptiveInferer()(batch, network)
    assert found.shape == batch.shape
    np.testing.assert_allclose(found[0].movedim(0, -1).numpy(), expected, atol=1e-5)
