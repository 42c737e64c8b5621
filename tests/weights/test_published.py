from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctclip.errors import WeightsError
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
    torch.save({"weights": 1}, tmp_path / "plain.pth")
    with pytest.raises(WeightsError, match="expected a state dict under 'params'"):
        read_published(tmp_path / "plain.pth")
