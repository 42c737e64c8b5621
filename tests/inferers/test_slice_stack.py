from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from torch.nn import functional

from ctclip.errors import ConfigError
from ctclip.inferers import PrecisionInferer, SliceStackInferer, predict_stacks
from ctclip.transforms import StackNeighborSlices

WINDOWED_MAX_HU, WINDOWED_RMS_HU = 10.0, 0.3
"""Windows of 256 with half overlap against whole slices: measured 8.0 and 0.20 HU for ct-compact on its phantom."""


def _mean_of_stack(stacks: torch.Tensor) -> torch.Tensor:
    return stacks.mean(dim=1, keepdim=True)


def test_neighbors_reach_the_network_and_batches_do_not_matter() -> None:
    volume = torch.arange(5.0).expand(1, 1, 4, 6, 5)
    calls = []
    for batch_size in (1, 2, 5, 9):
        inferer = SliceStackInferer(3, batch_size=batch_size, progress=lambda done, total: calls.append((done, total)))
        result = inferer(volume, _mean_of_stack)
        assert result.shape == volume.shape
        torch.testing.assert_close(result[0, 0, 0, 0], torch.tensor([1 / 3, 1, 2, 3, 11 / 3]))
    assert calls[:5] == [(n, 5) for n in range(1, 6)]
    assert calls[-1] == (5, 5)


def test_progress_counts_the_slices_of_all_volumes() -> None:
    calls = []
    inferer = SliceStackInferer(1, progress=lambda done, total: calls.append((done, total)))
    inferer(torch.rand(2, 1, 4, 6, 3), _mean_of_stack)
    assert calls == [(n, 6) for n in range(1, 7)]


def test_the_network_sees_rows_and_columns() -> None:
    volume = torch.rand(2, 1, 4, 6, 3)
    seen = []

    def network(stacks: torch.Tensor) -> torch.Tensor:
        seen.append(stacks)
        return stacks

    assert torch.equal(SliceStackInferer(1)(volume, network), volume)
    assert torch.equal(seen[0][0, 0], volume[0, 0, :, :, 0].T)


def test_the_network_gets_plain_tensors_which_a_compiler_can_take() -> None:
    seen = []

    def network(stacks: torch.Tensor) -> torch.Tensor:
        seen.append(type(stacks))
        return stacks

    volume = MetaTensor(torch.rand(1, 1, 4, 6, 3), affine=torch.diag(torch.tensor([2.0, 2, 3, 1])))
    result = SliceStackInferer(1)(volume, network)
    assert set(seen) == {torch.Tensor}
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, volume.affine)


def test_wrong_shapes_and_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a batch of volumes"):
        SliceStackInferer()(torch.rand(1, 2, 4, 4, 4), _mean_of_stack)
    with pytest.raises(ValueError, match="a volume with one channel"):
        StackNeighborSlices(3)(torch.rand(2, 4, 4, 4))
    with pytest.raises(ValueError, match="fp32, bf16"):
        PrecisionInferer("fp8")(torch.rand(1, 1, 4, 4), _mean_of_stack)


@pytest.mark.parametrize("roi_size", [0, -5, 16, (64, 64)])
def test_windows_are_those_of_the_denoiser(roi_size: Any) -> None:
    with pytest.raises(ConfigError, match="roi must be a whole number of pixels, at least 32, found"):
        SliceStackInferer(roi_size=roi_size)


def test_further_arguments_reach_the_network() -> None:
    volume = torch.zeros(1, 1, 4, 6, 2)
    result = SliceStackInferer()(volume, lambda stacks, first, *, second: stacks + 10 * first + second, 1, second=2)
    torch.testing.assert_close(result, volume + 12)


def test_windows_of_a_pointwise_network_blend_to_the_same_values() -> None:
    stacks = torch.rand(2, 1, 50, 70)
    windowed = predict_stacks(stacks, lambda x: 2 * x, device="cpu", roi_size=32, overlap=0.5)
    torch.testing.assert_close(windowed, 2 * stacks, atol=1e-5, rtol=0)


def test_windows_of_the_shipped_model_agree_with_whole_slices() -> None:
    from ctclip import Denoiser
    from ctclip.phantom import body_phantom_hu, low_dose

    noisy = low_dose(body_phantom_hu(1, 512), 30)
    whole = Denoiser.load(device="cpu").denoise(noisy)
    windowed = Denoiser.load(device="cpu", roi_size=256, overlap=0.5).denoise(noisy)
    difference = whole - windowed
    assert abs(difference).max() < WINDOWED_MAX_HU
    assert (difference**2).mean() ** 0.5 < WINDOWED_RMS_HU


def test_windows_larger_than_a_slice_see_its_edge_repeated() -> None:
    shapes = set()

    def mean_of_3x3(stacks: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(stacks.shape[-2:]))
        return functional.avg_pool2d(functional.pad(stacks, (1, 1, 1, 1), mode="replicate"), 3, stride=1)

    flat = torch.full((1, 1, 20, 70), 0.7)
    torch.testing.assert_close(predict_stacks(flat, mean_of_3x3, device="cpu", roi_size=32), flat)
    assert shapes == {(32, 32)}


def test_windows_overlap_as_asked_and_count_little_at_their_borders() -> None:
    calls = []

    def border(stacks: torch.Tensor) -> torch.Tensor:
        calls.append(len(stacks))
        return functional.pad(torch.zeros_like(stacks)[..., 2:-2, 2:-2], (2, 2, 2, 2), value=1.0)

    slices = torch.zeros(1, 1, 64, 64)
    blended = predict_stacks(slices, border, device="cpu", roi_size=32, overlap=0.5)
    assert sum(calls) == 3 * 3, "at 0, 16 and 32 in both directions"
    assert blended[..., 16:-16, 16:-16].max() < 0.01, "where another window has its middle"
    assert blended[..., 0, :].min() > 0.99
    calls.clear()
    predict_stacks(slices, border, device="cpu", roi_size=32, overlap=0)
    assert sum(calls) == 2 * 2


@pytest.mark.parametrize("roi_size", [None, 32])
def test_what_a_network_of_half_precision_gives_is_float32(roi_size: int | None) -> None:
    stacks = torch.full((1, 1, 40, 40), 0.5)
    result = predict_stacks(stacks, lambda x: x.bfloat16(), device="cpu", roi_size=roi_size)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, stacks)


@pytest.mark.parametrize(("precision", "inside"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_run_in_the_precision_and_give_float32(precision: str, inside: torch.dtype) -> None:
    convolution, seen = torch.nn.Conv2d(1, 1, 1), []

    def network(stacks: torch.Tensor) -> torch.Tensor:
        result = convolution(stacks)
        seen.append(result.dtype)
        return result

    assert PrecisionInferer(precision)(torch.rand(1, 1, 4, 4), network).dtype == torch.float32
    assert seen == [inside]
