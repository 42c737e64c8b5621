"""One scan in HU, whatever it is stored in: a volume's file or the slices of a DICOM series."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ctclip.data.detached import how_to_convert
from ctclip.data.series import read_series
from ctclip.data.volumes import VOLUME_SUFFIXES, Volume, is_volume_file, read_volume
from ctclip.dicom import is_dicom_file
from ctclip.errors import DataError
from ctclip.hu_window import require_hu


def paths_of(names: Sequence[str | os.PathLike] | str | os.PathLike) -> list[Path]:
    """The files of one scan from what a data list says: one name, or several."""
    return [Path(names)] if isinstance(names, (str, os.PathLike)) else [Path(name) for name in names]


def read_scan(paths: Sequence[Path], *, name_in_errors: bool = False) -> Volume:
    """Read the file of a volume, or the slices of one DICOM series.

    Args:
        paths: one volume, or the slices in the order of their positions, see
            :func:`~ctclip.data.sources.find_items`.
        name_in_errors: an error about values that are no HU, or a file of another kind, begins with the file's name,
            which may hold patient data.

    Raises:
        DataError: when a volume cannot be read or is not in HU, and for a folder, a file of another kind, or volumes in
            a list of files.
        SeriesError: when a slice cannot be read, or the slices are no volume.
    """
    if any(path.is_dir() for path in paths):
        raise DataError(
            "found a folder, expected a volume's file or the list of a series' files; "
            "ctclip.data.sources.find_items makes that list"
        )
    if len(paths) == 1 and is_volume_file(paths[0]):
        return _read_volume_in_hu(paths[0], name_in_errors)
    if any(is_volume_file(path) for path in paths):
        raise DataError(
            f"found a list of {len(paths)} files with volumes among them, expected one volume's file or the files "
            "of one DICOM series; give each volume as an item of its own"
        )
    if len(paths) == 1 and os.access(paths[0], os.R_OK) and not is_dicom_file(paths[0]):
        remedy = how_to_convert(paths)
        raise DataError(
            f"{paths[0].name if name_in_errors else 'the file'} is neither a DICOM file nor a volume: expected "
            f"{', '.join(VOLUME_SUFFIXES)}, or the files of one DICOM series" + (f"; {remedy}" if remedy else "")
        )
    return read_series(paths)


def _read_volume_in_hu(path: Path, name_in_errors: bool) -> Volume:
    """DICOM states its rescaling; a volume does not, so its values are looked at."""
    volume = read_volume(path)
    try:
        require_hu(volume.hu)
    except DataError as error:
        raise DataError(f"{path.name}: {error}" if name_in_errors else str(error)) from error
    return volume
