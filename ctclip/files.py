"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_name(path: Path) -> Path:
    """A name beside ``path``, with its extensions, for something that is not complete yet."""
    return path.with_name(f".ctclip-partial-{secrets.token_hex(4)}-{path.name}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; move it to ``path`` on success, remove it on any failure."""
    partial = partial_name(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
