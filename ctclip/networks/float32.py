"""float32 that is float32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_before: list[Any] = []
"""The setting is one for all threads: what each block that is open found, the first one's at the beginning."""


@contextmanager
def exact_float32(device: torch.device | str) -> Iterator[None]:
    """Convolutions of float32 tensors as they are; without this a CUDA device rounds what goes in to 11 bits (TF32).

    In HU those are steps of 1 in soft tissue.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    # The older switch, the only one before PyTorch 2.9, raises where a program uses the newer one.
    flags, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    with _lock:
        _before.append(getattr(flags, name))
        setattr(flags, name, exact)
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:  # the last one out finds what the first one left
                setattr(flags, name, before)
