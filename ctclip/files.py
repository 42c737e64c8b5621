"""Files and folders as they are found: hashes, listing, and places where nothing may be written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ctclip.errors import ConfigError

OF_THE_SYSTEM = (".ds_store", "thumbs.db", "desktop.ini")
"""Files that macOS and Windows put into folders, in lower case."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where ctclip keeps what it can make again: ``$CTCLIP_CACHE`` or ``~/.cache/ctclip``."""
    return Path(os.environ.get("CTCLIP_CACHE", "~/.cache/ctclip")).expanduser()


def folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each once, with the names of their files, in their order; links are followed."""
    visited = set()
    for folder, below, names in os.walk(top, followlinks=True):
        place = os.path.realpath(folder)
        if place in visited:
            below.clear()  # a link may lead back to a folder above
            continue
        visited.add(place)
        below.sort()  # so that of two names of one folder it is always the same one that is walked
        yield Path(folder), sorted(names)


def files_below(top: Path) -> list[Path]:
    """The files in a folder and below it, sorted, without what the system leaves there; links are followed."""
    found = (folder / name for folder, names in folders_below(top) for name in names if not is_of_the_system(name))
    return sorted(path for path in found if path.is_file())


def is_of_the_system(name: str) -> bool:
    """Whether a file is of those that macOS and Windows leave in every folder that somebody looks at."""
    return name.lower() in OF_THE_SYSTEM or name.startswith("._")


def make_folder(path: Path) -> None:
    """Make a folder that the user has named, and those above it.

    Raises:
        ConfigError: with its name, when the file system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {path} cannot be made ({error.strerror}); choose another") from error


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
