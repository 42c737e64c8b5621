"""Folders for what is needed while a command runs."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctclip.locks import hold

UNPACKED_PREFIX = ".ctclip-unpacked-"

ABANDONED_AFTER_S = 60
"""A new temporary folder is locked at once; one that is older and not locked belongs to nobody."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in ``TMPDIR`` that only this user can read, removed afterwards.

    What killed runs have left there may hold patient data; the next run removes it.
    """
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_own_prefix(), ignore_cleanup_errors=True) as name:
        lock = hold(Path(name), wait=True)  # another run may just be looking whether anybody holds it
        try:
            yield Path(name)
        finally:
            if lock is not None:
                os.close(lock)


def remove_abandoned() -> None:
    """Remove what killed runs have left of :func:`temporary_folder`."""
    newest = time.time() - ABANDONED_AFTER_S
    for left in Path(tempfile.gettempdir()).glob(f"{glob.escape(_own_prefix())}*"):
        lock = hold(left)  # none for a folder of another user, or in use
        if lock is None:
            continue
        if os.fstat(lock).st_mtime < newest:
            shutil.rmtree(left, ignore_errors=True)
        os.close(lock)


def _own_prefix() -> str:
    """Names the machine: not every shared file system tells others who holds a folder."""
    return f"{UNPACKED_PREFIX}{platform.node()}-"
