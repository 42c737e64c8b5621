"""Files and folders that appear under their final name only when they are complete, and their hashes."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from ctclip.errors import ConfigError
from ctclip.locks import held, hold


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where ctclip keeps what it can make again: ``$CTCLIP_CACHE`` or ``~/.cache/ctclip``."""
    return Path(os.environ.get("CTCLIP_CACHE", "~/.cache/ctclip")).expanduser()


PARTIAL_PREFIX = ".ctclip-partial-"

REPLACED_PREFIX = ".ctclip-replaced-"
"""Of an earlier folder, for the moment until the new one has its name."""

OF_THE_SYSTEM = (".ds_store", "thumbs.db", "desktop.ini")
"""Files that macOS and Windows put into folders, in lower case."""

TOKEN_LENGTH = 8
"""Hexadecimal digits after either."""


def folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each once, with the names of their files; links are followed."""
    visited = set()
    for folder, below, names in os.walk(top, followlinks=True):
        place = os.path.realpath(folder)
        if place in visited:
            below.clear()  # a link may lead back to a folder above
            continue
        visited.add(place)
        yield Path(folder), names


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
        ConfigError: when ``final`` exists, is not an empty folder, and is not to be replaced or holds anything else.
    """
    missing = [folder for folder in final.parents if not folder.exists()]
    partial, lock = partial_name(final), None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
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
        _remove_empty(missing)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def put_back(final: Path) -> None:
    """Give an earlier folder its name back when a run was killed while it replaced it."""
    if final.parent.is_dir():
        with held(final.parent):
            _put_back(final)


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


def is_of_the_system(name: str) -> bool:
    """Whether a file is of those that macOS and Windows leave in every folder that somebody looks at."""
    return name.lower() in OF_THE_SYSTEM or name.startswith("._")


def require_new_file(
    source: Path, target: Path, *, overwrite: bool, another: str = "file", option: str = "--overwrite"
) -> None:
    """Refuse a file that cannot be written, or must not.

    Args:
        source: the input.
        target: the file to write.
        overwrite: replace an earlier one.
        another: what the user may choose instead.
        option: what the user may give to replace it.

    Raises:
        ConfigError: when it is the source or a folder, lies below a file, or exists and ``overwrite`` is not given.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise ConfigError(f"the output is the input, which is never modified; choose another {another}")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder, expected a file")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; give {option} to replace it")
    require_no_file_above(target, "the output")


def require_no_file_above(path: Path, name: str) -> None:
    """Refuse a place that cannot be made because one of its folders is a file.

    Raises:
        ConfigError: that calls the place by this name.
    """
    # Not Path.resolve, which raises for links in a circle.
    above = next(folder for folder in Path(os.path.realpath(path)).parents if os.path.exists(folder))
    if not above.is_dir():
        raise ConfigError(f"{name} lies below a file, expected a folder; choose another")


def require_replaceable(folder: Path, own_names: Collection[str]) -> None:
    """Refuse to replace a folder that holds more than an earlier result.

    Raises:
        ConfigError: when it holds anything but files of these names, which may be patterns, and of the system.
    """
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


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to the first one that is in use."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
