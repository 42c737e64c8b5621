"""DnCNN, Restormer and timm backbones: what they compute, how they are saved, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ctclip.errors import ConfigError, WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, PeerConfig, PeerDenoiser, config_from_dict
from ctclip.weights import build_network, load_model, save_checkpoint

RESNET50 = {"in_channels": 3, "out_channels": 3, "decoder_width": 4, "backbone": "resnet50"}


@pytest.mark.parametrize("architecture", ["DnCNN", "Restormer"])
def test_peers_keep_any_size_and_survive_a_checkpoint(architecture: str, tmp_path: Path) -> None:
    network = PeerDenoiser({"architecture": architecture, "width": 8, "depth": 3}).eval()
    image = torch.rand(2, 3, 37, 50)
    path = tmp_path / "peer.pt"
    save_checkpoint(network, path, hu_window=None)
    loaded = load_model(path).network
    assert isinstance(loaded, PeerDenoiser)
    with torch.no_grad():
        assert loaded(image).shape == image.shape
        torch.testing.assert_close(loaded(image), network(image))


def test_dncnn_subtracts_what_its_convolutions_find() -> None:
    network = PeerDenoiser({"architecture": "DnCNN", "width": 4, "depth": 5})
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 5
    nn.init.zeros_(convolutions[-1].weight)
    nn.init.constant_(convolutions[-1].bias, 0.25)
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(image), image - 0.25)


def test_configs_survive_as_plain_values() -> None:
    for config in (PeerConfig("DnCNN", 8, 4), DenoiserConfig(), DenoiserConfig(**RESNET50)):
        assert config_from_dict(config.to_dict()) == config
    assert "backbone" not in DenoiserConfig().to_dict()
    with pytest.raises(ConfigError, match=r"unknown \['layers'\], missing \['depth', 'in_channels', 'width'\]"):
        config_from_dict({"architecture": "DnCNN", "layers": 3})
    with pytest.raises(ConfigError, match=r"unknown \[\], missing \['width'\]"):  # a default may be another network
        config_from_dict({"architecture": "DnCNN", "depth": 4, "in_channels": 3})
    with pytest.raises(ConfigError, match="DnCNN or Restormer"):
        PeerConfig("UNet")
    for name in ("width", "depth", "in_channels"):
        with pytest.raises(ConfigError, match=f"must be at least 1, found .*{name}=0"):
            PeerConfig("DnCNN", **{name: 0})
    for change in ({"width": 8.0}, {"width": "8"}, {"depth": 2.5}, {"in_channels": True}):
        with pytest.raises(ConfigError, match="whole numbers, found"):
            PeerConfig("DnCNN", **{"width": 8, "depth": 3, **change})
    with pytest.raises(ConfigError, match="DnCNN's depth must be at least 2, found 1"):
        PeerConfig("DnCNN", depth=1)
    assert PeerConfig("Restormer", 8, 1).depth == 1
    with pytest.raises(ConfigError, match="multiple of 8"):
        PeerConfig("Restormer", 12)


def test_a_peer_has_no_encoder_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoder to leave out"):
        save_checkpoint(
            PeerDenoiser({"architecture": "DnCNN", "width": 4, "depth": 3}), tmp_path / "p.pt", include_encoder=False
        )


def test_a_backbone_gives_timms_features_of_the_standardised_image(shared_data: Path) -> None:
    import timm

    weights = shared_data / "imagenet_resnet50" / "resnet50_stem_to_layer3.safetensors"
    network = build_network(RESNET50, encoder_weights=weights).train()
    image = torch.rand(1, 3, 64, 64)
    found = network.encoder(image)
    assert [tuple(feature.shape[1:]) for feature in found] == [(64, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)]
    from safetensors.torch import load_file

    reference = timm.create_model("resnet50", features_only=True, out_indices=(0, 1, 2, 3)).eval()
    reference.load_state_dict({name: values.float() for name, values in load_file(weights).items()}, strict=False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = reference((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())


def test_an_imagenet_file_is_still_refused_as_clip(shared_data: Path) -> None:
    weights = shared_data / "imagenet_resnet50" / "resnet50_stem_to_layer3.safetensors"
    with pytest.raises(WeightsError, match="ImageNet ResNet, not CLIP"):
        build_network({"in_channels": 3, "out_channels": 3}, encoder_weights=weights)


def test_incomplete_backbone_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(WeightsError, match="keys missing"):
        build_network(RESNET50, encoder_weights=tmp_path / "part.pt")


@pytest.mark.parametrize(("field", "value"), [("backbone", 3), ("backbone", 0), ("encoder_name", None)])
def test_names_are_texts(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be .*, found {value}$"):
        DenseFeatureDenoiser({field: value})


def test_unfit_backbones_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected"):
        DenseFeatureDenoiser({**RESNET50, "backbone": "resnet18"})
    with pytest.raises(ConfigError, match="no feature pyramid"):
        DenseFeatureDenoiser({**RESNET50, "backbone": "no_such_model"})
