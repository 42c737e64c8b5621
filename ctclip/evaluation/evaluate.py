"""Runs methods over pairs of low and full dose, measures every slice, and keeps what a report needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ctclip.data.pairs import PairHU, ScanPair, read_pair
from ctclip.errors import DataError, SeriesError
from ctclip.evaluation.measures import Row, measure_slices, says_nothing
from ctclip.evaluation.methods import Method
from ctclip.inferers.predict import SliceProgress
from ctclip.metrics.image import require_ssim_size
from ctclip.metrics.noise import median_of_known, volume_noise_sd_hu
from ctclip.report.content import IDENTITY, Panel, SliceRow
from ctclip.units import SOFT_TISSUE_HU_WINDOW, HUWindow

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
        has no rows for it. A pair that says nothing in a window is there too, and one of two equal scans, which has no
        rows at all.
    """
    found = Evaluation()
    work = len(pairs) * len(methods)
    for number, pair in enumerate(pairs):
        try:
            scan = read_pair(pair)
            require_ssim_size(scan.full_hu)
            _require_two_doses(scan)
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
                output_hu = _output(method, pair, scan.low_hu, report)
            except (DataError, SeriesError) as error:
                found.problems.append(f"pair {pair.name}, {method.name} left out: {error}")
                continue
            rows = measure_slices(output_hu, scan.low_hu, scan.full_hu, windows, legacy=legacy)
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


def _progress_of_slices(progress: Progress | None, text: str, done: int, work: int) -> SliceProgress:
    """A callback over slices that moves the whole by one step."""

    def report(slices: int, in_all: int) -> None:
        if progress:
            progress(text, done + slices / in_all, work)

    return report


def _output(method: Method, pair: ScanPair, low_hu: np.ndarray, progress: SliceProgress) -> np.ndarray:
    if method.denoise is not None:
        return method.apply(low_hu, progress)
    assert method.predictions is not None
    return method.predictions.read(pair)
