"""What runs a network's layers: PyTorch one by one, PyTorch's compiler, or OpenVINO."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from ctclip.devices import has_fast_bf16
from ctclip.errors import ConfigError
from ctclip.files import cache_folder
from ctclip.settings import AUTO, COMPILED, EAGER, OPENVINO, require_backend, require_found


def find_backend(choice: str, device: torch.device, precision: str, *, convertible: bool = True) -> str:
    """The backend of a name; "auto" is the one that was measured to be fastest on the device.

    On a CPU that is "openvino" where it is installed, elsewhere "eager": compiling was not faster there
    (docs/performance.md). The compiler keeps its work on the disk, so that the next run starts at once.

    Args:
        choice: "auto", "eager", "compiled" or "openvino".
        device: of the network.
        precision: of the network, "fp32" or "bf16".
        convertible: whether OpenVINO can run the network.

    Returns:
        "eager", "compiled" or "openvino".

    Raises:
        ConfigError: for an unknown choice, or one that this machine does not have.
    """
    require_backend(choice)
    found = _fastest(device, precision, convertible) if choice == AUTO else choice
    if found == COMPILED:
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise ConfigError("compiling needs a C++ compiler: install g++, name another one in CXX, or take 'eager'")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    if found == OPENVINO:
        _require_openvino(device, precision)
    return found


def pixel_settings(precision: str, backend: str, windows: str = "none") -> str:
    """The settings of a network that change pixels, in one line that goes into derived UIDs; plain ones stay short.

    Raises:
        ConfigError: for "auto", which is no such setting, and for an unknown precision or backend.
    """
    require_found(precision=precision, backend=backend)
    return f"precision={precision} roi={windows}" + ("" if backend == EAGER else f" {backend}")


def _fastest(device: torch.device, precision: str, convertible: bool) -> str:
    is_possible = convertible and device.type == "cpu" and (precision == "fp32" or has_fast_bf16(device))
    return OPENVINO if is_possible and _has_openvino() else EAGER


def _require_openvino(device: torch.device, precision: str) -> None:
    if device.type != "cpu":
        raise ConfigError(f"backend 'openvino' is for the CPU, found device {str(device)!r}; take 'eager'")
    if not _has_openvino():
        raise ConfigError("backend 'openvino' is not installed: pip install ctclip[openvino]")
    if precision == "bf16" and not has_fast_bf16(device):
        # OpenVINO would silently take fp32.
        raise ConfigError("this CPU has no bf16 for backend 'openvino'; take precision 'fp32'")


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None
