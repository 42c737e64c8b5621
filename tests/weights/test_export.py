"""Exported networks and checkpoints against the network in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.errors import ConfigError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.weights import read_checkpoint, save_checkpoint
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
