"""Files and folders that appear under their final name only when they are complete."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from ctclip.errors import ConfigError
from ctclip.files import is_of_the_system, make_folder
from ctclip.locks import held, hold

PARTIAL_PREFIX = ".ctclip-partial-"

REPLACED_PREFIX = ".ctclip-replaced-"
"""Of an earlier folder, for the moment until the new one has its name."""

TOKEN_LENGTH = 8
"""Hexadecimal digits after either."""

POLL_S = 0.1
"""From one look at whether a killed process has ended to the next."""


def partial_name(path: Path) -> Path:
    """A name beside ``path``, with its extensions, for something that is not complete yet."""
    return _hidden_name(path, PARTIAL_PREFIX)


def _hidden_name(path: Path, prefix: str) -> Path:
    return path.with_name(f"{prefix}{secrets.token_hex(TOKEN_LENGTH // 2)}-{path.name}")


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
def atomic_folder(final: Path, *, replaces: Collection[str] | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``final``; move it to ``final`` on success, leave nothing behind on any failure.

    What a killed run has left behind is removed by the next one for the same ``final``: the folder is locked while it
    is being written, and the system gives the lock back when its process ends. An earlier folder that was being
    replaced when a run was killed gets its name back.

    Args:
        final: the folder to make, with the folders above it.
        replaces: names of files, or patterns, of an earlier result that may be replaced; ``None`` replaces nothing.

    Raises:
        ConfigError: when ``final`` exists, is not an empty folder, and is not to be replaced or holds anything else, or
            the folder above it cannot be made.
    """
    missing = missing_folders(final.parent)
    partial, lock = partial_name(final), None
    try:
        make_folder(final.parent)
        with held(final.parent):  # nobody may find the new folder before it is locked
            _put_back(final)
            if replaces is not None:
                require_replaceable(final, replaces)
            elif final.exists() and not _is_empty(final):
                raise ConfigError(f"{final} exists; give --overwrite to replace it")
            _remove_abandoned(final)
            partial.mkdir()
            lock = hold(partial)
        yield partial
        with held(final.parent):
            _replace_folder(partial, final, overwrite=replaces is not None)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(missing)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def put_back(final: Path) -> None:
    """Give an earlier folder its name back when a run was killed while it replaced it."""
    if final.parent.is_dir():
        with held(final.parent):
            _put_back(final)


def clean_up(finals: Sequence[Path], *, wait_s: float) -> None:
    """Leave what :func:`atomic_folder` would have left, after the processes that were writing folders were killed.

    Args:
        finals: the folders that they were writing.
        wait_s: how long to wait for the processes to end; what another run is writing stays.
    """
    deadline = time.monotonic() + wait_s
    quiet = 0
    # Killing takes a moment, in which a process may begin one more folder: two looks in a row must find nothing.
    while finals and quiet < 2:
        for final in finals:
            put_back(final)
            if final.parent.is_dir():
                with held(final.parent):
                    _remove_abandoned(final)
        quiet = 0 if any(any(_hidden(final, PARTIAL_PREFIX)) for final in finals) else quiet + 1
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_S)


def _put_back(final: Path) -> None:
    for earlier in _hidden(final, REPLACED_PREFIX):
        if _is_empty(final):
            final.rmdir()
        if final.exists():
            _discard(earlier, final)
        else:
            os.replace(earlier, final)


def _discard(earlier: Path, final: Path) -> None:
    """Remove a folder that ``final`` has replaced."""
    rubbish = partial_name(final)  # half removed it must never come back
    os.replace(earlier, rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)


def _hidden(final: Path, prefix: str) -> Iterator[Path]:
    return final.parent.glob(f"{prefix}{'[0-9a-f]' * TOKEN_LENGTH}-{glob.escape(final.name)}")


def _remove_abandoned(final: Path) -> None:
    """Remove what killed runs have left beside ``final``; what another run is writing is locked and stays."""
    for left in _hidden(final, PARTIAL_PREFIX):
        lock = hold(left)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def require_replaceable(folder: Path, own_names: Collection[str]) -> None:
    """Refuse to replace a folder that holds more than an earlier result.

    Raises:
        ConfigError: when it is a file, or holds anything but files of these names, which may be patterns, and of the
            system.
    """
    if folder.is_file():
        raise ConfigError(f"{folder} is a file, expected a folder; move it away or choose another")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    names = [name for name in names if not is_of_the_system(name)]
    others = sum(not any(fnmatchcase(name, own) for own in own_names) for name in names)
    if others:
        raise ConfigError(
            f"{folder} holds {others} files or folders that are no earlier result; move them away or choose another"
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _replace_folder(partial: Path, final: Path, *, overwrite: bool) -> None:
    if _is_empty(final):
        final.rmdir()
    if not final.exists():
        os.replace(partial, final)
        return
    if not overwrite:
        raise ConfigError(f"{final} was written by another run meanwhile, which is kept")
    earlier = _hidden_name(final, REPLACED_PREFIX)
    os.replace(final, earlier)
    try:
        os.replace(partial, final)
    except BaseException:
        os.replace(earlier, final)
        raise
    _discard(earlier, final)


def missing_folders(folder: Path) -> list[Path]:
    """Those that have to be made for this one to exist, innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, up to the first one that is in use."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
