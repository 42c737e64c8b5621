"""Volumes whose header names another file for the values. That may be any file, so they are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ctclip.errors import DataError

DETACHED_SUFFIXES = (".mhd", ".nhdr")
"""Headers of MetaImage and NRRD without values."""

MHA_ELSEWHERE = re.compile(rb"ElementDataFile(?!\s*[=:]\s*(?i:local)\s*[\r\n])")
NRRD_ELSEWHERE = re.compile(rb"data ?file\s*:(?!=)", re.IGNORECASE)
"""The field that names another file, wherever it stands: readers differ in what they take for a line."""

NRRD_HEADER_END = re.compile(rb"\n\r?\n")
"""A line that is empty for every reader. MetaImage's header ends with the field itself: the whole file is searched."""


def how_to_convert(paths: Iterable[Path]) -> str:
    """What to do about the volumes among some files whose values lie in a file of their own; "" without any."""
    found = sorted({path.suffix.lower() for path in paths} & set(DETACHED_SUFFIXES))
    return f"{' and '.join(found)} files are not read: convert them to .mha, .nrrd or .nii.gz" if found else ""


def require_own_values(path: Path) -> None:
    """Refuse a MetaImage or NRRD file that names another one for its values.

    Raises:
        DataError: when it does.
        OSError: when the file cannot be read.
    """
    if not path.stat().st_size:
        return  # which the reader refuses
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        if path.suffix.lower() == ".nrrd":
            end = NRRD_HEADER_END.search(content)
            elsewhere = NRRD_ELSEWHERE.search(content, 0, end.end() if end else len(content))
        else:
            elsewhere = MHA_ELSEWHERE.search(content)
    if elsewhere:
        raise DataError(
            f"{path.name} names another file for its values, expected them inside: convert it to .nii.gz, or write it "
            "again with its values"
        )
