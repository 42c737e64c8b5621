"""Times that can be compared: taken in turns, so that whatever slows the machine down slows all of them down."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]
Clock = Callable[[], float]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several values."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Of times that were taken in turns: each round gives one ratio, in which the state of the machine cancels.

    Raises:
        ValueError: when the two differ in their number of rounds.
    """
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def seconds_of(call: Call, *, device: str = "cpu", clock: Clock = time.perf_counter) -> float:
    """Wall time of one call, with all work on the device that it started."""
    synchronize(device)
    start = clock()
    call()
    synchronize(device)
    return clock() - start


def interleaved(
    candidates: Mapping[str, Call], *, repeats: int, device: str = "cpu", clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each candidate, round after round; in every round each candidate runs once, in the given order.

    Candidates should have run once before: a first call compiles, allocates and fills caches.

    Args:
        candidates: by name.
        repeats: rounds.
        device: "cpu" or "cuda", which is waited for before and after every call.
        clock: gives seconds.

    Returns:
        for each name, as many times as there are rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for index in range(repeats):
        for name, call in candidates.items():
            seconds[name].append(seconds_of(call, device=device, clock=clock))
            logger.info("  round %d of %d, %s: %.4g s", index + 1, repeats, name, seconds[name][-1])
    return seconds


def synchronize(device: str) -> None:
    """Wait for a GPU, whose calls return before their work is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
