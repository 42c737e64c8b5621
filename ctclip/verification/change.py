"""What processing changed in a slice: its noise, and the means of small areas, in which noise hardly counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctclip.dicom import CTSlice
from ctclip.metrics.noise import NoiseComparison, compare_noise, root_mean_square
from ctclip.units import MODEL_HU_WINDOW

__all__ = ["Change", "change_of"]

AREA_PX = 8
"""Side of an area: its mean keeps a tenth of the noise, as a rule, and shows all organs."""


@dataclass(frozen=True)
class Change:
    """A slice before and after; small, so that several fit into memory.

    Args:
        noise: in flat soft tissue.
        areas_before_hu: mean of each area, inside the HU window of the model.
        areas_after_hu: the same after processing.
    """

    noise: NoiseComparison
    areas_before_hu: np.ndarray
    areas_after_hu: np.ndarray

    @property
    def own_hu(self) -> float:
        """How far the areas are from those of the own source (RMS)."""
        return self.distance_hu(self)

    def distance_hu(self, other: Change) -> float:
        """How far the areas are from those of the source of a slice of the same size (RMS)."""
        return root_mean_square(self.areas_after_hu - other.areas_before_hu)


def change_of(derived: CTSlice, source: CTSlice) -> Change | None:
    """Measure a slice against its source; None where their sizes differ."""
    if derived.hu.shape != source.hu.shape:
        return None
    # the padding of the source, for both: it may have the value of tissue
    before_hu, after_hu = (source.without_padding(each.hu) for each in (source, derived))
    return Change(compare_noise(before_hu, after_hu), _area_means(before_hu), _area_means(after_hu))


def _area_means(slice_hu: np.ndarray) -> np.ndarray:
    """Of whole areas; what is left over at the borders counts in none."""
    side = min(AREA_PX, *slice_hu.shape)
    rows, columns = (length // side for length in slice_hu.shape)
    whole = slice_hu[: rows * side, : columns * side].clip(*MODEL_HU_WINDOW)
    return np.asarray(whole.reshape(rows, side, columns, side).mean(axis=(1, 3), dtype=np.float64))
