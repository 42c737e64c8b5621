"""The slices of one DICOM series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctclip.data.volumes import Volume
from ctclip.dicom import read_slice, stack_affine
from ctclip.errors import SeriesError


def read_series(paths: Sequence[Path]) -> Volume:
    """Slices behind each other as listed, each with its own slope and intercept; nothing is resampled.

    Args:
        paths: of the slices, in the order of their positions.

    Returns:
        a volume in HU whose padding is -2000 HU, whatever the files store there.

    Raises:
        SeriesError: when a slice cannot be read or slices differ in size.
    """
    slices = [read_slice(path) for path in paths]
    sizes = sorted({ct.hu.shape for ct in slices})
    if len(sizes) > 1:
        raise SeriesError(f"slices of different sizes cannot be one volume: found {sizes}")
    hu = np.stack([ct.without_padding(ct.hu) for ct in slices])
    return Volume(hu, stack_affine([ct.header for ct in slices]), np.dtype(np.int16))
