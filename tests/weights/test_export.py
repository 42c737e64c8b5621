"""Exported networks and checkpoints against the network in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.errors import ConfigError, WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.weights import build_network, load_model, load_network, read_checkpoint, save_checkpoint
from ctclip.weights.export import export_network

SHAPES = [(1, 32, 64), (3, 96, 32), (2, 160, 256)]
"""Batch, rows, columns; the export's example has none of them."""


@pytest.fixture(scope="module")
def network() -> DenseFeatureDenoiser:
    torch.manual_seed(0)
    return DenseFeatureDenoiser(DenoiserConfig(encoder_width=8, decoder_width=8, residual=True)).eval()


def test_torch_export_takes_any_size(network: DenseFeatureDenoiser, tmp_path: Path) -> None:
    export_network(network, tmp_path / "network.pt2")
    program = torch.export.load(tmp_path / "network.pt2").module()
    for batch, rows, columns in SHAPES:
        image = torch.rand(batch, 1, rows, columns)
        with torch.no_grad():
            torch.testing.assert_close(program(image), network(image), atol=1e-6, rtol=0)


def test_onnx_takes_any_size(network: DenseFeatureDenoiser, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_network(network, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    for batch, rows, columns in SHAPES:
        image = torch.rand(batch, 1, rows, columns)
        (pred,) = session.run(["pred"], {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(pred, network(image).numpy(), atol=1e-5)


def test_checkpoints_through_the_command(network: DenseFeatureDenoiser, tmp_path: Path) -> None:
    source = tmp_path / "full.pt"
    save_checkpoint(network, source)
    for options, keys in (([], 0), (["--decoder-only"], 1)):
        target = tmp_path / "out.pt"
        result = CliRunner().invoke(app, ["weights", "export", str(source), str(target), "--overwrite", *options])
        assert result.exit_code == 0, result.output
        header, state = read_checkpoint(target)
        assert (header.encoder_sha256 is None) == (keys == 0)
        assert any(name.startswith("encoder.") for name in state) == (keys == 0)
        assert not any("layer4" in name for name in state)


def test_wrong_targets(network: DenseFeatureDenoiser, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected .pt2 or .onnx"):
        export_network(network, tmp_path / "network.h5")
    result = CliRunner().invoke(app, ["weights", "export", "ct-compact", str(tmp_path / "x.onnx"), "--half"])
    assert result.exit_code == 2
    assert "are for .pt files" in result.output


def test_a_decoder_is_completed_by_what_holds_its_encoder(network: DenseFeatureDenoiser, tmp_path: Path) -> None:
    full, decoder = tmp_path / "full.pt", tmp_path / "decoder.pt"
    save_checkpoint(network, full)
    save_checkpoint(network, decoder, include_encoder=False)
    torch.save({"params": network.state_dict() | {"encoder.layer4.0.x": torch.zeros(1)}}, tmp_path / "published.pth")
    torch.save(network.encoder.state_dict(), tmp_path / "bare.pt")
    expected = network.state_dict()
    for name in ("full.pt", "published.pth", "bare.pt"):
        found = load_network(decoder, encoder_weights=tmp_path / name).state_dict()
        assert all(torch.equal(values, expected[key]) for key, values in found.items())
    torch.manual_seed(1)
    other = DenseFeatureDenoiser(DenoiserConfig(encoder_width=8, decoder_width=8, residual=True))
    save_checkpoint(other, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="do not belong to decoder.pt"):
        load_network(decoder, encoder_weights=tmp_path / "other.pt")


def test_a_new_network_does_not_take_the_encoder_of_a_denoiser_for_clips(
    network: DenseFeatureDenoiser, tmp_path: Path
) -> None:
    save_checkpoint(network, tmp_path / "full.pt")
    with pytest.raises(WeightsError, match="does not fit the encoder"):
        build_network(network.config, encoder_weights=tmp_path / "full.pt")


def test_the_encoder_of_a_shipped_model_is_found_by_the_models_name(tmp_path: Path) -> None:
    model = load_model("ct-compact")
    save_checkpoint(model.network, tmp_path / "decoder.pt", include_encoder=False)
    found = load_network(tmp_path / "decoder.pt", encoder_weights="ct-compact").state_dict()
    assert all(torch.equal(values, model.network.state_dict()[name]) for name, values in found.items())


def test_an_import_makes_its_folder(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "reference_checkpoint" / "ct_wf8.pth"
    result = CliRunner().invoke(app, ["weights", "import", str(source), str(tmp_path / "new" / "x.pt")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new" / "x.pt").is_file()
