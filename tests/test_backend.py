"""What runs the network, where, and what is said when that cannot be."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import torch

from ctclip import backend as backends
from ctclip.backend import find_backend
from ctclip.devices import find_precision
from ctclip.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One with everything."""
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/g++")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "found")
    monkeypatch.setattr(backends, "has_fast_bf16", lambda device: True)
    monkeypatch.setenv("CTCLIP_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_is_openvino_on_a_cpu_that_has_it_and_eager_elsewhere(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_backend("auto", CPU, precision) == "openvino"
    assert find_backend("auto", CUDA, precision) == "eager"
    assert find_backend("auto", CPU, precision, convertible=False) == "eager", "a network that OpenVINO cannot run"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert find_backend("auto", CPU, precision) == "eager"


def test_openvino_is_not_taken_for_a_bf16_that_it_would_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "has_fast_bf16", lambda device: False)
    assert find_backend("auto", CPU, "bf16") == "eager"
    assert find_backend("auto", CPU, "fp32") == "openvino"
    with pytest.raises(ConfigError, match="has no bf16 for backend 'openvino'"):
        find_backend("openvino", CPU, "bf16")


def test_what_was_asked_for_is_what_one_gets() -> None:
    for choice in ("eager", "compiled", "openvino"):
        assert find_backend(choice, CPU, "fp32") == choice


def test_what_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for choice, device, message in (
        ("compiled", CPU, r"needs a C\+\+ compiler"),
        ("openvino", CPU, r"pip install ctclip\[openvino\]"),
        ("openvino", CUDA, "is for the CPU, found device 'cuda'"),
        ("on", CPU, "one of auto, eager, compiled, openvino, found 'on'"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_backend(choice, device, "fp32")


def test_the_compiler_keeps_its_work_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_backend("compiled", CPU, "bf16")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    find_backend("compiled", CPU, "bf16")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere", "what the user chose stays"


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), "bf16"), ((8, 6), "bf16"), ((7, 5), "fp32")])
def test_gpus_that_emulate_bf16_take_fp32(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert find_precision("auto", CUDA) == precision
    assert find_precision("bf16", CUDA) == "bf16"


def test_gpus_of_other_machines_are_taken_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_precision("auto", CUDA) == "bf16"
