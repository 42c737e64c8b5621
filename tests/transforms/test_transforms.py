from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip, ScaleIntensityRange

from ctclip.errors import ConfigError, DataError
from ctclip.hu_window import hu_to_unit, require_hu, unit_to_hu
from ctclip.transforms import (
    NeighborAverage,
    RandLesionsd,
    RandPhantomd,
    RestoreOutsideHUWindow,
    RestoreOutsideHUWindowd,
    ScaleHUWindow,
    ScaleHUWindowd,
    StackNeighborSlices,
    StackNeighborSlicesd,
)
from ctclip.transforms.lesions import ellipse_cover
from ctclip.transforms.neighbor_average import agreement


def test_window_and_its_inverse() -> None:
    hu = torch.tensor([[-3000.0, -1024, 0, 3072, 5000]])
    scaled = ScaleHUWindow()(hu)
    assert scaled.tolist() == [[0, 0, 0.25, 1, 1]]
    inside = torch.linspace(-1024, 3072, 4097)[None]
    back = ScaleHUWindow().inverse(ScaleHUWindow()(inside))
    torch.testing.assert_close(back, inside, atol=1e-3, rtol=0)
    data = ScaleHUWindowd("image")({"image": hu, "other": 1})
    assert data["image"].tolist() == scaled.tolist()
    assert data["other"] == 1


def test_both_directions_are_those_of_monai() -> None:
    hu = torch.linspace(-3000, 5000, 8001)
    for values in (hu, hu.numpy(), hu.short(), hu.numpy().astype(np.int16)):
        expected = ScaleIntensityRange(-1224, 271, b_min=0, b_max=1, clip=True)(values)
        found = ScaleHUWindow(-1224, 271)(values)
        assert (type(found), found.dtype, found.tolist()) == (type(expected), expected.dtype, expected.tolist())
    unit = torch.linspace(-0.1, 1.1, 1201)
    assert torch.equal(ScaleHUWindow(-1224, 271).inverse(unit), ScaleIntensityRange(0, 1, b_min=-1224, b_max=271)(unit))
    assert torch.equal(hu_to_unit(hu, (-1224, 271)), ScaleHUWindow(-1224, 271)(hu).as_tensor())
    assert torch.equal(unit_to_hu(unit, (-1224, 271)), ScaleHUWindow(-1224, 271).inverse(unit).as_tensor())


@pytest.mark.parametrize("convert", [torch.tensor, np.array])
def test_values_outside_the_window_come_back(convert: Callable) -> None:
    data = {"pred": convert([5.0, 5000, 7, 8, 9]), "image": convert([-2000.0, 10, 4000, -1024, 3072])}
    restored = RestoreOutsideHUWindowd("pred", "image")(data)["pred"]
    assert type(restored) is type(data["pred"])
    assert restored.tolist() == [-2000, 3072, 4000, 8, 9], "the ends belong to the window"


def test_the_window_may_be_another() -> None:
    data = {"pred": np.array([5.0, 5000, -5000]), "image": np.array([-1500.0, 10, 10])}
    assert RestoreOutsideHUWindowd("pred", "image", -1000, 2000)(data)["pred"].tolist() == [-1500, 2000, -1000]
    assert ScaleHUWindowd("image", -1000, 2000)(data)["image"].tolist() == pytest.approx([0, 1010 / 3000, 1010 / 3000])


@pytest.mark.parametrize("ends", [(3072, -1024), (0, 0), (-np.inf, 0), (np.nan, 0), (None, 1)])
@pytest.mark.parametrize("transform", [ScaleHUWindow, RestoreOutsideHUWindow])
def test_a_window_that_holds_no_hu_is_refused(transform: Callable, ends: tuple) -> None:
    message = f"an HU window needs two finite ends, the lower one first, found {ends}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        transform(*ends)


@pytest.mark.parametrize("num_slices", [1, 3, 5])
def test_stacks_repeat_the_edges(num_slices: int) -> None:
    volume = torch.arange(4.0).expand(1, 2, 2, 4)
    stacked = StackNeighborSlices(num_slices)(volume)
    assert stacked.shape == (num_slices, 2, 2, 4)
    reach = num_slices // 2
    for z in range(4):
        expected = [min(max(z + offset, 0), 3) for offset in range(-reach, reach + 1)]
        assert stacked[:, 0, 0, z].tolist() == expected
    assert torch.equal(StackNeighborSlicesd("v", num_slices)({"v": volume})["v"], stacked)


def test_stacks_refuse_even_numbers_and_several_channels() -> None:
    with pytest.raises(ValueError, match="odd"):
        StackNeighborSlices(2)
    with pytest.raises(ValueError, match="one channel"):
        StackNeighborSlices(3)(torch.zeros(2, 4, 4, 4))


@pytest.mark.parametrize("shape", [(2, 8, 8, 5), (1, 8, 8)])
def test_neighbors_are_those_of_a_volume_with_one_channel(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs a volume with one channel, \(1, X, Y, Z\), found shape \("):
        NeighborAverage()(torch.zeros(shape))


def test_neighbors_give_targets_with_independent_noise() -> None:
    rng = np.random.RandomState(0)
    noise = rng.normal(0, 20, (1, 96, 96, 9)).astype(np.float32)
    target = NeighborAverage(distance=2)(40 + noise).numpy() - 40
    inner = slice(2, -2)
    assert target[..., inner].std() == pytest.approx(20 / np.sqrt(2), rel=0.08)
    assert abs(np.corrcoef(target[..., inner].ravel(), noise[..., inner].ravel())[0, 1]) < 0.1


def test_anatomy_of_one_slice_stays_its_own_target() -> None:
    volume = np.random.RandomState(0).normal(40, 10, (1, 64, 64, 5)).astype(np.float32)
    volume[0, 20:40, 20:40, 2] += 200
    target = NeighborAverage(distance=2)(volume).numpy()
    np.testing.assert_allclose(target[0, 22:38, 22:38, 2], volume[0, 22:38, 22:38, 2], atol=1e-3)
    with pytest.raises(DataError, match="at least 4 slices, found 3"):
        NeighborAverage(distance=2)(volume[..., :3])


def test_small_and_faint_differences_are_anatomy() -> None:
    noise = np.random.RandomState(0).normal(0, 20, (2, 128, 128))
    vessel, organ = (np.zeros((128, 128)) for _ in range(2))
    vessel[31, 31], organ[60:120, 60:120] = 200, 12
    assert agreement(40 + noise[0], 40 + noise[1]).mean() > 0.95
    assert agreement(40 + vessel + noise[0], 40 + noise[1])[31, 31] == 0
    assert agreement(40 + organ + noise[0], 40 + noise[1])[80:100, 80:100].mean() < 0.1


def test_the_noise_of_a_difference_is_that_of_tissue() -> None:
    noise = np.random.RandomState(0).normal(0, 20, (2, 128, 128))
    air = np.indices((128, 128))[1] < 96
    one, other = (np.where(air, -1000, 40 + each) for each in noise)
    assert agreement(one, other)[:, 110:].mean() > 0.9
    assert np.all(agreement(np.full((8, 8), -1000.0), np.full((8, 8), -1000.0)) == 0), "nothing is known of its noise"


def test_a_share_of_the_slice_stays_in_its_target() -> None:
    noisy = torch.from_numpy(np.random.RandomState(0).normal(0, 20, (1, 96, 96, 5)).astype(np.float32))
    plain, blended = NeighborAverage(2)(noisy), NeighborAverage(2, self_weight=0.25)(noisy)
    torch.testing.assert_close(blended, 0.75 * plain + 0.25 * noisy, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        NeighborAverage(2, self_weight=1.5)


def test_an_ellipse_covers_its_area_and_has_a_soft_border() -> None:
    cover = ellipse_cover((80, 80), (40.0, 38.0), (12.0, 6.0), 0.5)
    assert cover.sum() == pytest.approx(np.pi * 12 * 6, rel=0.03)
    assert cover[40, 38] == 1
    assert cover[0, 0] == 0
    along = ellipse_cover((80, 80), (40.0, 40.0), (12.0, 6.0), 0.0)
    assert along[52, 40] == pytest.approx(0.5), "the first half axis lies along the rows"
    border = ellipse_cover((80, 80), (40.0, 40.5), (12.0, 6.0), 0.0)[40, 33:37]
    np.testing.assert_allclose(border, [0, 1 / 6, 5 / 6, 1], err_msg="the border is a pixel and a half wide")


def test_lesions_are_the_same_in_image_and_label_and_have_the_contrast_asked_for() -> None:
    flat = {"image": torch.zeros(3, 96, 96), "label": torch.ones(1, 96, 96)}
    lesions = RandLesionsd(["image", "label"], count=(1, 1), contrast_hu=(14, 14), radius_px=(6, 6)).set_random_state(0)
    signs = set()
    for _ in range(12):
        changed = lesions(flat)
        field = changed["label"] - 1
        torch.testing.assert_close(changed["image"], field.expand(3, -1, -1), atol=1e-5, rtol=0)
        assert field.abs().max().item() <= 14 + 1e-4
        signs.add(int(torch.sign(field.sum())))
    assert signs >= {-1, 1}
    assert RandLesionsd(["image"], prob=0)(flat)["image"] is flat["image"]
    with pytest.raises(ValueError, match="contrast_hu"):
        RandLesionsd("image", contrast_hu=(0, 10))
    for count in ([3], (2, 1), (-1, 2), (0, 1.5), "12", 3):
        with pytest.raises(ValueError, match=r"^count needs two whole numbers, 0 <= least <= greatest, found "):
            RandLesionsd("image", count=count)


@pytest.mark.parametrize("transform", [RandLesionsd, RandPhantomd])
def test_what_is_drawn_into_slices_refuses_volumes_and_does_without_missing_ones(transform: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{transform.__name__} needs an image \(C, H, W\), found shape \(1, 8, 8, "):
        transform(["image", "label"], prob=1.0)({"image": torch.zeros(1, 8, 8), "label": torch.zeros(1, 8, 8, 8)})
    others = {"noise": torch.zeros(1, 8, 8)}
    assert transform("image", prob=1.0, allow_missing_keys=True)(others)["noise"] is others["noise"]


def test_lesions_lie_everywhere_in_an_oblong_slice_and_are_as_many_as_asked_for() -> None:
    lesions = RandLesionsd("image", count=(0, 2), contrast_hu=(5, 80), radius_px=(2, 2)).set_random_state(0)
    fields = [np.abs(lesions.lesions_hu((32, 96))) for _ in range(300)]
    pixels = np.array([np.count_nonzero(each) for each in fields])
    assert np.mean(pixels == 0) == pytest.approx(1 / 3, abs=0.08)
    assert np.mean(pixels > 30) > 0.2, "two at once"
    columns = np.array(fields).max(axis=(0, 1))
    rows = np.array(fields).max(axis=(0, 2))
    assert columns.min() > 0
    assert rows.min() > 0
    alone = [each.max() for each, size in zip(fields, pixels, strict=True) if 0 < size <= 30]
    assert np.median(alone) == pytest.approx(20, rel=0.2), "contrast is log-uniform"


@pytest.mark.parametrize("slice_dim", [3, 7, -4])
def test_a_dimension_that_is_not_there_is_refused(slice_dim: int) -> None:
    with pytest.raises(ValueError, match=f"slice_dim must be one of the 3 spatial dimensions, found {slice_dim}"):
        StackNeighborSlices(3, slice_dim=slice_dim)(torch.zeros(1, 4, 5, 6))


@pytest.mark.parametrize("reference", [torch.Tensor.clone, torch.Tensor.numpy, MetaTensor])
def test_what_is_restored_has_the_meta_data_of_the_prediction(reference: Callable) -> None:
    """An Invertd that follows needs the prediction's operations, whatever the reference knows."""
    original = torch.tensor([-2000.0, 0, 5000]).expand(1, 2, 2, 3)
    pred = Flip(0)(MetaTensor(torch.full((1, 2, 2, 3), 7.0), affine=torch.diag(torch.tensor([2.0, 2, 3, 1]))))
    item = {"pred": pred, "original": reference(original)}
    restored = RestoreOutsideHUWindowd("pred", ref_key="original")(item)["pred"]
    assert restored[0, 0, 0].tolist() == [-2000, 7, 5000]
    assert torch.equal(restored.affine, pred.affine)
    assert [each["class"] for each in restored.applied_operations] == ["Flip"]


def test_what_is_restored_is_of_the_kind_of_the_prediction() -> None:
    pred, original = np.full((1, 2), 7, np.float32), np.array([[0, 5000]], np.int16)
    found = RestoreOutsideHUWindow()(pred, torch.from_numpy(original))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[7, 5000]]
    found = RestoreOutsideHUWindow()(torch.from_numpy(pred), original)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [[7, 5000]]
    assert type(RestoreOutsideHUWindow()(torch.from_numpy(pred), MetaTensor(original))) is torch.Tensor


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-1000, 5], None),
        ([-10, 0], None),
        ([-9, 9], "expected some beyond 10 HU from 0"),
        ([-1, 10], None),
        ([0, 4000], "expected air or fat below 0"),
    ],
)
def test_what_can_be_hu_reaches_below_zero_and_beyond_ten(values: list[float], message: str | None) -> None:
    if message is None:
        require_hu(np.array(values))
    else:
        with pytest.raises(DataError, match=message):
            require_hu(np.array(values))
