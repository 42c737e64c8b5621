"""Facts of the machine, without any date or name of it."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from benchmarks.report import Row

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of x86 and ARM processors that multiply bfloat16; others emulate it, slower than float32."""


def machine_facts(device: str) -> Row:
    """What decides how fast the machine is."""
    import torch

    return {
        "CPU": cpu_model(),
        "cores": os.cpu_count(),
        "bfloat16 in the CPU": "yes" if cpu_has_bf16() else "no",
        "threads": torch.get_num_threads(),
        "GPU": torch.cuda.get_device_name() if device == "cuda" else "not used",
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
    }


def cpu_model() -> str:
    """As the kernel names it."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself."""
    info = _cpu_info()
    return not BF16_FLAGS.isdisjoint((info.get("flags") or info.get("Features") or "").split())


@cache
def _cpu_info() -> dict[str, str]:
    """The first processor's entries; empty where there is no such file."""
    if not CPU_INFO.is_file():
        return {}
    lines = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
