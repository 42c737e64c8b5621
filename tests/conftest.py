"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before PyTorch is loaded: tests run side by side, and threads that spin while they wait take the others' cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CT and reference fixtures, which are not part of the repository: $CTCLIP_TEST_DATA, or beside it."""
    folder = Path(os.environ.get("CTCLIP_TEST_DATA", BESIDE_THE_REPOSITORY))
    if not folder.is_dir():
        pytest.skip("the shared test data is not here; set CTCLIP_TEST_DATA to its folder")
    return folder


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """The checkpoint of a CT network that costs nothing, for tests of all that lies around it; OpenVINO, which takes a
    second to convert one, leaves it alone."""
    import torch

    from ctclip.networks import PeerConfig, PeerDenoiser
    from ctclip.weights import save_checkpoint

    path = tmp_path / "tiny.pt"
    with torch.random.fork_rng([]):
        torch.manual_seed(1)  # moves values little, as a denoiser would
        save_checkpoint(PeerDenoiser(PeerConfig("DnCNN", width=2, depth=2, in_channels=1)), path)
    return path


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of PyTorch's threads for one test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Networks get the same random weights in every run: now and then others are all dead, or hardly do anything."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's record of fetched weights."""
    monkeypatch.setenv("CTCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _gpu_tests_need_a_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
