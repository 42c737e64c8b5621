from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import PSNRMetric

from ctclip.errors import DataError
from ctclip.metrics.image import image_quality
from ctclip.metrics.volume import windowed_slices


def test_volumes_are_measured_slice_by_slice_in_the_window() -> None:
    generator = torch.Generator().manual_seed(0)
    label = 400 * torch.rand(1, 24, 20, 5, generator=generator) - 300
    pred = label + 20 * torch.randn(1, 24, 20, 5, generator=generator)
    predicted, expected = windowed_slices("pred", (-160, 240))([{"image": pred, "pred": pred, "label": label}])
    assert len(predicted) == 5
    assert all(each.shape == (1, 24, 20) and each.min() >= 0 and each.max() <= 400 for each in predicted)
    psnr = PSNRMetric(max_val=400)(torch.stack(predicted), torch.stack(expected)).mean().item()
    volumes = (np.moveaxis(each[0].numpy(), -1, 0) for each in (pred, label))
    assert psnr == pytest.approx(image_quality(*volumes, (-160, 240))["psnr_db"], rel=1e-6)


def test_slices_without_a_finite_psnr_are_left_out_for_network_and_input_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    label = 100 * torch.rand(1, 16, 16, 4, generator=generator)
    image = label + 20 * torch.randn(1, 16, 16, 4, generator=generator)
    image[..., 1] = label[..., 1]
    label[..., 2] = -1000  # air: constant once it is clipped
    item = {"image": image, "pred": image + 1, "label": label}
    for key in ("image", "pred"):
        found, expected = windowed_slices(key, (-160, 240))([item])
        for slices, source in ((found, item[key]), (expected, label)):
            torch.testing.assert_close(torch.stack(slices), source[..., [0, 3]].movedim(-1, 0).clamp(-160, 240) + 160)
        assert torch.isfinite(PSNRMetric(max_val=400)(torch.stack(found), torch.stack(expected))).all()
    with pytest.raises(DataError, match=r"no slice of a volume can be measured in the window \[-160, 240\] HU"):
        windowed_slices("pred", (-160, 240))([{**item, "pred": label}])


def test_a_pair_of_different_sizes_is_refused() -> None:
    image, label = torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 4)
    with pytest.raises(DataError, match=r"differ in size: found \(8, 8, 3\) and \(8, 8, 4\)"):
        windowed_slices("pred", (-160, 240))([{"image": image, "pred": image, "label": label}])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_result_that_is_not_finite_is_refused(value: float) -> None:
    """MONAI's RMSE of nothing but NaN is 0."""
    image, label = torch.zeros(1, 8, 8, 3), torch.rand(1, 8, 8, 3)
    pred = torch.full_like(image, value)
    measured = windowed_slices("pred", (-160, 240))
    with pytest.raises(DataError, match="192 processed pixels are not finite"):
        measured([{"image": image, "pred": pred, "label": label}])
    with pytest.raises(DataError, match="the label holds values that are not finite"):
        measured([{"image": image, "pred": label, "label": pred}])
