"""What dciodvfy (dicom3tools), a validator of DICOM files, says of a derived slice but not of its source."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from ctclip.dicom.lenient import quiet_pydicom

__all__ = ["is_installed", "new_errors"]

UID_PLACE = re.compile(r"\(0x\w{4},0x\w{4}\) UI .*? \[\d+\]")
"""Of a value in a complaint of dciodvfy about a UID."""

QUOTED = re.compile(r"<.*>|\".*\"")
LENGTH = re.compile(r"(Length invalid\D*)\d+")
"""A value, and the length of one, in a complaint of dciodvfy."""

TOO_LONG = re.compile(
    r"\(0x(\w{4}),0x(\w{4})\) (?:SH|LO|ST|LT|PN) .*Length invalid for this VR = \d+, expected <= (\d+)"
)
"""A complaint of dciodvfy about a text: it counts bytes, where the standard counts characters (PS3.5 6.2)."""

SUMMARY = "Error - Dicom dataset contains invalid data values"
"""Of complaints about values, each of which has a line of its own."""


def is_installed() -> bool:
    """Whether there is a dciodvfy to ask."""
    return shutil.which("dciodvfy") is not None


def new_errors(path: Path, source_path: Path | None) -> list[str]:
    """Errors of a derived slice that its source does not have already: sources fail too. They hold no patient data.

    Args:
        path: of the derived slice.
        source_path: of its source; without one every error is new.
    """
    known = set() if source_path is None else set(_errors(source_path))
    # dciodvfy quotes values, which may be a patient's
    return [QUOTED.sub("<...>", line) for line in _errors(path) if line not in known]


def _errors(path: Path) -> Iterator[str]:
    """Error lines, such that the same error in source and derived slice gives the same line.

    A wrong UID is wrong wherever it is referred to, so complaints about it lose the place. Other complaints lose the
    value and its length: a description that breaks a rule does so with ctclip's name behind it as well. Texts that are
    too long in bytes only, as those in Chinese letters, are no errors.
    """
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode < 0:
        yield f"Error: dciodvfy was ended by signal {-done.returncode}"
    for line in (done.stdout + done.stderr).splitlines():
        if line.startswith("Error") and not line.startswith(SUMMARY) and not _counts_bytes(line, path):
            if " for UID - " in line:
                yield UID_PLACE.sub("UI", line.split(" in (0x")[0])
            else:
                yield LENGTH.sub(r"\1N", QUOTED.sub("<...>", UID_PLACE.sub("UI", line.strip())))


def _counts_bytes(line: str, path: Path) -> bool:
    """Whether a complaint about the length of a text is wrong: each of its values is short enough in characters."""
    complaint = TOO_LONG.search(line)
    if complaint is None:
        return False
    group, element, limit = complaint.groups()
    tag = Tag(int(group, 16), int(element, 16))
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            found = [each.value for each in header.iterall() if each.tag == tag]
    except Exception:  # damaged values make pydicom raise nearly anything
        return False
    values = [value for each in found for value in (each if isinstance(each, MultiValue) else [each])]
    # a name has up to three forms, each with the limit
    return all(len(form) <= int(limit) for value in values for form in str(value).split("="))
