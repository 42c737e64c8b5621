from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, OneOf

from ctclip.phantom import body_phantom_hu
from ctclip.transforms import ProjectionNoised, RandNoiseFieldd, RandSliceRolld


def _volume(slices: int = 10, size: int = 128, *, pixel_mm: float = 1.5, step_mm: float = 3.0) -> MetaTensor:
    affine = torch.diag(torch.tensor([-pixel_mm, -pixel_mm, step_mm, 1.0]))
    return MetaTensor(torch.from_numpy(body_phantom_hu(slices, size).T[None].copy()), affine=affine)


def _along_over_across(noise: torch.Tensor) -> float:
    """How much more noise correlates along a body's long axis than across it: streaks."""
    field = noise[0, 40:88, 48:80].float().numpy()
    along, across = (
        np.mean(np.take(field, range(1, field.shape[a]), a) * np.take(field, range(field.shape[a] - 1), a))
        for a in (0, 1)
    )
    return float(along / across)


def _of_photons(monkeypatch: pytest.MonkeyPatch, volume: MetaTensor, photons: float, seed: int = 0) -> torch.Tensor:
    """Noise of one kind in all batches."""
    monkeypatch.setattr("ctclip.transforms.projection_noise.PHOTONS", (photons, photons))
    monkeypatch.setattr("ctclip.transforms.projection_noise.TEXTURES", ("standard",))
    return ProjectionNoised("image", "noise", seed)({"image": volume})["noise"]


def test_the_noise_has_unit_sd_in_the_body_and_is_the_same_again() -> None:
    volume = _volume()
    one, other = (ProjectionNoised("image", "noise")({"image": volume})["noise"] for _ in range(2))
    assert one.shape == volume.shape
    assert one.dtype == torch.float16
    assert torch.equal(one, other)
    body = volume.as_tensor() > -500
    assert float(one.float()[body].std()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(one[..., 0], one[..., 1])
    # a wide body
    assert _along_over_across(one) > 1.2


def test_no_two_slices_have_the_same_noise_and_another_seed_gives_other_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = _volume(1).repeat(1, 1, 1, 9)  # more than one batch
    one, other = (_of_photons(monkeypatch, volume, 1e5, seed)[0].float().numpy() for seed in (0, 1))
    kinds = np.concatenate([one.reshape(-1, 9).T, other.reshape(-1, 9).T])
    assert np.abs(np.corrcoef(kinds) - np.eye(18)).max() < 0.3


def test_a_body_of_larger_pixels_is_wider_and_has_more_streaks(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (_of_photons(monkeypatch, _volume(2, pixel_mm=size), 1e5) for size in (0.75, 3.0))
    assert _along_over_across(large) > 1.2 * _along_over_across(small)
    other_step = _of_photons(monkeypatch, _volume(2, pixel_mm=3.0, step_mm=1.0), 1e5)
    assert torch.equal(large, other_step)


def test_few_photons_make_more_streaks(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (_of_photons(monkeypatch, _volume(2, pixel_mm=2.0), photons) for photons in (1e3, 1e6))
    assert _along_over_across(few) > 1.1 * _along_over_across(many)


def test_some_noise_is_smooth_and_some_is_sharp() -> None:
    volume, lags = _volume(1), []
    for seed in range(8):
        field = ProjectionNoised("image", "noise", seed)({"image": volume})["noise"][0, 40:88, 48:80].float()
        lags.append(float((field[1:] * field[:-1]).mean() / field.var()))
    assert max(lags) > min(lags) + 0.2


def test_each_slice_has_the_noise_of_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = _volume(3, pixel_mm=3.0)
    volume[..., 0] = -1000
    noise = _of_photons(monkeypatch, volume, 1e5)[0, 32:96, 32:96].float()
    assert noise[..., 0].std() < 0.2 * min(noise[..., 1].std(), noise[..., 2].std())


@pytest.mark.parametrize("voxels", [0, 1, 3])
def test_air_with_hardly_any_body_has_no_noise(voxels: int) -> None:
    volume = torch.full_like(_volume(1), -1000)
    volume[0, 64, 64 : 64 + voxels, 0] = -400
    noise = ProjectionNoised("image", "noise")({"image": volume})["noise"]
    assert torch.equal(noise.float(), torch.zeros(volume.shape))


def test_noise_without_any_spread_is_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ctclip.transforms.projection_noise.NoiseSimulator.noise_hu", lambda _, slices, first: 0 * slices
    )
    assert not ProjectionNoised("image", "noise")({"image": _volume(1)})["noise"].any()


def test_slices_are_rolled_alike_in_whole_steps() -> None:
    noise = torch.arange(5.0).expand(1, 2, 2, 5)
    roll = RandSliceRolld("noise")
    roll.set_random_state(3)
    seen = {tuple(roll({"noise": noise})["noise"][0, 0, 0].tolist()) for _ in range(40)}
    assert seen == {tuple(np.roll(np.arange(5.0), shift)) for shift in range(5)}


def test_rolled_slices_lie_between_the_noise_of_their_neighbors() -> None:
    noise = torch.arange(5.0).expand(1, 2, 2, 5)
    one, three = RandSliceRolld("noise"), RandSliceRolld("noise", num_slices=3)
    for seed in range(8):
        for roll in (one, three):
            roll.set_random_state(seed)
        before, itself, after = three({"noise": noise})["noise"]
        assert torch.equal(itself[None], one({"noise": noise})["noise"])
        assert torch.equal(before, (itself - 1) % 5)
        assert torch.equal(after, (itself + 1) % 5)


@pytest.mark.parametrize("num_slices", [0, 2])
def test_stacks_of_noise_need_a_middle(num_slices: int) -> None:
    with pytest.raises(ValueError, match=f"^num_slices must be odd and at least 1, found {num_slices}$"):
        RandSliceRolld("noise", num_slices=num_slices)


def test_each_channel_gets_the_channel_of_the_noise() -> None:
    noise = torch.randn((3, 64, 64), generator=torch.Generator().manual_seed(0))
    add = RandNoiseFieldd("image", "noise", sd_hu=(20, 20), white_fraction=(0.3, 0.3)).set_random_state(0)
    found = add({"image": torch.zeros((3, 64, 64)), "noise": noise})["image"]
    correlation = np.corrcoef(np.concatenate([found.reshape(3, -1), noise.reshape(3, -1)]))
    assert correlation[:3, 3:].diagonal() == pytest.approx(np.sqrt(0.7), abs=0.03)
    assert np.abs(correlation[:3, :3] - np.eye(3)).max() < 0.1, "the white part too"


def test_noise_of_one_channel_is_the_same_in_all_of_the_image() -> None:
    add = RandNoiseFieldd("image", "noise", white_fraction=(0.3, 0.3)).set_random_state(0)
    found = add({"image": torch.zeros((3, 8, 8)), "noise": torch.ones((1, 8, 8))})["image"]
    assert torch.equal(found, found[:1].expand(3, 8, 8))


def test_noise_of_other_channels_than_the_image_is_refused() -> None:
    add = RandNoiseFieldd("image", "noise")
    with pytest.raises(ValueError, match="^the noise needs 1 channel or the 5 of 'image', found 3; give [^\n]*$"):
        add({"image": torch.zeros((5, 8, 8)), "noise": torch.zeros((3, 8, 8))})


def test_a_patch_gets_its_noise_at_a_log_uniform_level() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 64, 64), generator=generator).half()
    add = RandNoiseFieldd("image", "noise", sd_hu=(10, 100), white_fraction=(0.0, 0.0))
    add.set_random_state(0)
    levels = []
    for _ in range(300):
        found = add({"image": torch.full((1, 64, 64), 40.0), "noise": noise})["image"]
        levels.append(float((found - 40).std() / noise.float().std()))
        assert torch.allclose((found - 40) / levels[-1], noise.float(), atol=1e-2)
    assert 10 <= min(levels) < 11.5
    assert 87 < max(levels) <= 100.1
    assert np.median(levels) == pytest.approx(np.sqrt(1000), rel=0.1)


def test_the_white_part_is_a_part_of_the_variance() -> None:
    add = RandNoiseFieldd("image", "noise", sd_hu=(20, 20), white_fraction=(0.3, 0.3))
    add.set_random_state(1)
    found = add({"image": torch.zeros((1, 256, 256)), "noise": torch.ones((1, 256, 256))})["image"]
    assert float(found.mean()) == pytest.approx(20 * np.sqrt(0.7), rel=0.01)
    assert float(found.std()) == pytest.approx(20 * np.sqrt(0.3), rel=0.02)


def test_the_white_part_is_new_every_time_and_the_same_in_all_images() -> None:
    add = RandNoiseFieldd(("image", "label"), "noise", white_fraction=(0.3, 0.3))
    add.set_random_state(1)
    patch = {"image": torch.zeros((1, 32, 32)), "label": torch.ones((1, 32, 32)), "noise": torch.zeros((1, 32, 32))}
    one, other = add(patch), add(patch)
    torch.testing.assert_close(one["image"] + 1, one["label"])
    assert abs(np.corrcoef(one["image"].flatten(), other["image"].flatten())[0, 1]) < 0.2


def test_it_is_repeatable_inside_a_choice() -> None:
    def once() -> torch.Tensor:
        add = RandNoiseFieldd("image", "noise")
        transform = Compose([OneOf([add], weights=[1.0])]).set_random_state(7)
        return transform({"image": torch.zeros((1, 8, 8)), "noise": torch.ones((1, 8, 8))})["image"]

    assert torch.equal(once(), once())
    assert once().std() > 0


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="0 < lower <= upper"):
        RandNoiseFieldd("image", "noise", sd_hu=(0, 10))
    with pytest.raises(ValueError, match=r"^white_fraction needs 0 <= lower <= upper <= 1, found \(2, 2\)$"):
        RandNoiseFieldd("image", "noise", white_fraction=(2, 2))
