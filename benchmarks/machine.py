"""Facts of the machine, without any date or name of it."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from benchmarks.report import Row

CPU_INFO = Path("/proc/cpuinfo")


def machine_facts(device: str) -> Row:
    """What decides how fast the machine is."""
    import torch

    from ctclip.devices import has_fast_bf16

    return {
        "CPU": cpu_model(),
        "cores": os.cpu_count(),
        "bfloat16 in the CPU": "yes" if has_fast_bf16(torch.device("cpu")) else "no",
        "threads": torch.get_num_threads(),
        "GPU": torch.cuda.get_device_name() if device == "cuda" else "not used",
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
    }


def cpu_model() -> str:
    """As the kernel names it."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


@cache
def _cpu_info() -> dict[str, str]:
    """The first processor's entries; empty where there is no such file."""
    if not CPU_INFO.is_file():
        return {}
    lines = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
