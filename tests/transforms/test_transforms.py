from __future__ import annotations

import numpy as np
import pytest
import torch

from ctclip.transforms import (
    NeighborAverage,
    RandCorrelatedNoise,
    RandCorrelatedNoised,
    RestoreOutsideHUWindowd,
    ScaleHUWindow,
    ScaleHUWindowd,
    StackNeighborSlices,
    StackNeighborSlicesd,
)
from ctclip.transforms.noise import correlated_noise

PUBLISHED_NPS = [0.28, 0.78, 0.96, 1.0, 0.85, 0.65, 0.41, 0.22, 0.11, 0.05]
"""Of the recipe at cut-off 0.22, at .025, .075 ... .475 cycles/pixel."""


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


def test_values_outside_the_window_come_back() -> None:
    data = {"pred": torch.tensor([5.0, 5000, 7]), "image": torch.tensor([-2000.0, 10, 4000])}
    assert RestoreOutsideHUWindowd("pred", "image")(data)["pred"].tolist() == [-2000, 3072, 4000]


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


def test_correlated_noise_has_the_published_statistics() -> None:
    rng = np.random.RandomState(0)
    noise = np.stack([correlated_noise((128, 128), rng=rng) for _ in range(60)])
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() == pytest.approx(0.47, abs=0.02)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    f = np.fft.fftfreq(128)
    bins = np.digitize(np.hypot(f[:, None], f[None, :]), np.arange(0, 0.5, 0.05))
    radial = np.array([power[bins == b].mean() for b in range(1, 11)])
    # The first bin depends on how finely the frequencies near 0 are sampled.
    np.testing.assert_allclose((radial / radial.max())[1:], PUBLISHED_NPS[1:], atol=0.06)


def test_random_noise_has_the_level_asked_for_and_is_reproducible() -> None:
    clean = torch.zeros(2, 256, 256)
    transform = RandCorrelatedNoise(sd_hu=(40, 40)).set_random_state(3)
    noisy = transform(clean)
    assert noisy.std().item() == pytest.approx(40, rel=0.03)
    assert abs(noisy.mean().item()) < 1
    first, second = noisy.numpy()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05, "each channel has noise of its own"
    again = RandCorrelatedNoised("image", sd_hu=(40, 40)).set_random_state(3)({"image": clean})["image"]
    assert torch.equal(again, noisy)
    assert torch.equal(RandCorrelatedNoise(prob=0)(clean), clean)


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
    with pytest.raises(ValueError, match="found 2"):
        NeighborAverage(distance=2)(volume[..., :2])
