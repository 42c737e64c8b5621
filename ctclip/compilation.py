"""When compiling the network pays, and where the compiler keeps its work."""

from __future__ import annotations

import os
import shutil

import torch

from ctclip.errors import ConfigError
from ctclip.files import cache_folder

PAYS_FROM_SLICES = 400
"""On a CPU with bf16 compiling ct-compact takes 6 s and saves 17 ms per slice of 512x512 (docs/performance.md)."""

CHOICES = ("auto", "on", "off")


def shall_compile(choice: str, slices: int, device: torch.device, precision: str) -> bool:
    """Whether to compile, and if so with a cache on the disk, so that the next run starts at once.

    Args:
        choice: "on", "off", or "auto": where it was measured to be faster, on a CPU with bf16 for many slices.
        slices: to be denoised.
        device: of the network.
        precision: of the network, "fp32" or "bf16".

    Raises:
        ConfigError: for an unknown choice, and for "on" without a C++ compiler.
    """
    if choice not in CHOICES:
        raise ConfigError(f"compile must be one of {', '.join(CHOICES)}, found {choice!r}")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if choice == "on" and compiler is None:
        raise ConfigError("compiling needs a C++ compiler: install g++, name another one in CXX, or leave it out")
    pays = device.type == "cpu" and precision == "bf16" and slices >= PAYS_FROM_SLICES
    wanted = choice == "on" or (choice == "auto" and pays and compiler is not None)
    if wanted:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    return wanted
