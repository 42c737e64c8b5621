from __future__ import annotations

import pytest
import torch

from ctclip.errors import ConfigError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, ProgressiveFeatureAugmentation, config_from_dict
from ctclip.networks.denoiser import pad_to_multiple

SMALL = {"encoder_layers": (1, 1, 1), "encoder_width": 8, "decoder_width": 8}


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 47), (500, 511), (64, 64)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(**SMALL)).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_residual_head_adds_to_the_middle_channel(channels: int) -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(**SMALL, in_channels=channels, residual=True)).eval()
    torch.nn.init.zeros_(network.decoder.last.weight)
    image = torch.rand(2, channels, 40, 40)
    with torch.no_grad():
        assert torch.equal(network(image), image[:, channels // 2 : channels // 2 + 1])


@pytest.mark.parametrize(("channels", "given"), [(1, 3), (1, 2), (3, 1)])
def test_images_of_other_channels_are_refused(channels: int, given: int) -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(**SMALL, in_channels=channels))
    with pytest.raises(ValueError, match=f"expected images of {channels} channels, found {given}"):
        network(torch.rand(1, given, 32, 32))


def test_a_narrow_head_has_fewer_channels_in_the_last_block_alone() -> None:
    whole, narrow = (DenseFeatureDenoiser(DenoiserConfig(**SMALL, head_width=width)) for width in (None, 4))
    shapes = [{name: tuple(each.shape) for name, each in net.state_dict().items()} for net in (whole, narrow)]
    changed = {name: shapes[1][name] for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert changed == {
        "decoder.blocks.4.0.weight": (4, 8 + 3, 3, 3),
        "decoder.blocks.4.2.weight": (4, 4, 3, 3),
        "decoder.last.weight": (1, 4, 3, 3),
    }


def test_padding_mirrors_and_falls_back_to_repetition() -> None:
    row = torch.tensor([1.0, 2, 3]).reshape(1, 1, 1, 3)
    assert pad_to_multiple(row, 5)[0, 0, 0].tolist() == [1, 2, 3, 2, 1]
    assert pad_to_multiple(row, 6)[0, 0, 0].tolist() == [1, 2, 3, 3, 3, 3]
    for multiple in (5, 6):
        assert torch.equal(pad_to_multiple(row.mT, multiple), pad_to_multiple(row, multiple).mT)


@pytest.mark.parametrize("gamma", [-1, float("nan"), float("inf"), "strong", True])
def test_augmentation_refuses_what_is_no_strength(gamma: float) -> None:
    with pytest.raises(
        ConfigError, match=f"^augmentation_gamma must be a finite number of at least 0, found {gamma!r}"
    ):
        ProgressiveFeatureAugmentation(gamma)


def test_augmentation_grows_with_depth_and_only_in_training() -> None:
    torch.manual_seed(0)
    augmentation = ProgressiveFeatureAugmentation(0.025)
    features = [torch.full((1, 4, 200, 200), 2.0) for _ in range(4)]
    for depth, feature in enumerate(augmentation.train()(features), start=1):
        ratio = feature / 2
        assert ratio.mean().item() == pytest.approx(1, abs=1e-3)
        assert ratio.std().item() == pytest.approx(0.025 * depth, rel=0.02)
    assert all(a is b for a, b in zip(augmentation.eval()(features), features, strict=True))
    assert all(a is b for a, b in zip(ProgressiveFeatureAugmentation(0).train()(features), features, strict=True))


def test_config_round_trip_and_errors() -> None:
    config = DenoiserConfig(encoder_width=32, residual=True)
    assert config_from_dict(config.to_dict()) == config
    assert not {"head_width", "backbone"} & set(config.to_dict()), "which earlier versions do not know"
    narrow = DenoiserConfig(head_width=16)
    assert config_from_dict(narrow.to_dict()) == narrow
    for change in (
        {"decoder_width": 8.0},
        {"head_width": "8"},
        {"in_channels": True},
        {"encoder_layers": (1, 1, 1.0)},
    ):
        with pytest.raises(ConfigError, match="whole numbers, found"):
            DenoiserConfig(**{**SMALL, **change})
    with pytest.raises(ConfigError, match="three counts of at least 1, found '346'"):
        DenoiserConfig(**{**SMALL, "encoder_layers": "346"})
    with pytest.raises(ConfigError, match="residual must be true or false, found 'false'"):
        DenoiserConfig(**SMALL, residual="false")
    with pytest.raises(ConfigError, match="head_width must be at least 1, found 0"):
        DenoiserConfig(head_width=0)
    with pytest.raises(ConfigError, match="unknown \\['colour'\\]"):
        config_from_dict(config.to_dict() | {"colour": 1})
    with pytest.raises(ConfigError, match="in_channels must be 1 or 3, found 2"):
        DenoiserConfig(in_channels=2)
    with pytest.raises(ConfigError, match="even"):
        DenoiserConfig(encoder_width=7)
    values = config.to_dict()
    del values["residual"]
    with pytest.raises(ConfigError, match="missing \\['residual'\\]"):
        config_from_dict(values)
    for name in ("RN51", "ViT-B-32"):
        with pytest.raises(ConfigError, match=f"unknown encoder '{name}'"):
            DenoiserConfig.for_encoder(name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"encoder_layers": (1, 0, 1)}, "three counts of at least 1"),
        ({"encoder_layers": (1, 1)}, "three counts of at least 1"),
        ({"encoder_width": 0}, "even and at least 2, found 0"),
        ({"decoder_width": 0}, "decoder_width must be at least 1, found 0"),
        ({"in_channels": 1, "out_channels": 3}, "out_channels must be 1 or in_channels=1, found 3"),
        ({"in_channels": 3, "out_channels": 2}, "out_channels must be 1 or in_channels=3, found 2"),
        ({"input_adapter": "mean"}, "input_adapter must be one of .* found 'mean'"),
    ],
)
def test_values_out_of_range_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DenoiserConfig(**values)
