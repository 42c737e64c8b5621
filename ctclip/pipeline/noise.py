"""Noise of a series before and after, from slices that pass by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctclip.metrics.noise import compare_noise
from ctclip.pipeline.job import SeriesResult
from ctclip.sampling import evenly_spread

MEASURED_SLICES = 16
"""Evenly spread; measuring one costs as much time as reading and writing two."""


class SeriesNoise:
    """Noise SD and shift of the mean in flat soft tissue.

    Args:
        slice_count: slices that will be added.
    """

    def __init__(self, slice_count: int) -> None:
        self._measured = frozenset(evenly_spread(slice_count, MEASURED_SLICES))
        self._seen = 0
        self._rows: list[tuple[float, float, float]] = []

    def add(self, before_and_after_hu: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        """The next slice before and after denoising, (rows, columns) each; called for those that are measured."""
        if self._seen in self._measured:
            found = compare_noise(*before_and_after_hu())
            if np.isfinite(found.before_hu):
                self._rows.append((found.before_hu, found.after_hu, found.shift_hu))
        self._seen += 1

    def put_into(self, result: SeriesResult) -> None:
        """Medians of the noise and the mean of the shift; nothing without soft tissue."""
        if self._rows:
            before, after, shift = np.transpose(self._rows)
            result.noise_before_hu = float(np.median(before))
            result.noise_after_hu = float(np.median(after))
            result.shift_hu = float(np.mean(shift))
