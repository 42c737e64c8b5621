from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric

from ctclip.metrics.image import image_quality
from ctclip.metrics.volume import windowed_slices


def test_volumes_are_measured_slice_by_slice_in_the_window() -> None:
    generator = torch.Generator().manual_seed(0)
    label = 400 * torch.rand(1, 24, 20, 5, generator=generator) - 300
    pred = label + 20 * torch.randn(1, 24, 20, 5, generator=generator)
    predicted, expected = windowed_slices("pred", (-160, 240))([{"pred": pred, "label": label}])
    assert len(predicted) == 5
    assert all(each.shape == (1, 24, 20) and each.min() >= 0 and each.max() <= 400 for each in predicted)
    psnr = PSNRMetric(max_val=400)(torch.stack(predicted), torch.stack(expected)).mean().item()
    volumes = (np.moveaxis(each[0].numpy(), -1, 0) for each in (pred, label))
    assert psnr == pytest.approx(image_quality(*volumes, (-160, 240))["psnr_db"], rel=1e-6)
