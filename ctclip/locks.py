"""Folders that a process holds, so that others leave them alone; the system gives them back when it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(folder: Path, *, wait: bool = False) -> int | None:
    """A file descriptor that holds the folder, or ``None`` when somebody else does, or the system has no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Wait for the folder and hold it: for what takes a moment."""
    lock = hold(folder, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)
