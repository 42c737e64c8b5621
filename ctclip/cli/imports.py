"""Heavy imports at the start of a command."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """A block that imports, during which no garbage is looked for; nor will it be among what there is afterwards.

    Importing PyTorch makes some hundred thousand objects, nearly all of which stay until the process ends. Python would
    go through them again and again, the last time at the exit: half a second of a run of two.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
