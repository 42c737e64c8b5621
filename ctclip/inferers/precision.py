"""The arithmetic of the network's layers."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SimpleInferer

from ctclip.settings import PRECISIONS


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """Context in which the network's convolutions run in ``precision`` ("fp32" or "bf16").

    Raises:
        ValueError: for any other precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}")
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")


class PrecisionInferer(SimpleInferer):
    """Runs the network in the given precision and returns float32, also on a CPU, where MONAI's ``amp`` has no effect.

    Args:
        precision: "fp32" or "bf16".
    """

    def __init__(self, precision: str = "fp32") -> None:
        super().__init__()
        self.precision = precision

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        with autocast(self.precision, inputs.device):
            return network(inputs, *args, **kwargs).float()
