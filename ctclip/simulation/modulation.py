"""How the amount of noise goes along a scan: scanners modulate the tube current by how much a body attenuates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Modulation:
    """Factors of the level by slice.

    Args:
        indices: of slices in the scan, ascending; without any, all slices have the same level.
        factors: theirs, above 0.
    """

    indices: tuple[int, ...] = ()
    factors: tuple[float, ...] = ()

    def at(self, indices: Sequence[int]) -> list[float]:
        """Factors of any slices: between the known ones linear in the logarithm, beyond them that of the nearest."""
        if not self.indices:
            return [1.0] * len(indices)
        return np.exp(np.interp(indices, self.indices, np.log(self.factors))).tolist()


SAME_EVERYWHERE = Modulation()


def running_median(values: np.ndarray, reach: int) -> np.ndarray:
    """Median over each value and its neighbours, ``reach`` to each side, fewer at the ends; the same length."""
    return np.array([np.median(values[max(0, place - reach) : place + reach + 1]) for place in range(len(values))])
