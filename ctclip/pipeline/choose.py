"""Which series of an export are denoised, and what must hold before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ctclip.data.images import IMAGE_SUFFIXES
from ctclip.data.volumes import is_volume
from ctclip.dicom import Scan, Series, read_slice
from ctclip.errors import ConfigError, CtclipError, SeriesError, one_line
from ctclip.threads import map_ahead

SliceDone = Callable[[], None]

READING_THREADS = 2


def choose_series(found: Scan, wanted: Sequence[str]) -> list[Series]:
    """The series to denoise: by default all axial CT series; ``["all"]`` adds the ones that are off by default.

    Args:
        found: of the input.
        wanted: SeriesInstanceUIDs, or "all", or nothing.

    Raises:
        SeriesError: when a UID is not there or can never be denoised, or when nothing is left to denoise.
    """
    if "all" in wanted:
        chosen = [series for series in found.series if series.selectable]
    elif wanted:
        by_uid = {series.uid: series for series in found.series}
        missing = [uid for uid in wanted if uid not in by_uid]
        if missing:
            raise SeriesError(
                f"series {missing[0]} is not in the input; 'ctclip denoise SRC DST --dry-run' lists what is"
            )
        chosen = [by_uid[uid] for uid in dict.fromkeys(wanted)]
        unusable = [series for series in chosen if not series.selectable]
        if unusable:
            raise SeriesError(f"series {unusable[0].uid} cannot be denoised: {unusable[0].skip_reason}")
    else:
        chosen = [series for series in found.series if series.skip_reason is None]
    if not chosen:
        reasons = [f"{count} x {reason}" for reason, count in found.skip_summary().items()]
        reasons += [f"series of {series.slice_count} slices: {series.skip_reason}" for series in found.series]
        if any(is_volume(item.path) for item in found.skipped):
            reasons.append("volumes are taken one at a time: give the file")
        if any(item.path.suffix.lower() in IMAGE_SUFFIXES for item in found.skipped):
            reasons.append("photographs are taken from a folder that holds nothing else, or give the file")
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
        ConfigError: when one of them is the source, or lies inside it, or is a file instead of a folder, or the other
            way round.
    """
    # not Path.resolve, which raises for links in a circle
    origin = Path(os.path.realpath(source))
    for written in (Path(os.path.realpath(path)) for path in (target, qc, report) if path is not None):
        if written == origin or (origin.is_dir() and written.is_relative_to(origin)):
            raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
    if target.is_file():
        raise ConfigError("the output is a file, expected a folder")
    if is_volume(target) and not target.is_dir():
        raise ConfigError(f"the input is DICOM, so the output is a folder of series, found {target.name}")
    if qc is not None and qc.is_file():
        raise ConfigError("--qc is a file, expected a folder for quality reports")
    if report is not None and report.is_dir():
        raise ConfigError("--report is a folder, expected a file")


def require_undamaged(found: Scan) -> None:
    """Refuse an export with files that cannot be read: they may be slices of any series.

    Raises:
        SeriesError: when there is one; the message says how many, and why.
    """
    damaged = [item.reason for item in found.skipped if item.damaged]
    if damaged:
        raise SeriesError(f"nothing was written: {len(damaged)} files may be lost slices, the first: {damaged[0]}")


def require_readable(chosen: Sequence[Series], slice_done: SliceDone | None = None) -> None:
    """Read every slice of the series, so that nothing is written when one of them is bad.

    Raises:
        SeriesError: for the first slice that cannot be read; the message says how.
    """
    for series in chosen:
        try:
            for _ in map_ahead(read_slice, [item.path for item in series.slices], workers=READING_THREADS):
                if slice_done:
                    slice_done()
        except (CtclipError, OSError) as error:
            raise SeriesError(f"nothing was written: series {series.uid}: {one_line(error)}") from error
