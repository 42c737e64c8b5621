"""How the process treats memory that it no longer uses."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``, from its malloc.h."""


def keep_freed_memory() -> bool:
    """Let the process keep memory that it frees, for its next tensors, instead of giving it back to the system.

    On a CPU every layer of a network takes tens of megabytes and frees them. By default the C library gives them back
    and gets them anew, page by page, which is a seventh of the time of ``ct-compact`` (docs/performance.md). The peak
    grows by up to a seventh, and the process keeps it until it ends: a program may choose that for itself, a library
    does not choose it for a program. Memory of GPUs is not affected.

    Returns:
        whether it was done; False where the C library is not glibc, which goes on as before.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none; a static Python cannot look
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
