"""Runs methods over pairs of low and full dose, measures every slice, and keeps what a report needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ctclip.data.pairs import PairHU, ScanPair, read_pair
from ctclip.errors import DataError, SeriesError
from ctclip.evaluation.measures import Row, measure_slices, says_nothing
from ctclip.evaluation.methods import Method
from ctclip.inferers.predict import SliceProgress
from ctclip.metrics.image import require_ssim_size
from ctclip.metrics.noise import MIN_TISSUE_PX, WINDOW_PX, median_of_known, volume_noise_sd_hu
from ctclip.report.content import IDENTITY, Panel, SliceRow
from ctclip.units import AIR_HU, SOFT_TISSUE_HU_WINDOW, HUWindow

PATIENT_HU = AIR_HU / 2
"""A scan whose local mean is higher shows patient there, or is not in HU; lungs are not needed."""

MOST_OFFSET_HU = 100.0
"""Of the median inside the patient. Doses differ by some HU where few photons get through, RescaleIntercept is 1000 or
1024."""

Progress = Callable[[str, float, float], None]


@dataclass
class Evaluation:
    """Everything that was found.

    Args:
        slices: all results, pair after pair.
        panels: middle slices of the first pairs.
        problems: what was left out and why, one line each.
        noise_of_scans_hu: noise SD of the low-dose scan of each pair; NaN without soft tissue.
    """

    slices: list[SliceRow] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    noise_of_scans_hu: list[float] = field(default_factory=list)

    @property
    def noise_sd_hu(self) -> float:
        """Median noise SD of the low-dose scans; NaN when none holds enough soft tissue."""
        return median_of_known(self.noise_of_scans_hu)

    def of_method(self, name: str) -> list[tuple[str, Row]]:
        """Patient and row of each slice of a method."""
        return [(each.patient, each.values) for each in self.slices if each.method == name]


def evaluate(
    pairs: Sequence[ScanPair],
    methods: Sequence[Method],
    windows: Sequence[HUWindow],
    *,
    legacy: bool = False,
    panels: int = 4,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure methods on pairs, one pair in memory at a time.

    Args:
        pairs: from :func:`~ctclip.data.pairs.find_pairs`.
        methods: what to judge; the identity should be among them.
        windows: see :func:`~ctclip.evaluation.measures.measure_slices`.
        legacy: see there.
        panels: for how many pairs the middle slice is kept.
        progress: called with a text, the pieces of work done and their number.

    Returns:
        the results; a method whose result for a pair is missing, of another shape or not finite is in ``problems`` and
        has no rows for it, nor has one that equals the full dose, or results of another tool that are not in HU. A pair
        that says nothing in a window is there too, and one of two equal scans, or of scans that are not both in HU,
        which has no rows at all.
    """
    found = Evaluation()
    work = len(pairs) * len(methods)
    for number, pair in enumerate(pairs):
        try:
            scan = read_pair(pair)
            require_ssim_size(scan.full_hu)
            _require_two_doses(scan)
            _require_one_scale("its low dose", scan.low_hu, scan.full_hu)
        except (DataError, SeriesError) as error:
            found.problems.append(f"pair {pair.name} left out: {error}")
            continue
        found.problems += [
            f"pair {pair.name}: no image quality in the window [{low:g},{high:g}] HU: every slice of the full dose "
            "shows a single value there or equals the low dose; give other --windows, or another pair"
            for low, high in windows
            if says_nothing(scan.low_hu, scan.full_hu, (low, high)).all()
        ]
        found.noise_of_scans_hu.append(volume_noise_sd_hu(scan.low_hu))
        middle = len(scan.low_hu) // 2
        outputs_hu = {}
        for place, method in enumerate(methods):
            report = _progress_of_slices(progress, f"{pair.name} {method.name}", number * len(methods) + place, work)
            report(0, len(scan.low_hu))
            try:
                output_hu = _output(method, pair, scan, report)
                rows = measure_slices(output_hu, scan.low_hu, scan.full_hu, windows, legacy=legacy)
                _require_errors(rows)
            except (DataError, SeriesError) as error:
                found.problems.append(f"pair {pair.name}, {method.name} left out: {error}")
                continue
            found.slices += [
                SliceRow(method.name, pair.patient, pair.name, index, row) for index, row in enumerate(rows)
            ]
            if method.name != IDENTITY:
                outputs_hu[method.name] = output_hu[middle].copy()
        if len(found.panels) < panels:
            low_hu, full_hu = scan.low_hu[middle].copy(), scan.full_hu[middle].copy()
            label = f"slice {middle + 1}"
            found.panels.append(Panel(pair.name, label, SOFT_TISSUE_HU_WINDOW, low_hu, full_hu, outputs_hu))
    if progress:
        progress("measured", work, work)
    return found


def _require_two_doses(scan: PairHU) -> None:
    if np.array_equal(scan.low_hu, scan.full_hu):
        raise DataError(
            "its low dose equals its full dose in every pixel, expected two scans: there is nothing to remove, and "
            "every change would count as an error; give the low-dose scan"
        )


def _require_one_scale(what: str, other_hu: np.ndarray, full_hu: np.ndarray) -> None:
    """Values without their intercept may reach below 0 all the same, by noise or padding, and look like HU."""
    offset_hu = _offset_hu(other_hu, full_hu)
    if abs(offset_hu) > MOST_OFFSET_HU:
        raise DataError(
            f"inside the patient {what} differs from the full dose by {offset_hu:+.4g} HU (median), expected "
            f"{MOST_OFFSET_HU:g} HU at most: one of them is not in HU; apply RescaleSlope and RescaleIntercept to it"
        )


def _offset_hu(one_hu: np.ndarray, other_hu: np.ndarray) -> float:
    """Median difference inside the patient, 0 without one.

    Which of the scans is in HU is not known, and where the other one shows patient it may have air, or a fill: of the
    differences where each shows patient the smaller one counts. Local means choose, so that noise does not.
    """
    offsets_hu = []
    for each_hu in (one_hu, other_hu):
        inside = ndimage.uniform_filter(each_hu, (1, WINDOW_PX, WINDOW_PX)) > PATIENT_HU
        if inside.sum() >= MIN_TISSUE_PX:
            offsets_hu.append(float(np.median(one_hu[inside] - other_hu[inside])))
    return min(offsets_hu, key=abs, default=0.0)


def _require_errors(rows: Sequence[Row]) -> None:
    """Refuse results without any error, whose PSNR is infinite, as the means of all slices would be."""
    equal = sum(any(np.isinf(value) for value in row.values()) for row in rows)
    if equal:
        raise DataError(
            f"its result equals the full dose in every pixel of a window in {equal} of {len(rows)} slices, expected "
            "some error: the PSNR would be infinite; check that it was made from the low dose"
        )


def _progress_of_slices(progress: Progress | None, text: str, done: int, work: int) -> SliceProgress:
    """A callback over slices that moves the whole by one step."""

    def report(slices: int, in_all: int) -> None:
        if progress:
            progress(text, done + slices / in_all, work)

    return report


def _output(method: Method, pair: ScanPair, scan: PairHU, progress: SliceProgress) -> np.ndarray:
    if method.denoise is not None:
        return method.apply(scan.low_hu, progress)
    assert method.predictions is not None
    predicted_hu = method.predictions.read(pair)
    _require_one_scale("the prediction", predicted_hu, scan.full_hu)
    return predicted_hu
