"""Volumes whose header names another file for the values. That may be any file, so they are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ctclip.errors import DataError

DETACHED_SUFFIXES = (".mhd", ".nhdr")
"""Headers of MetaImage and NRRD without values."""

HEADER_BYTES = 1 << 20
"""More than any header of a volume; what begins like a field behind it lies in the values."""

ELSEWHERE = {
    ".mha": re.compile(rb"ElementDataFile(?!\s*[=:]\s*LOCAL\s*[\r\n])", re.IGNORECASE),
    ".nrrd": re.compile(rb"data ?file\s*:(?!=)", re.IGNORECASE),
}
"""The field of a header that names another file, wherever it stands: readers differ in what they take for a line."""


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
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    elsewhere = ELSEWHERE.get(path.suffix.lower())
    if elsewhere and elsewhere.search(header):
        raise DataError(
            f"{path.name} names another file for its values, expected them inside: convert it to .nii.gz, or write it "
            "again with its values"
        )
