"""Where a network runs and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ctclip.errors import ConfigError
from ctclip.settings import require_device, require_precision

AMPERE = (8, 0)
"""Compute capability of NVIDIA's first GPUs with bf16."""

OUT_OF_MEMORY = (
    "allocate memory",
    "bytes of memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "_STATUS_ALLOC_FAILED",
    "unable to find an engine",
    "INT_MAX",
)
"""In a bare RuntimeError: of the allocators of PyTorch's CPU and MPS, of OpenVINO and of oneDNN; of cuDNN and cuBLAS;
of cuDNN's convolutions when none of their work spaces fits; of up-sampling to more elements than CUDA's kernels
count."""


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name: "auto" is CUDA when there is one and the CPU otherwise; Apple's "mps" has to be asked for.

    Bundles may be given a device itself.

    Raises:
        ConfigError: for an unknown name, or a CUDA device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    require_device(str(device))
    found = torch.device(device)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no device {str(device)!r}: this machine has {torch.cuda.device_count()} CUDA devices; try cpu"
        )
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no device 'mps' on this machine; try cpu")
    return found


@contextmanager
def one_line_faults(device: torch.device) -> Iterator[None]:
    """A block that puts a model on a device; it may be occupied or full, or too old for the installed PyTorch.

    Raises:
        ConfigError: when a device other than the CPU fails.
    """
    try:
        yield
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"device {str(device)!r} cannot be used: {reason}; free it, or try cpu") from error


def find_precision(precision: str, device: torch.device) -> str:
    """The precision of a name: "auto" is bf16 where the device multiplies it faster than fp32.

    Raises:
        ConfigError: for an unknown name.
    """
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    require_precision(precision)
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """NVIDIA's GPUs have it since Ampere, older ones that PyTorch still runs on, such as the T4, emulate it; of CPUs
    only those with instructions for it: on the others bf16 is several times slower than fp32."""
    if device.type == "cuda":
        # Without one here it is a GPU of another machine of a cluster.
        return not torch.cuda.is_available() or torch.cuda.get_device_capability(device) >= AMPERE
    if device.type != "cpu":
        return False
    # Versions of PyTorch before 2.10 or so cannot tell.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of any device or backend says that memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)
