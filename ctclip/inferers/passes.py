"""How many passes of a network run at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

from ctclip.threads import map_ahead

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_PASSES = 8
"""Each pass takes memory of its own: up to 0.1 GB for ct-compact and a slice of 512x512 (docs/performance.md)."""

_setting = threading.Lock()


def _use_threads(number: int) -> None:
    """Set the number of PyTorch's own threads for this new thread, and for no other.

    PyTorch gives a new thread the number that was set last in any: here, again, the one that this thread was given.
    """
    with _setting:
        given = torch.get_num_threads()
        torch.set_num_threads(number)
        again = threading.Thread(target=torch.set_num_threads, args=(given,))
        again.start()
        again.join()


class ConcurrentPasses:
    """Passes of a network side by side, until memory runs out.

    On a CPU some passes with few threads each are faster than one with all threads: cores do not wait for each other at
    the end of every layer, nor for the thread that reads and writes. On another device there is one pass at a time, in
    a thread that stays: cuDNN looks for its algorithms anew in every thread. A copy counts the threads of its process.

    Args:
        device: where the network runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        threads = torch.get_num_threads()
        self.count = min(threads, MOST_PASSES) if device.type == "cpu" else 1
        self.threads_each = threads // self.count
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._pool = None if self.device.type == "cpu" else ThreadPoolExecutor(1, thread_name_prefix="ctclip")
        self._free, self._changing = threading.Semaphore(self.count), threading.Lock()

    def __reduce__(self) -> tuple[type[ConcurrentPasses], tuple[torch.device]]:
        return ConcurrentPasses, (self.device,)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``map(function, items)`` in a thread for each pass, each with its share of PyTorch's own threads.

        On a CPU there is one thread more, which has its item ready when a pass ends: the function does its part that
        counts inside of :meth:`one`. Items are drawn in the caller's thread. See :func:`~ctclip.threads.map_ahead`.
        """
        if self._process != os.getpid():  # a forked process has none of the threads
            self._begin()
        yield from map_ahead(
            function,
            items,
            workers=self.count + 1,
            ahead=2 * self.count,  # a finished pass does not wait until the caller has come round for the next
            initializer=partial(_use_threads, self.threads_each),
            pool=self._pool,
        )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Room for one pass; waits for it."""
        with self._free:
            yield

    def go_on_one_by_one(self) -> bool:
        """Wait until the passes of other threads have ended, and let no two run at the same time from now on.

        To be called outside of :meth:`one`.

        Returns:
            whether that is a change; when two threads ask, to one of them.
        """
        with self._changing:
            if self.count == 1:
                return False
            for _ in range(self.count - 1):
                self._free.acquire()
            self.count = 1
            return True
