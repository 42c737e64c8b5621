"""How fast the machine multiplies matrices, and how much a network multiplies."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Call

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
"""2048 is too small to fill a GPU."""


def matrix_product(precision: str, device: str) -> Call:
    """A product of two square matrices in "fp32", "bf16" or, on a GPU, "tf32"; see :func:`matrix_flops`."""
    side = MATRIX_SIDE[device]
    left, right = (torch.rand(side, side, device=device).to(DTYPES[precision]) for _ in range(2))

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        try:
            torch.mm(left, right)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return multiply


def matrix_flops(device: str) -> int:
    """Floating-point operations of one such product."""
    return 2 * MATRIX_SIDE[device] ** 3


def flops_per_image(network: nn.Module, image: torch.Tensor) -> int:
    """Floating-point operations of a pass over one image, (1, C, H, W): two for each multiplication and addition."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()
