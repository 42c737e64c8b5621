"""An evaluation from pairs to the report: what ``ctclip evaluate`` does between reading its options and writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctclip.data.pairs import ScanPair
from ctclip.errors import DataError
from ctclip.evaluation.bench import Bench, bench_methods
from ctclip.evaluation.document import make_report
from ctclip.evaluation.evaluate import Progress, evaluate
from ctclip.evaluation.methods import Method
from ctclip.evaluation.summary import summarise
from ctclip.report.content import IDENTITY, Report
from ctclip.units import MODEL_HU_WINDOW, SOFT_TISSUE_HU_WINDOW, HUWindow


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, as by the options of ``ctclip evaluate``.

    Args:
        windows: in HU, in which PSNR, SSIM, RMSE and MAE are taken.
        legacy: also by the convention of the published code.
        physics: also NPS, TTF and detectability, on a phantom with the noise of the low-dose scans.
        panels: for how many pairs the middle slice is shown.
        seed: of the phantom's noise.
    """

    windows: Sequence[HUWindow] = (SOFT_TISSUE_HU_WINDOW, MODEL_HU_WINDOW)
    legacy: bool = False
    physics: bool = True
    panels: int = 4
    seed: int = 0

    def in_words(self) -> dict[str, str]:
        """For the report."""
        windows = ", ".join(f"[{low:g},{high:g}] HU" for low, high in self.windows)
        return {"windows": windows, "seed": str(self.seed), "legacy": str(self.legacy)}


def evaluate_pairs(
    pairs: Sequence[ScanPair],
    methods: Sequence[Method],
    settings: EvaluationSettings,
    *,
    problems: Sequence[str] = (),
    stated: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    phantom_progress: Progress | None = None,
) -> Report:
    """Judge methods on pairs of low and full dose.

    Args:
        pairs: from :func:`~ctclip.data.pairs.find_pairs`.
        methods: from :func:`~ctclip.evaluation.methods.methods_of`; all are compared with the identity among them.
        settings: what is measured.
        problems: from :func:`~ctclip.data.pairs.find_pairs`, for the report.
        stated: settings as the report shows them; in the words of ``settings`` when it is ``None``.
        progress: called with a text, the pieces of work done and their number, while the pairs are measured.
        phantom_progress: the same, while the phantom is.

    Returns:
        the report, for :func:`~ctclip.report.write_report`; its problems say what was left out.

    Raises:
        DataError: when nothing could be measured.
    """
    found = evaluate(
        pairs, methods, settings.windows, legacy=settings.legacy, panels=settings.panels, progress=progress
    )
    if not found.slices:
        raise DataError(f"nothing could be measured: {[*found.problems, 'there are no pairs'][0]}")
    stated = dict(settings.in_words() if stated is None else stated)
    bench = Bench()
    if settings.physics:
        bench = bench_methods(methods, found.noise_sd_hu, seed=settings.seed, progress=phantom_progress)
        stated["physics"] = bench.remark
    found = replace(found, problems=[*problems, *found.problems, *bench.problems, *_without_identity(methods)])
    used = {each.method for each in found.slices}
    return make_report(
        found,
        summarise(found, bench.results),
        bench.results,
        [each for each in methods if each.name in used],
        stated,
    )


def _without_identity(methods: Sequence[Method]) -> list[str]:
    """What cannot be said when methods are chosen without the input that they are compared with."""
    if any(each.name == IDENTITY for each in methods):
        return []
    return [
        f"comparisons and acceptance left out, but for the change of noise: no method is called {IDENTITY!r}, whose "
        f"results are the low dose; add ctclip.evaluation.methods.baseline({IDENTITY!r})"
    ]
