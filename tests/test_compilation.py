"""When the network is compiled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ctclip.compilation import PAYS_FROM_SLICES, shall_compile
from ctclip.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/g++")
    monkeypatch.setenv("CTCLIP_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


@pytest.mark.parametrize(
    ("choice", "slices", "device", "precision", "expected"),
    [
        ("auto", PAYS_FROM_SLICES, CPU, "bf16", True),
        ("auto", PAYS_FROM_SLICES - 1, CPU, "bf16", False),
        ("auto", PAYS_FROM_SLICES, CPU, "fp32", False),
        ("auto", PAYS_FROM_SLICES, CUDA, "bf16", False),
        ("on", 1, CUDA, "fp32", True),
        ("off", 10_000, CPU, "bf16", False),
    ],
)
def test_auto_compiles_where_it_pays(
    choice: str, slices: int, device: torch.device, precision: str, expected: bool
) -> None:
    assert shall_compile(choice, slices, device, precision) is expected


def test_the_compiler_keeps_its_work_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    shall_compile("on", 1, CPU, "bf16")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    shall_compile("on", 1, CPU, "bf16")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere", "what the user chose stays"


def test_without_a_compiler_auto_goes_on_and_on_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not shall_compile("auto", 10_000, CPU, "bf16")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        shall_compile("on", 1, CPU, "bf16")
    with pytest.raises(ConfigError, match="one of auto, on, off, found 'yes'"):
        shall_compile("yes", 1, CPU, "bf16")
