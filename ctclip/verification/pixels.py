"""Pixels of a derived slice: what processing leaves alone, and that they are those of its own source."""

from __future__ import annotations

import numpy as np

from ctclip.dicom import CTSlice
from ctclip.dicom.derivation import DENOISED_BY, made_by
from ctclip.dicom.lenient import text_of
from ctclip.dicom.slices import values_to_avoid
from ctclip.units import MODEL_HU_WINDOW
from ctclip.verification.change import Change
from ctclip.verification.checks import Check, Every, Finding, Pair, broken_slices, of_both

__all__ = ["checks_of_pixels"]

MAX_BIAS_HU = 1.0
"""Mean shift in flat soft tissue, over the series."""

MAX_SLICE_BIAS = (5.0, 0.5)
"""Mean shift of one slice: in HU, or as a share of the noise of its source where that is more. Denoised scans at full
strength reach 0.16 of it."""

SAME_SLICE = (8.0, 0.5)
"""Change of the means of small areas, in HU or as a share of the noise, up to which a slice is surely that of its
source. Denoised scans reach 0.25 of it, simulated low dose 0.6; neighbours 2 mm apart differ by 1.4 times as
much."""

SAME_ANATOMY = (40.0, 4.0)
"""Change of the same means beyond which the anatomy is another one. Denoised scans reach 0.03 of it, simulated low dose
0.11, a damaged file that is full of extreme values 0.36; mirrored slices 3 and more."""

ROUNDING_STEPS = 0.5
"""Of stored values, by which a value at the end of the window may come to lie outside."""


def checks_of_pixels() -> list[Check]:
    """All rules about pixels; they need a source."""
    return [
        Every("padding is bit-exact", of_both(_keeps_padding)),
        Every("pixels that are no padding do not get its value", of_both(_adds_no_padding)),
        Every("values outside [-1024, 3072] HU are unchanged", of_both(_keeps_outside)),
        Every("values inside [-1024, 3072] HU stay inside", of_both(_stays_inside)),
        _Bias(),
        Every("mean shift of each slice is at most 5 HU or half of its noise", _has_small_shift),
        Every("each slice shows the anatomy of its source", _has_same_anatomy),
        _NearestSource(),
    ]


def _keeps_padding(derived: CTSlice, source: CTSlice) -> bool:
    padding = source.padding
    return derived.stored.shape == padding.shape and np.array_equal(derived.stored[padding], source.stored[padding])


def _adds_no_padding(derived: CTSlice, source: CTSlice) -> bool:
    avoid = values_to_avoid(source)
    if avoid is None or derived.stored.shape != source.stored.shape:
        return True
    has_value = (derived.stored >= avoid[0]) & (derived.stored <= avoid[1])
    return not np.any(has_value & ~source.padding & (derived.stored != source.stored))


def _keeps_outside(derived: CTSlice, source: CTSlice) -> bool:
    outside = ~source.padding & ~_inside(source.hu)
    return derived.stored.shape == outside.shape and np.array_equal(derived.stored[outside], source.stored[outside])


def _stays_inside(derived: CTSlice, source: CTSlice) -> bool:
    if derived.stored.shape != source.stored.shape:
        return False
    if made_by(text_of(derived.header, "DerivationDescription")) != DENOISED_BY:
        return True  # noise carries metal beyond the window
    leaves = ~source.padding & _inside(source.hu) & ~_inside(derived.hu, ROUNDING_STEPS * abs(source.slope))
    avoid = values_to_avoid(source)
    if avoid is None:
        return not leaves.any()
    # what would have got a padding value lies beside it, wherever that is
    beside = (avoid[0] - 1, avoid[1] + 1)
    return bool(np.isin(derived.stored[leaves], beside).all())


def _inside(hu: np.ndarray, tolerance_hu: float = 0.0) -> np.ndarray:
    low, high = MODEL_HU_WINDOW
    return (hu >= low - tolerance_hu) & (hu <= high + tolerance_hu)


class _Bias:
    """Mean shift of the series."""

    def __init__(self) -> None:
        self._shifts_hu: list[float] = []

    def add(self, pair: Pair) -> None:
        if pair.change is not None:
            self._shifts_hu.append(pair.change.noise.shift_hu)

    def finding(self) -> Finding:
        rule = f"mean shift in flat soft tissue is at most {MAX_BIAS_HU:g} HU"
        known = [shift for shift in self._shifts_hu if np.isfinite(shift)]
        if not known:
            return Finding(rule, True, "no soft tissue to measure it in")
        shift_hu = float(np.mean(known))
        return Finding(rule, abs(shift_hu) <= MAX_BIAS_HU, f"{shift_hu:+.2f} HU")


def _has_small_shift(pair: Pair) -> bool:
    if pair.change is None or np.isnan(pair.change.noise.before_hu):
        return True
    return abs(pair.change.noise.shift_hu) <= _limit_hu(pair.change, MAX_SLICE_BIAS)


def _has_same_anatomy(pair: Pair) -> bool:
    """True as well where the noise is not known: a sharp kernel changes as much as another anatomy does."""
    if pair.change is None or np.isnan(pair.change.noise.before_hu):
        return True
    return pair.change.own_hu <= _limit_hu(pair.change, SAME_ANATOMY)


def _limit_hu(change: Change, limit: tuple[float, float]) -> float:
    """A limit in HU and as a share of the noise, whichever is more."""
    least_hu, share = limit
    return least_hu if np.isnan(change.noise.before_hu) else max(least_hu, share * change.noise.before_hu)


class _NearestSource:
    """Every slice is nearer to its own source than to those before and behind."""

    def __init__(self) -> None:
        self._last: tuple[str, Change] | None = None
        self._broken: dict[str, None] = {}

    def add(self, pair: Pair) -> None:
        this = None if pair.change is None else (pair.name, pair.change)
        if this and self._last and this[1].areas_before_hu.shape == self._last[1].areas_before_hu.shape:
            self._compare(this, self._last)
            self._compare(self._last, this)
        self._last = this

    def _compare(self, one: tuple[str, Change], other: tuple[str, Change]) -> None:
        """Sources that are nearly alike, as copies in two encodings are, tell nothing: what has changed must be more
        than noise as well."""
        (name, change), (_, neighbour) = one, other
        if change.own_hu > max(_limit_hu(change, SAME_SLICE), change.distance_hu(neighbour)):
            self._broken[name] = None

    def finding(self) -> Finding:
        rule = "each slice is nearer to its own source than to its neighbours"
        first = next(iter(self._broken), "")
        return Finding(rule, not self._broken, broken_slices(len(self._broken), first))
