"""An export as the commands see it: zip files unpacked, multi-frame objects as slices, and then scanned."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ctclip.dicom.archive import unpacked
from ctclip.dicom.classify import ENHANCED, START_BYTES, looks_like_dicom
from ctclip.dicom.contents import DUPLICATE, Scan, Series, SkippedFile
from ctclip.dicom.enhanced import split_frames
from ctclip.dicom.scanning import scan
from ctclip.errors import SeriesError
from ctclip.temporary import remove_abandoned, temporary_folder

__all__ = ["is_dicom_file", "opened_export"]

IN_BOTH = "single and multi-frame images under one SeriesInstanceUID: export again"


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts as DICOM, whatever its name; one that cannot be read does not, nor a pipe."""
    try:
        if not path.is_file():
            return False  # a pipe would be waited for
        with path.open("rb") as file:
            return looks_like_dicom(file.read(START_BYTES))
    except OSError:
        return False


@contextmanager
def opened_export(source: Path) -> Iterator[Scan]:
    """Scan a folder, a file or a zip file; what had to be unpacked is removed afterwards.

    Frames of Enhanced CT lie, uncompressed or as compressed as they were, in a private temporary folder while the scan
    is in use.

    Raises:
        SeriesError: if the source does not exist, holds no files, or is a zip file that cannot be unpacked.
    """
    remove_abandoned()
    with unpacked(source) as folder:
        found = scan(folder)
        enhanced = [item for item in found.skipped if item.reason == ENHANCED]
        if not enhanced:
            yield found
            return
        with temporary_folder() as frames:
            yield _with_frames(found, enhanced, frames)


def _with_frames(found: Scan, enhanced: list[SkippedFile], folder: Path) -> Scan:
    count, failed = _split(enhanced, folder)
    others = tuple(item for item in found.skipped if item.reason != ENHANCED)
    frames = scan(folder) if count else Scan((), (), frozenset())
    twice = {series.uid for series in found.series} & {series.uid for series in frames.series}
    return Scan(
        series=tuple(
            replace(series, skip_reason=IN_BOTH, selectable=False)
            if series.uid in twice
            else _failing_without(failed, series)
            for series in found.series + frames.series
        ),
        skipped=others + frames.skipped + failed,
        series_numbers=found.series_numbers | frames.series_numbers,
    )


def _split(enhanced: list[SkippedFile], folder: Path) -> tuple[int, tuple[SkippedFile, ...]]:
    """Write the frames of all objects; their number, and the objects that have none."""
    count, whole, failed = 0, set(), []
    for number, item in enumerate(enhanced):
        own = folder / f"{number:06d}"
        own.mkdir()
        try:
            count += split_frames(item.path, own)
            whole.add(item.sop_instance_uid)
        except SeriesError as error:
            failed.append(replace(item, reason=str(error), damaged=True))
            shutil.rmtree(own)
    # what the damaged copy of a whole object would have shown is there
    copies = whole - {""}
    return count, tuple(
        replace(item, reason=DUPLICATE, damaged=False) if item.sop_instance_uid in copies else item for item in failed
    )


def _failing_without(failed: Iterable[SkippedFile], series: Series) -> Series:
    """The series, which fails where objects of it cannot be read: what is left of it has a hole."""
    lost = [item.reason for item in failed if item.damaged and item.series_uid == series.uid]
    if not lost:
        return series
    return replace(series, failure=f"{len(lost)} of its files cannot be read, the first: {lost[0]}; export again")
