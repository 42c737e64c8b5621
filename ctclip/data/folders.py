"""Where a command may write: never into its input, nor where it cannot be done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ctclip.data.volumes import is_volume
from ctclip.dicom import is_dicom_file
from ctclip.errors import ConfigError
from ctclip.files import folders_below, require_no_file_above


def require_folders(source: Path, target: Path, *, qc: Path | None = None, report: Path | None = None) -> None:
    """Refuse to write into the input, and where it cannot be done, before anything is done.

    Args:
        source: of the input.
        target: folder for what is made.
        qc: folder for quality reports.
        report: file for the report.

    Raises:
        ConfigError: when one of them is the source, or lies inside it or where a link in it leads, or is a file instead
            of a folder, or the other way round, or lies below a file. Beside a single DICOM file folders may lie, but
            no slices.
    """
    places = {"the output": target, "--qc": qc, "--report": report}
    given = {name: path for name, path in places.items() if path is not None}
    _require_outside(source, given)
    for name, path in given.items():
        if name != "--report" and is_dicom_file(source) and _real(source.parent) == _real(path):
            raise ConfigError(f"{name} is the folder of the input, which is never modified; choose another folder")
    if target.is_file():
        raise ConfigError("the output is a file, expected a folder")
    if is_volume(target) and not target.is_dir():
        raise ConfigError(
            f"the output is a folder here, found {target.name}; a volume is written only where the input is one"
        )
    if qc is not None and qc.is_file():
        raise ConfigError("--qc is a file, expected a folder for quality reports")
    if report is not None and (report.is_dir() or _real(report) in _with_above(target, qc)):
        raise ConfigError("--report is a folder, expected a file")
    for name, path in given.items():
        require_no_file_above(path, name)


def _require_outside(source: Path, places: Mapping[str, Path]) -> None:
    origin = _real(source)
    reached = [_real(folder) for folder, _ in folders_below(source)]
    for name, path in places.items():
        written = _real(path)
        if written == origin or (origin.is_dir() and written.is_relative_to(origin)):
            raise ConfigError(f"{name} lies inside the input, which is never modified; choose another folder")
        if any(written.is_relative_to(folder) for folder in reached):
            raise ConfigError(f"a link inside the input leads to {name}; remove the link or choose another folder")


def _with_above(*folders: Path | None) -> set[Path]:
    """Folders that will be there, with those above them."""
    return {each for folder in folders if folder is not None for each in (_real(folder), *_real(folder).parents)}


def _real(path: Path) -> Path:
    """Without links. Not Path.resolve, which raises for links in a circle."""
    return Path(os.path.realpath(path))
