from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ctclip.errors import ConfigError, WeightsError
from ctclip.files import file_sha256
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, PeerDenoiser
from ctclip.weights import (
    CheckpointHeader,
    build_network,
    encoder_weights_of,
    load_model,
    load_network,
    model_labels,
    read_checkpoint,
    read_published,
    save_checkpoint,
)
from ctclip.weights.catalogue import MODELS
from ctclip.weights.checkpoint import state_sha256

CONFIG = DenoiserConfig(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=4, residual=True)


def _encoder_file(network: torch.nn.Module, path: Path) -> Path:
    torch.save(network.encoder.state_dict(), path)
    return path


def test_full_round_trip(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True).eval()
    save_checkpoint(network, tmp_path / "a.pt", provenance={"seed": 1})
    loaded = load_model(tmp_path / "a.pt")
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))
    assert (loaded.hu_window, loaded.provenance, loaded.network.training) == ((-1024, 3072), {"seed": 1}, False)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.pt"]


def test_a_decoder_takes_its_own_encoder_only(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True).eval()
    save_checkpoint(network, tmp_path / "decoder.pt", include_encoder=False)
    own = _encoder_file(network, tmp_path / "own.pt")
    other = _encoder_file(build_network(CONFIG, random_encoder=True), tmp_path / "other.pt")
    image = torch.rand(1, 1, 32, 32)
    save_checkpoint(network, tmp_path / "whole.pt")
    with torch.no_grad():
        for source in (own, tmp_path / "whole.pt"):
            assert torch.equal(load_network(tmp_path / "decoder.pt", encoder_weights=source)(image), network(image))
    loaded = load_model(tmp_path / "decoder.pt", encoder_weights=own)
    both = f"{file_sha256(tmp_path / 'decoder.pt')} {state_sha256(network.encoder.state_dict())}"
    assert loaded.sha256 == hashlib.sha256(both.encode()).hexdigest(), "the encoder counts"
    with pytest.raises(WeightsError, match="do not belong to decoder.pt"):
        load_network(tmp_path / "decoder.pt", encoder_weights=other)
    with pytest.raises(WeightsError, match="--encoder-weights"):
        load_network(tmp_path / "decoder.pt")


def test_of_several_models_those_without_an_encoder_get_the_weights(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True)
    full, decoder = tmp_path / "full.pt", tmp_path / "decoder.pt"
    save_checkpoint(network, full)
    save_checkpoint(network, decoder, include_encoder=False)
    assert encoder_weights_of([full, decoder], "own.pt") == [None, "own.pt"]
    assert encoder_weights_of([full, decoder], None) == [None, None]
    with pytest.raises(ConfigError, match="no model needs the encoder weights"):
        encoder_weights_of([full, full], "own.pt")


def test_models_of_several_trainings_are_told_apart_by_their_folders() -> None:
    assert model_labels(["a/seed0/model.pt", "a/seed1/model.pt", "best.pt", "ct-compact"]) == [
        "seed0/model",
        "seed1/model",
        "best",
        "ct-compact",
    ]


@pytest.mark.parametrize("hu_window", [(-1000.0, 2000.0), None])
def test_the_window_comes_back(tmp_path: Path, hu_window: tuple[float, float] | None) -> None:
    save_checkpoint(build_network(CONFIG, random_encoder=True), tmp_path / "mine.pt", hu_window=hu_window)
    loaded = load_model(tmp_path / "mine.pt")
    assert (loaded.hu_window, loaded.name, loaded.sha256) == (hu_window, "mine", file_sha256(tmp_path / "mine.pt"))
    assert load_model("ct-compact").name == "ct-compact"


def test_the_hash_of_a_state_is_that_of_its_names_shapes_and_values() -> None:
    state = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    known = state_sha256(state)
    assert known == state_sha256(dict(reversed(state.items()))), "in any order"
    assert known == state_sha256({name: values.half() for name, values in state.items()}), "in any precision"
    assert known == state_sha256({**state, "a.num_batches_tracked": torch.tensor(7)})
    for change in (
        {"a.bias": torch.zeros(2)},
        {"b.weight": torch.arange(6.0).reshape(3, 2)},
        {"c.bias": torch.ones(0)},
    ):
        assert known != state_sha256({**state, **change})
    assert known != state_sha256({"b.weight": state["b.weight"], "a.other": state["a.bias"]})


def test_encoder_weights_for_a_full_checkpoint_are_refused(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True)
    save_checkpoint(network, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds its own encoder"):
        load_network(tmp_path / "a.pt", encoder_weights=_encoder_file(network, tmp_path / "e.pt"))


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True)
    save_checkpoint(network, tmp_path / "a.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:2000])
    with pytest.raises(WeightsError, match="cut.pt cannot be read"):
        load_network(tmp_path / "cut.pt")
    torch.save({"params": {}}, tmp_path / "published.pt")
    with pytest.raises(WeightsError, match="ctclip weights import"):
        load_network(tmp_path / "published.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content["ctclip"]["format"] = 99
    torch.save(content, tmp_path / "newer.pt")
    with pytest.raises(WeightsError, match="format 99 is unknown"):
        load_network(tmp_path / "newer.pt")
    torch.save({3: 4, "a": 5}, tmp_path / "mixed.pt")
    for read in (load_network, read_published):
        with pytest.raises(WeightsError, match=r"found \['3', 'a'\]|it holds \['3', 'a'\]"):
            read(tmp_path / "mixed.pt")
    torch.save({"model": network.state_dict()}, tmp_path / "no_header.pt")
    with pytest.raises(WeightsError, match=r"no_header.pt is no ctclip checkpoint: it holds \['model'\]$"):
        load_network(tmp_path / "no_header.pt")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("ctclip",), 3, "is damaged: expected a header"),
        (("model",), [torch.ones(1)], "is damaged: expected a header"),
        (("model", "decoder.last.weight"), 3, "is damaged: expected a header"),
        (("model", "decoder.more"), torch.ones(1), "does not fit the network that its header describes"),
        (("ctclip", "config", "colour"), "red", r"header is damaged: .* unknown \['colour'\]"),
        (("ctclip", "config", "in_channels"), 2, "header is damaged: in_channels"),
        (("ctclip", "hu_window"), 3, "header is damaged: hu_window must be two numbers in HU, or None, found 3;"),
        (
            ("ctclip", "hu_window"),
            ["low", 3072],
            r"hu_window must be two numbers in HU, or None, found \['low', 3072\];",
        ),
        (("ctclip", "config"), 3, "config must be the fields of a network's config by name, found 3;"),
        (("ctclip", "config"), {3: 4}, "config must be the fields of a network's config by name, found {3: 4};"),
        (("ctclip", "encoder_sha256"), 3, "encoder_sha256 must be a text, or None, found 3;"),
        (("ctclip", "provenance"), [1], r"provenance must be plain values by name, found \[1\];"),
        (("ctclip", "hu_window"), [3072, -1024], r"header is damaged: an HU window needs .* found \[3072, -1024\]"),
        (("ctclip", "hu_window"), [0, 0], "header is damaged: an HU window"),
        (("ctclip", "hu_window"), [float("nan"), 0], "header is damaged: an HU window"),
        (("ctclip", "hu_window"), [0, float("inf")], "header is damaged: an HU window"),
    ],
)
def test_wrong_values_in_a_checkpoint_are_one_line(
    tmp_path: Path, place: tuple[str, ...], value: object, words: str
) -> None:
    save_checkpoint(build_network(CONFIG, random_encoder=True), tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    at = content
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=words):
        load_network(tmp_path / "a.pt")


def test_an_encoder_in_place_of_a_denoiser_is_called_so(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = build_network(CONFIG, random_encoder=True).encoder
    state = {f"visual.{name}": values for name, values in encoder.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), tmp_path / "RN50.pt")
    save_file({name: values.contiguous() for name, values in state.items()}, tmp_path / "clip.safetensors")
    torch.save(state, tmp_path / "clip.pt")
    torch.save({"state_dict": {f"module.{name}": values for name, values in state.items()}}, tmp_path / "open.pt")
    recwarn.clear()
    for read in (load_network, read_published):
        for name, kind in (
            ("RN50.pt", "is a TorchScript archive, such as OpenAI's CLIP: no denoiser is read in that format"),
            ("clip.safetensors", "is a safetensors file: no denoiser is read in that format"),
            ("clip.pt", r"holds CLIP \(visual\.\*\): an encoder only"),
            ("open.pt", r"holds CLIP \(visual\.\*\): an encoder only"),
        ):
            with pytest.raises(WeightsError, match=f"^{name} {kind}; .*give it with --encoder-weights$"):
                read(tmp_path / name)
    assert not recwarn.list
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("missing", [("model", "decoder.last.weight"), ("ctclip", "hu_window"), ("ctclip", "config")])
def test_a_checkpoint_without_an_entry_is_refused(tmp_path: Path, missing: tuple[str, str]) -> None:
    save_checkpoint(build_network(CONFIG, random_encoder=True), tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content[missing[0]][missing[1]]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=f"(header is damaged|does not fit the network).*{missing[1]}"):
        load_network(tmp_path / "a.pt")


@pytest.mark.parametrize("hu_window", [(1,), "ab", (None, 1)])
def test_a_header_needs_a_window(hu_window: Any) -> None:
    with pytest.raises(ConfigError, match="^an HU window needs two finite ends"):
        CheckpointHeader(CONFIG, hu_window=hu_window)


def test_the_name_of_a_file_may_be_a_text(tmp_path: Path) -> None:
    save_checkpoint(build_network(CONFIG, random_encoder=True), str(tmp_path / "a.pt"))
    assert read_checkpoint(str(tmp_path / "a.pt"))[0].config == CONFIG


def test_a_header_resumes_the_same_network_only() -> None:
    header = CheckpointHeader(CONFIG)
    header.load_state_dict(CheckpointHeader(CONFIG, provenance={"seed": 1}).state_dict())
    with pytest.raises(WeightsError, match="the checkpoint holds another network"):
        header.load_state_dict(CheckpointHeader(replace(CONFIG, residual=False)).state_dict())


def test_what_half_precision_cannot_hold_is_not_stored(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True)
    network.encoder.bn1.running_var.fill_(1e5)
    with pytest.raises(ConfigError, match="bn1.running_var holds values up to 100000, float16 at most 65504; leave"):
        save_checkpoint(network, tmp_path / "half.pt", half=True)
    assert not (tmp_path / "half.pt").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    network = build_network(CONFIG, random_encoder=True)
    network.encoder.bn1.running_var[3] = value
    torch.save(network.encoder.state_dict(), tmp_path / "encoder.pt")
    save_checkpoint(network, tmp_path / "diverged.pt")
    with pytest.raises(
        WeightsError, match=r"^diverged.pt holds values that are not finite, in encoder.bn1.running_var;"
    ):
        load_model(tmp_path / "diverged.pt")
    with pytest.raises(WeightsError, match=r"^encoder.pt .* not finite, in bn1.running_var; expected finite weights\."):
        build_network(CONFIG, encoder_weights=tmp_path / "encoder.pt")


def test_half_precision_is_stored_but_not_read(tmp_path: Path) -> None:
    network = build_network(CONFIG, random_encoder=True)
    save_checkpoint(network, tmp_path / "half.pt", half=True)
    name = "decoder.last.weight"
    assert torch.load(tmp_path / "half.pt", weights_only=True)["model"][name].dtype == torch.float16
    found = read_checkpoint(tmp_path / "half.pt")[1][name]
    assert found.dtype == torch.float32
    assert torch.equal(found, network.state_dict()[name].half().float())


def test_a_header_that_names_an_encoder_for_a_network_without_one_is_damaged(tmp_path: Path) -> None:
    save_checkpoint(PeerDenoiser({"architecture": "DnCNN", "width": 4, "depth": 3}), tmp_path / "a.pt", hu_window=None)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content["ctclip"]["encoder_sha256"] = "0" * 64
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"the header of a\.pt is damaged: it names an encoder"):
        load_model(tmp_path / "a.pt", encoder_weights=tmp_path / "a.pt")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_checkpoint(build_network(CONFIG, random_encoder=True), tmp_path / "ct.pt")
    load_network(tmp_path / "ct.pt", like=CheckpointHeader(replace(CONFIG, decoder_width=4)))
    photographs = CheckpointHeader(replace(CONFIG, in_channels=3, out_channels=3), hu_window=None)
    message = (
        "ct.pt is another kind of model: it is for CT of -1024 to 3072 HU, 1 channels to 1, expected one for natural "
        "images, 3 channels to 3; give another --model_file"
    )
    with pytest.raises(WeightsError, match=f"^{message}$"):
        load_network(tmp_path / "ct.pt", like=photographs)


def test_a_model_of_other_channels_names_the_option_of_the_bundle(tmp_path: Path) -> None:
    save_checkpoint(build_network(replace(CONFIG, in_channels=3), random_encoder=True), tmp_path / "three.pt")
    with pytest.raises(WeightsError, match="1 channels to 1; give --network_config#in_channels 3$"):
        load_network(tmp_path / "three.pt", like=CheckpointHeader(CONFIG))


def test_unknown_models_are_answered_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"unknown model 'nope'.*ct-compact"):
        load_network("nope")


def test_the_shipped_model_is_the_recorded_one_and_says_that_it_is_not_clip() -> None:
    shipped = MODELS["ct-compact"]
    assert file_sha256(shipped.path) == shipped.sha256
    assert shipped.path.stat().st_size <= 24e6
    assert "not CLIP" in load_network("ct-compact").config.encoder_name


def test_a_shipped_model_whose_file_was_changed_or_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = MODELS["ct-compact"]
    monkeypatch.setitem(MODELS, "ct-compact", replace(shipped, sha256="0" * 64))
    with pytest.raises(WeightsError, match="is not the file that ctclip ships"):
        load_model("ct-compact")
    monkeypatch.setitem(MODELS, "ct-compact", replace(shipped, bundle="no_such_bundle"))
    with pytest.raises(WeightsError, match="the weights of ct-compact are missing at .*no_such_bundle"):
        load_model("ct-compact")


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(build_network(CONFIG, random_encoder=True), tmp_path / "a.pt")
    assert list(tmp_path.glob("*.pt*")) == []


def test_training_goes_on_from_a_checkpoint_of_the_same_network_only(tmp_path: Path) -> None:
    from ctclip.weights import continue_training

    config = DenoiserConfig(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=8)
    network = DenseFeatureDenoiser(config)
    save_checkpoint(network, tmp_path / "pretrained.pt")
    path = tmp_path / "pretrained.pt"
    assert continue_training(config, pretrained=path, drifting_batchnorm=True).train().encoder.training
    continued = continue_training(config.to_dict(), pretrained=path, augmentation_gamma=0.05)
    assert not continued.train().encoder.training
    assert continued.augmentation.gamma == 0.05
    assert continued.encoder.frozen
    for name, values in network.state_dict().items():
        assert torch.equal(continued.state_dict()[name], values), name
    with pytest.raises(WeightsError, match="another network"):
        continue_training({**config.to_dict(), "residual": True}, pretrained=tmp_path / "pretrained.pt")
    with pytest.raises(WeightsError, match=r"gone\.pt does not exist; run the first stage first \(pretrain\.json"):
        continue_training(config, pretrained=tmp_path / "gone.pt")
    save_checkpoint(network, tmp_path / "decoder.pt", include_encoder=False)
    with pytest.raises(WeightsError, match=r"decoder\.pt holds the decoder only, expected one with its encoder"):
        continue_training(config, pretrained=tmp_path / "decoder.pt")
