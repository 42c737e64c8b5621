"""The forms of a network that a machine can run."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from ctclip.backend import COMPILED, EAGER, OPENVINO
from ctclip.devices import has_fast_bf16


def precisions(device: str) -> list[str]:
    """Those that make sense on a device."""
    return ["fp32", *(["bf16"] if has_fast_bf16(torch.device(device)) else [])]


def backends(device: str) -> list[str]:
    """Those that are installed and for the device."""
    return [EAGER, COMPILED, *([OPENVINO] if device == "cpu" and find_spec("openvino") else [])]
