from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ctclip.errors import ConfigError, WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureEncoder
from ctclip.weights import build_network, fetch_encoder, find_encoder, load_encoder_weights

LAYERS, WIDTH = (1, 1, 1), 8


@pytest.fixture
def tower() -> nn.Module:
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([*LAYERS, 1], output_dim=4, heads=1, image_size=32, width=WIDTH).eval()


def _loaded(path: Path) -> DenseFeatureEncoder:
    encoder = DenseFeatureEncoder(LAYERS, WIDTH)
    load_encoder_weights(encoder, path)
    return encoder


def _same(encoder: DenseFeatureEncoder, tower: nn.Module) -> bool:
    expected = tower.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("prefix", ["visual.", "", "module.", "module.visual."])
def test_plain_state_dicts_with_all_prefixes(tmp_path: Path, tower: nn.Module, prefix: str) -> None:
    state = {prefix + name: value for name, value in tower.state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pt")
    assert _same(_loaded(tmp_path / "a.pt"), tower)
    assert _same(_loaded(tmp_path / "b.pt"), tower)


def test_safetensors_of_a_whole_clip_model(tmp_path: Path, tower: nn.Module) -> None:
    state = {"visual." + name: value for name, value in tower.state_dict().items()}
    save_file(
        state | {"logit_scale": torch.ones(1), "token_embedding.weight": torch.ones(2, 2)}, tmp_path / "m.safetensors"
    )
    assert _same(_loaded(tmp_path / "m.safetensors"), tower)


def test_torchscript_archive_in_half_precision(tmp_path: Path, tower: nn.Module) -> None:
    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = tower

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual.conv1(x)

    for conv in (m for m in tower.modules() if isinstance(m, nn.Conv2d)):
        conv.weight.data = conv.weight.data.half().float()
    clip = Clip()
    traced = torch.jit.trace(clip, torch.rand(1, 3, 32, 32))
    for conv in (m for m in traced.modules() if hasattr(m, "weight")):
        conv.weight.data = conv.weight.data.half() if conv.weight.ndim == 4 else conv.weight.data
    traced.save(str(tmp_path / "RN.pt"))
    with warnings.catch_warnings(record=True) as shown:
        encoder = _loaded(tmp_path / "RN.pt")
    assert not shown, "users can do nothing about torch.jit's deprecation"
    assert encoder.conv1.weight.dtype == torch.float32
    assert _same(encoder, tower)


def test_only_the_batch_counters_may_be_missing(tmp_path: Path, tower: nn.Module) -> None:
    state = {k: v for k, v in tower.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "a.pt")
    assert _same(_loaded(tmp_path / "a.pt"), tower)
    state.pop("layer1.0.bn1.running_var")
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match=r"1 keys missing \(layer1.0.bn1.running_var\)"):
        _loaded(tmp_path / "b.pt")


def test_unexpected_keys_and_wrong_shapes(tmp_path: Path, tower: nn.Module) -> None:
    torch.save(tower.state_dict() | {"layer1.7.extra": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"1 unexpected \(layer1.7.extra\)"):
        _loaded(tmp_path / "a.pt")
    torch.save(tower.state_dict() | {"bn3.weight": torch.ones(9)}, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match=r"bn3.weight is \(9,\), expected \(8,\)"):
        _loaded(tmp_path / "b.pt")


def test_look_alikes_are_named(tmp_path: Path) -> None:
    torch.save({"stem.conv1.conv.weight": torch.ones(1)}, tmp_path / "timm.pt")
    with pytest.raises(WeightsError, match="timm's names"):
        _loaded(tmp_path / "timm.pt")
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "imagenet.pt")
    with pytest.raises(WeightsError, match="ImageNet ResNet, not CLIP"):
        _loaded(tmp_path / "imagenet.pt")


def test_the_real_imagenet_file_is_refused(shared_data: Path) -> None:
    with pytest.raises(WeightsError, match="ImageNet ResNet, not CLIP"):
        _loaded(shared_data / "imagenet_resnet50" / "resnet50_stem_to_layer3.safetensors")


def test_pickled_code_never_runs(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "marker"), "w"))

    with (tmp_path / "evil.pt").open("wb") as file:
        pickle.dump({"state_dict": Bomb()}, file)
    with pytest.raises(WeightsError, match="never executed"):
        _loaded(tmp_path / "evil.pt")
    assert not (tmp_path / "marker").exists()


def test_a_random_encoder_needs_the_flag() -> None:
    config = DenoiserConfig(encoder_layers=LAYERS, encoder_width=WIDTH, decoder_width=4)
    with pytest.raises(ConfigError, match="random_encoder=True"):
        build_network(config)
    assert build_network(config, random_encoder=True).encoder.frozen


def test_fetching_without_a_network_says_which_file_goes_where(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error

    import open_clip.pretrained

    def offline(*_: object, **__: object) -> str:
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", offline)
    with pytest.raises(WeightsError, match=r"place that file at .*/\.cache/clip/RN50\.pt"):
        fetch_encoder("RN50", "openai")
    with pytest.raises(WeightsError, match="ctclip weights fetch RN50 openai"):
        find_encoder("openai", DenoiserConfig())


def test_a_fetched_encoder_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import open_clip.pretrained

    file = tmp_path / "RN50.pt"
    file.write_bytes(b"weights")
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", lambda *_, **__: str(file))
    fetched = fetch_encoder("RN50", "openai")
    assert fetched.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert find_encoder("openai", DenoiserConfig()) == file
