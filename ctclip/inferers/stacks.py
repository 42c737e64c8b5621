"""From a stream of slices to batches of slice stacks, holding only a few slices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np


def batched_stacks(
    slices: Iterable[np.ndarray], num_slices: int, batch_of: Callable[[tuple[int, ...]], int]
) -> Iterator[list[np.ndarray]]:
    """Stacks of each slice with its neighbours, in batches; the outermost slices are repeated at the ends.

    Args:
        slices: (rows, columns) each, all of one shape.
        num_slices: odd number of slices in a stack.
        batch_of: gives the batch size for a slice's shape.

    Yields:
        lists of (num_slices, rows, columns) arrays.
    """
    batch: list[np.ndarray] = []
    for stack in _stacks(slices, num_slices // 2):
        batch.append(stack)
        if len(batch) >= batch_of(stack.shape[-2:]):
            yield batch
            batch = []
    if batch:
        yield batch


def _stacks(slices: Iterable[np.ndarray], reach: int) -> Iterator[np.ndarray]:
    """One (2 * reach + 1, rows, columns) stack per slice, from a window that moves over the stream."""
    window: deque[np.ndarray] = deque(maxlen=2 * reach + 1)
    for current in slices:
        if not window:
            window.extend([current] * reach)
        window.append(current)
        if len(window) == window.maxlen:
            yield np.stack(window)
    if not window:
        return
    missing = 2 * reach + 1 - len(window)
    # A series shorter than a stack never filled the window; a longer one still owes its last slices.
    for step in range(reach):
        window.append(window[-1])
        if step >= missing - 1:
            yield np.stack(window)
