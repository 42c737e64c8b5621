"""Facts of a machine that is made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import machine
from benchmarks.rates import flops_per_image
from benchmarks.settings import Settings


@pytest.fixture
def cpu_info(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Takes the place of the kernel's file."""
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    machine._cpu_info.cache_clear()
    yield tmp_path / "cpuinfo"
    machine._cpu_info.cache_clear()


def test_the_processor_is_read_from_the_kernel(cpu_info: Path) -> None:
    cpu_info.write_text("processor\t: 0\nmodel name\t: Abacus 9\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\n")
    assert machine.cpu_model() == "Abacus 9"


def test_a_system_without_the_file_still_has_a_processor(cpu_info: Path) -> None:
    assert machine.cpu_model()


def test_facts_hold_no_date_and_no_name() -> None:
    expected = ["CPU", "cores", "bfloat16 in the CPU", "threads", "GPU", "PyTorch", "Python"]
    assert list(machine.machine_facts("cpu")) == expected


def test_flops_count_multiplications_and_additions() -> None:
    network = torch.nn.Conv2d(2, 4, kernel_size=3, padding=1, bias=False)
    assert flops_per_image(network, torch.rand(1, 2, 8, 8)) == 2 * (4 * 2 * 9) * 64


def test_a_cpu_takes_one_slice_at_a_time() -> None:
    assert Settings(device="cpu").batch == 1
