"""A whole derived series: every slice with its processed HU, into one folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from ctclip.dicom.derivation import Derivation
from ctclip.dicom.derived import derive_slice, save_slice
from ctclip.dicom.lenient import quiet_pydicom
from ctclip.dicom.slices import CTSlice, to_stored
from ctclip.threads import map_ahead

SLICE_FILES = ("[0-9]" * 4 + ".dcm", "[0-9]" * 5 + ".dcm")
"""Names of the files of a derived series, as patterns."""


def write_derived_slices(
    processed: Iterable[tuple[CTSlice, np.ndarray]], folder: Path, derivation: Derivation, *, series_number: int
) -> Iterator[tuple[CTSlice, np.ndarray]]:
    """Write ``0001.dcm``, ``0002.dcm``, ... for a stream of slices; padding comes back as it was.

    Args:
        processed: each source slice with its processed HU, (rows, columns).
        folder: an existing folder.
        derivation: what was done.
        series_number: of the derived series.

    Yields:
        each source slice with the stored values of its file; the work is done in a thread of its own.
    """
    now = datetime.now()

    def write(numbered: tuple[int, tuple[CTSlice, np.ndarray]]) -> tuple[CTSlice, np.ndarray]:
        index, (ct, hu) = numbered
        stored = to_stored(ct, hu)
        derived = derive_slice(ct, stored, derivation, series_number=series_number, now=now)
        save_slice(derived, folder / f"{index:04d}.dcm")
        return ct, stored

    with quiet_pydicom():  # once for a series, reading included, not in every step
        yield from map_ahead(write, enumerate(processed, start=1), ahead=2)
