from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ctclip.errors import ConfigError, WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureEncoder
from ctclip.weights import build_network, fetch_encoder, fetched_encoders, find_encoder_file, load_encoder_weights
from ctclip.weights.catalogue import record_path

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


def test_what_belongs_neither_to_clip_nor_to_a_denoiser_is_named(tmp_path: Path, tower: nn.Module) -> None:
    state = {"visual." + name: value for name, value in tower.state_dict().items()}
    torch.save(state | {"decoder.weight": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(WeightsError, match=r"no part of CLIP: decoder\.weight"):
        _loaded(tmp_path / "more.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, r"holds no tensors at its top level, found keys \['epoch'\]"),
        ({"state_dict": {0: torch.ones(1)}}, r"holds no tensors at its top level, found keys \['0'\]"),
        ([torch.ones(1)], "holds a list, expected a mapping"),
    ],
)
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=words):
        _loaded(tmp_path / "a.pt")


def test_damaged_files_of_every_format_are_one_line(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(100)}, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-4])
    with pytest.raises(WeightsError, match="looks like safetensors but cannot be read"):
        _loaded(tmp_path / "cut.safetensors")
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as archive:
        archive.writestr("RN50/constants.pkl", b"")
    with pytest.raises(WeightsError, match="looks like TorchScript but cannot be read"):
        _loaded(tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match="weights file not found"):
        _loaded(tmp_path / "gone.pt")


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
    with pytest.raises(ConfigError, match=r"either encoder_weights or random_encoder=True, found .*RN50\.pt.*=True$"):
        build_network(config, encoder_weights="RN50.pt", random_encoder=True)


def test_a_new_network_gets_its_settings_of_training() -> None:
    config = DenoiserConfig(encoder_layers=LAYERS, encoder_width=WIDTH, decoder_width=4)
    network = build_network(config, random_encoder=True, augmentation_gamma=0.5, drifting_batchnorm=True).train()
    assert (network.augmentation.gamma, network.encoder.training) == (0.5, True)
    assert not build_network(config, random_encoder=True).train().encoder.training


@pytest.mark.parametrize("error", [URLError("offline"), RuntimeError("the SHA256 checksum does not match")])
def test_fetching_without_a_network_says_which_file_goes_where(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import open_clip.pretrained

    def offline(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", offline)
    with pytest.raises(WeightsError, match=r"place that file at .*/\.cache/clip/RN50\.pt"):
        fetch_encoder("RN50", "openai")
    with pytest.raises(WeightsError, match="ctclip weights fetch RN50 openai"):
        find_encoder_file("openai", DenoiserConfig())


def test_a_fetched_encoder_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import open_clip.pretrained

    file = tmp_path / "RN50.pt"
    file.write_bytes(b"weights")
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", lambda *_, **__: str(file))
    fetched = fetch_encoder("RN50", "openai")
    assert fetched.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert find_encoder_file("openai", DenoiserConfig()) == file


@pytest.fixture
def _downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every file that open_clip would download holds its own URL."""
    import open_clip.pretrained

    def download(config: dict[str, str], *, prefer_hf_hub: bool) -> str:
        assert not prefer_hf_hub, "only the URLs of the original files hold their SHA-256"
        path = tmp_path / config["url"].rsplit("/", 1)[-1]
        path.write_text(config["url"])
        return str(path)

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", download)


@pytest.mark.usefixtures("_downloads")
def test_fetched_encoders_are_told_apart_by_name_and_tag() -> None:
    rn50, rn101 = DenoiserConfig(), DenoiserConfig.for_encoder("RN101")
    for encoder, tag in (("RN50", "openai"), ("RN101", "openai"), ("RN50", "cc12m"), ("RN50", "openai")):
        fetch_encoder(encoder, tag)
    assert sorted((each.encoder, each.tag) for each in fetched_encoders()) == [
        ("RN101", "openai"),
        ("RN50", "cc12m"),
        ("RN50", "openai"),
    ]
    assert find_encoder_file("openai", rn50).name == "RN50.pt"
    assert find_encoder_file("openai", rn101).name == "RN101.pt"
    assert "cc12m" in find_encoder_file("cc12m", rn50).name
    with pytest.raises(WeightsError, match="'ctclip weights fetch RN101 cc12m'"):
        find_encoder_file("cc12m", rn101)
    find_encoder_file("openai", rn101).unlink()
    with pytest.raises(WeightsError, match=r"RN101\.pt has been removed; run 'ctclip weights fetch RN101 openai'"):
        find_encoder_file("openai", rn101)


@pytest.mark.usefixtures("_downloads")
@pytest.mark.parametrize(("encoder", "tag"), [("ViT-B-32", "openai"), ("RN50x4", "cc12m"), ("RN50", "nothing")])
def test_what_open_clip_has_no_resnet_for_is_not_fetched(encoder: str, tag: str) -> None:
    with pytest.raises(WeightsError, match=f"no weights {encoder} {tag}; it has RN50: openai, yfcc15m, cc12m; RN101"):
        fetch_encoder(encoder, tag)
    assert fetched_encoders() == []


@pytest.mark.parametrize(("layers", "width"), [((3, 4, 6), 32), ((1, 1, 1), 64)])
def test_an_architecture_of_ones_own_has_no_tag(layers: tuple[int, int, int], width: int) -> None:
    with pytest.raises(WeightsError, match="open_clip has no weights for an encoder with layers"):
        find_encoder_file("openai", DenoiserConfig(encoder_layers=layers, encoder_width=width))


@pytest.mark.parametrize("content", ["{", '[{"encoder": "RN50"}]', "3"])
def test_a_damaged_record_of_fetched_encoders_is_an_error(content: str) -> None:
    record_path().parent.mkdir(parents=True, exist_ok=True)
    record_path().write_text(content)
    with pytest.raises(WeightsError, match="is damaged; remove it and fetch the weights again"):
        find_encoder_file("openai", DenoiserConfig())
