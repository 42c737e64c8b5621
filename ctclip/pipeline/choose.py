"""Which series of an export are denoised, and what must hold before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ctclip.data.images import IMAGE_SUFFIXES, other_formats
from ctclip.data.volumes import is_volume
from ctclip.dicom import Scan, Series, is_dicom_file, read_slice
from ctclip.dicom.derivation import DENOISED_BY
from ctclip.errors import ConfigError, CtclipError, SeriesError, one_line
from ctclip.files import folders_below
from ctclip.threads import map_ahead

SliceDone = Callable[[], None]

READING_THREADS = 2

ALL = "all"
"""In place of UIDs: every series that can be denoised."""


def choose_series(found: Scan, wanted: Sequence[str]) -> list[Series]:
    """The series to denoise: by default all axial CT series; ``["all"]`` adds the ones that are off by default.

    Args:
        found: of the input.
        wanted: SeriesInstanceUIDs, or "all", or both, or nothing.

    Raises:
        SeriesError: when a UID is not there or can never be denoised, or when nothing is left to denoise.
    """
    by_uid = {series.uid: series for series in found.series}
    asked = [uid for uid in dict.fromkeys(wanted) if uid != ALL]
    missing = [uid for uid in asked if uid not in by_uid]
    if missing:
        raise SeriesError(f"series {missing[0]} is not in the input; 'ctclip denoise SRC DST --dry-run' lists what is")
    unusable = [by_uid[uid] for uid in asked if not by_uid[uid].selectable]
    if unusable:
        raise SeriesError(f"series {unusable[0].uid} cannot be denoised: {unusable[0].skip_reason}")
    if ALL in wanted:
        repeated = {series.uid for series in found.series if series.made_by == DENOISED_BY} - set(asked)
        chosen = [series for series in found.series if series.selectable and series.uid not in repeated]
    elif asked:
        chosen = [by_uid[uid] for uid in asked]
    else:
        chosen = [series for series in found.series if series.skip_reason is None]
    if not chosen:
        reasons = [f"{count} x {reason}" for reason, count in found.skip_summary().items()]
        reasons += [f"series of {series.slice_count} slices: {series.skip_reason}" for series in found.series]
        if any(is_volume(item.path) for item in found.skipped):
            reasons.append("volumes are taken one at a time: give the file")
        if any(item.path.suffix.lower() in IMAGE_SUFFIXES for item in found.skipped):
            reasons.append("photographs are taken from a folder that holds nothing else, or give the file")
        others = other_formats(item.path for item in found.skipped)
        if others:
            reasons.append(f"pictures are read from {', '.join(IMAGE_SUFFIXES)}, not from {', '.join(others)}")
        raise SeriesError(f"no axial CT series in the input; found {'; '.join(reasons) or 'no DICOM files'}")
    return chosen


def check_folders(source: Path, target: Path, *, qc: Path | None = None, report: Path | None = None) -> None:
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
    _require_outside(source, given.values())
    if is_dicom_file(source) and _real(source.parent) in [_real(each) for each in (target, qc) if each is not None]:
        raise ConfigError("the output is the folder of the input, which is never modified; choose another folder")
    if target.is_file():
        raise ConfigError("the output is a file, expected a folder")
    if is_volume(target) and not target.is_dir():
        raise ConfigError(f"the input is DICOM, so the output is a folder of series, found {target.name}")
    if qc is not None and qc.is_file():
        raise ConfigError("--qc is a file, expected a folder for quality reports")
    if report is not None and (report.is_dir() or _real(report) in _with_above(target, qc)):
        raise ConfigError("--report is a folder, expected a file")
    for name, path in given.items():
        require_no_file_above(path, name)


def require_no_file_above(path: Path, name: str) -> None:
    """Refuse a place that cannot be made because one of its folders is a file.

    Raises:
        ConfigError: that calls the place by this name.
    """
    above = next(folder for folder in _real(path).parents if os.path.exists(folder))
    if not above.is_dir():
        raise ConfigError(f"{name} lies below a file, expected a folder; choose another")


def _require_outside(source: Path, places: Iterable[Path]) -> None:
    origin = _real(source)
    reached = [_real(folder) for folder, _ in folders_below(source)]
    for written in map(_real, places):
        if written == origin or (origin.is_dir() and written.is_relative_to(origin)):
            raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
        if any(written.is_relative_to(folder) for folder in reached):
            raise ConfigError("a link inside the input leads to the output; remove the link or choose another folder")


def _with_above(*folders: Path | None) -> set[Path]:
    """Folders that will be there, with those above them."""
    return {each for folder in folders if folder is not None for each in (_real(folder), *_real(folder).parents)}


def _real(path: Path) -> Path:
    """Without links. Not Path.resolve, which raises for links in a circle."""
    return Path(os.path.realpath(path))


def require_undamaged(found: Scan) -> None:
    """Refuse an export with files that cannot be read: they may be slices of any series.

    Raises:
        SeriesError: when there is one; the message says how many, and why.
    """
    damaged = [item.reason for item in found.skipped if item.damaged]
    if damaged:
        raise SeriesError(f"nothing was written: {len(damaged)} files may be lost slices, the first: {damaged[0]}")


def require_readable(chosen: Sequence[Series], slice_done: SliceDone | None = None) -> None:
    """Read every slice of the series, so that nothing is written when one of them is bad, or left out.

    Raises:
        SeriesError: for the first slice that cannot be read, and for a series with CT images that are skipped; the
            message says why.
    """
    for series in chosen:
        if series.left_out:
            raise SeriesError(
                f"nothing was written: series {series.uid}: {len(series.left_out)} of its CT images are skipped, "
                f"the first: {series.left_out[0]}"
            )
        try:
            for _ in map_ahead(read_slice, [item.path for item in series.slices], workers=READING_THREADS):
                if slice_done:
                    slice_done()
        except (CtclipError, OSError) as error:
            raise SeriesError(f"nothing was written: series {series.uid}: {one_line(error)}") from error
