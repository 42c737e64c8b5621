from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctclip.errors import WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.weights import load_network, read_published, save_checkpoint

TOLERANCE = 1e-5


@pytest.mark.parametrize(("kind", "channels"), [("ct", 1), ("rgb", 3)])
def test_reference_fixtures(shared_data: Path, tmp_path: Path, kind: str, channels: int) -> None:
    """Features and outputs of the published code, through an imported and re-loaded checkpoint."""
    folder = shared_data / "reference_checkpoint"
    network, hu_window = read_published(folder / f"{kind}_wf8.pth")
    assert (hu_window is None) == (channels == 3)
    save_checkpoint(network, tmp_path / "imported.pt", hu_window=hu_window)
    network = load_network(tmp_path / "imported.pt")
    known = np.load(folder / f"{kind}_wf8.npz")
    with torch.no_grad():
        for size in ("64x64", "96x160"):
            output = network(torch.from_numpy(known[f"input_{size}"])).numpy()
            assert np.abs(output - known[f"output_{size}"]).max() <= TOLERANCE
        f0 = network._encoder_image(torch.from_numpy(known["input_64x64"]))
        for index, feature in enumerate((f0, *network.encoder(f0))):
            assert np.abs(feature.numpy() - known[f"f{index}"]).max() <= TOLERANCE


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"params": {"last.weight": torch.zeros(1, 8, 3, 3)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold the published network"):
        read_published(tmp_path / "other.pth")
    shapes = {f"encoder.layer{layer}.0.x": torch.zeros(1) for layer in (1, 2, 3)}
    for last in (torch.tensor(1.0), torch.zeros(1, 8, 3, 3)):
        params = {**shapes, "last.weight": last, "encoder.conv3.weight": torch.zeros(8, 8, 3, 3)}
        torch.save({"params": params}, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match="does not hold the published network"):
            read_published(tmp_path / "other.pth")
    torch.save({"params": {**shapes, "last.weight": torch.tensor(1.0)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"last.weight has the shape \(\), expected the four dimensions of a conv"):
        read_published(tmp_path / "other.pth")
    torch.save({"params": {"last.weight": 1}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="expected a state dict under 'params'"):
        read_published(tmp_path / "other.pth")
    torch.save({"weights": 1}, tmp_path / "plain.pth")
    with pytest.raises(WeightsError, match="expected a state dict under 'params'"):
        read_published(tmp_path / "plain.pth")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"up_path.0.more": torch.zeros(1)}, "up_path.0.more"),
        ({"encoder.bn1.weight": torch.zeros(5)}, "encoder.bn1.weight"),
        ({"encoder.bn1.weight": None}, "encoder.bn1.weight"),
    ],
)
def test_every_entry_of_a_published_network_is_needed(
    tmp_path: Path, change: dict[str, torch.Tensor | None], name: str
) -> None:
    network = DenseFeatureDenoiser(DenoiserConfig.reference(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=4))
    params = {_published(own): values for own, values in network.state_dict().items()}
    torch.save({"params": params}, tmp_path / "net_g.pth")
    found, hu_window = read_published(tmp_path / "net_g.pth")
    assert hu_window == (-1024, 3072)
    assert not found.training
    assert all(torch.equal(values, network.state_dict()[own]) for own, values in found.state_dict().items())
    changed = {key: values for key, values in (params | change).items() if values is not None}
    torch.save({"params": changed}, tmp_path / "net_g.pth")
    with pytest.raises(WeightsError, match=rf"1 of \d+ entries are missing, unexpected or of another shape.* {name}$"):
        read_published(tmp_path / "net_g.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", ["params", None])
def test_spellings_of_a_published_network(tmp_path: Path, prefix: str, key: str | None) -> None:
    network = DenseFeatureDenoiser(DenoiserConfig.reference(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=4))
    params = {prefix + _published(own): values for own, values in network.state_dict().items()}
    torch.save({key: params} if key else params, tmp_path / "net_g.pth")
    found, _ = read_published(tmp_path / "net_g.pth")
    assert all(torch.equal(values, network.state_dict()[own]) for own, values in found.state_dict().items())
    with pytest.raises(WeightsError, match="'ctclip weights import' turns a published checkpoint into one"):
        load_network(tmp_path / "net_g.pth")
    more = {**params, prefix + "more": torch.zeros(1)}
    torch.save({key: more} if key else more, tmp_path / "net_g.pth")
    with pytest.raises(WeightsError, match="1 of .* entries are missing, unexpected or of another shape.* more$"):
        read_published(tmp_path / "net_g.pth")


def _published(own: str) -> str:
    """The name that the published code gives to an entry."""
    if own.startswith("decoder.blocks."):
        _, _, block, layer, kind = own.split(".")
        return f"up_path.{block}.conv_block.block.{layer}.{kind}"
    return {"decoder.last.weight": "last.weight", "input_conv.weight": "first.weight"}.get(own, own)
