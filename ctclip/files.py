"""Files and folders that appear under their final name only when they are complete, and their hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctclip.errors import ConfigError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@contextmanager
def atomic_folder(final: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``final``; move it to ``final`` on success, leave nothing behind on any failure.

    Args:
        final: the folder to make, with the folders above it.
        overwrite: replace an existing folder.

    Raises:
        ConfigError: when ``final`` exists and ``overwrite`` is not given.
    """
    if final.exists() and not overwrite:
        raise ConfigError(f"{final} exists; give --overwrite to replace it")
    missing = [folder for folder in final.parents if not folder.exists()]
    partial = partial_name(final)
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace_folder(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _remove_empty(missing)
        raise


def _replace_folder(partial: Path, final: Path) -> None:
    if not final.exists():
        os.replace(partial, final)
        return
    old = partial_name(final)
    os.replace(final, old)
    os.replace(partial, final)
    shutil.rmtree(old, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to the first one that is in use."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
