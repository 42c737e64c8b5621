"""What must hold of an export before anything is written, where one bad file is to stop the whole run."""

from __future__ import annotations

from collections.abc import Sequence

from ctclip.dicom import Scan, Series, read_slice
from ctclip.errors import CtclipError, SeriesError, one_line
from ctclip.pipeline.job import READING_THREADS, SliceDone
from ctclip.threads import map_ahead


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
