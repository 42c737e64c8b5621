"""What the measures come to: means over patients, comparisons, and the acceptance bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctclip.evaluation.bench import BenchResult
from ctclip.evaluation.evaluate import Evaluation
from ctclip.evaluation.measures import NOISE_CHANGE, Row, tissue_of
from ctclip.evaluation.statistics import Difference, Interval, compare, interval, patient_means
from ctclip.metrics.acceptance import BIAS, EDGE_SHARPNESS, LESIONS, NOISE, SHARPNESS, TEXTURE, Criterion
from ctclip.report.content import IDENTITY, Measure

EDGE_CONTRAST_HU, VESSEL_CONTRAST_HU = 1000.0, 300.0
"""Rods whose sharpness decides: the contrast of bone, at which the MTF of scanners is stated, and that of enhanced
vessels, at which a non-linear filter blurs more."""

PatientRows = dict[str, Row]
"""By patient."""


@dataclass(frozen=True)
class Judgement:
    """A method against a criterion.

    Args:
        method: name of the method.
        criterion: what is judged.
        value: NaN, which is not passed, where it could not be measured.
        place: where it was found, such as the tissue of a bias; "" where there is nothing to say.
    """

    method: str
    criterion: Criterion
    value: float
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is known and within the limit."""
        return bool(np.isfinite(self.value) and self.criterion.passes(self.value))


@dataclass(frozen=True)
class Summary:
    """Everything over patients.

    Args:
        patients: by method and patient.
        means: by method and measure.
        counts: patients and slices that have a value, by method and measure.
        differences: (method, compared with, measure) and their difference.
        judgements: method by method.
    """

    patients: dict[str, PatientRows]
    means: dict[str, dict[Measure, Interval]]
    counts: dict[str, dict[Measure, tuple[int, int]]]
    differences: list[tuple[str, str, Measure, Difference]]
    judgements: list[Judgement]


def summarise(evaluation: Evaluation, bench: Mapping[str, BenchResult]) -> Summary:
    """Put the results of all methods together.

    Args:
        evaluation: the measures of all slices, with those of "identity", which all others are compared with; without
            it there are no comparisons, and only the change of noise is known.
        bench: results on the phantom by method, empty when it was left out.
    """
    methods = list(dict.fromkeys(each.method for each in evaluation.slices))
    patients = {name: patient_means(evaluation.of_method(name)) for name in methods}
    means = {name: _intervals(rows) for name, rows in patients.items()}
    counts = {
        name: {measure: _counts(evaluation.of_method(name), measure) for measure in means[name]} for name in methods
    }
    shared = {name: _shared_with_identity(evaluation, name) for name in methods if name != IDENTITY}
    differences = [
        (name, IDENTITY, measure, compare(_by_patient(mine, measure), _by_patient(its_input, measure)))
        for name, (mine, its_input) in shared.items()
        if IDENTITY in patients
        for measure in means[name]
    ]
    judgements = [each for name in shared for each in _judge(name, means[name], shared[name], bench)]
    return Summary(patients, means, counts, differences, judgements)


def _intervals(rows: PatientRows) -> dict[Measure, Interval]:
    measures = next(iter(rows.values()))
    return {measure: interval([row[measure] for row in rows.values()]) for measure in measures}


def _counts(slices: Sequence[tuple[str, Row]], measure: Measure) -> tuple[int, int]:
    """Patients and slices that have a value."""
    of_patients = [patient for patient, row in slices if not np.isnan(row[measure])]
    return len(set(of_patients)), len(of_patients)


def _shared_with_identity(evaluation: Evaluation, name: str) -> tuple[PatientRows, PatientRows]:
    """Patients of a method and of its input, over the slices that both have: results may be missing for a patient, or
    for one of a patient's scans."""
    mine, its_input = (
        {(each.scan, each.index): each for each in evaluation.slices if each.method == method}
        for method in (name, IDENTITY)
    )
    shared = [key for key in mine if key in its_input]
    patients, others = (
        patient_means((rows[key].patient, rows[key].values) for key in shared) for rows in (mine, its_input)
    )
    return patients, others


def _by_patient(rows: PatientRows, measure: Measure) -> dict[str, float]:
    return {patient: row[measure] for patient, row in rows.items()}


def _judge(
    name: str,
    means: dict[Measure, Interval],
    shared: tuple[PatientRows, PatientRows],
    bench: Mapping[str, BenchResult],
) -> list[Judgement]:
    noise = means[NOISE_CHANGE].mean
    found = [Judgement(name, NOISE, noise), Judgement(name, BIAS, *_largest_added_bias(*shared))]
    if name not in bench or IDENTITY not in bench:
        return found
    mine, its_input = bench[name], bench[IDENTITY]
    return [
        *found,
        Judgement(name, TEXTURE, mine.nps.mean_frequency_per_mm / its_input.nps.mean_frequency_per_mm),
        Judgement(name, EDGE_SHARPNESS, _mtf50_change_percent(mine, its_input, EDGE_CONTRAST_HU)),
        Judgement(name, SHARPNESS, _mtf50_change_percent(mine, its_input, VESSEL_CONTRAST_HU)),
        Judgement(name, LESIONS, _detectability_kept(mine, its_input)),
    ]


def _mtf50_change_percent(mine: BenchResult, its_input: BenchResult, contrast_hu: float) -> float:
    """NaN where the rod drowned in noise."""
    after, before = mine.ttf.get(contrast_hu), its_input.ttf.get(contrast_hu)
    return 100 * (after.f50_per_mm / before.f50_per_mm - 1) if after and before else float("nan")


def _detectability_kept(mine: BenchResult, its_input: BenchResult) -> float:
    """NaN where the lesion cannot be told from the noise of the input."""
    before = its_input.dprime
    return mine.dprime / before if before else float("nan")


def _largest_added_bias(mine: PatientRows, its_input: PatientRows) -> tuple[float, str]:
    """What the method adds to the absolute bias of the low-dose image, mean over patients, in the tissue where it adds
    most; and that tissue.

    Signs of one patient must not cancel those of another, and a bias that becomes smaller is none: it counts as 0 and
    makes up for no other patient's. The noise of the low dose gives it a bias by chance, which a method can add to or
    lessen: where that is larger than what a method adds to all patients, only half of the latter shows on average.
    Hence the mean over all slices of a patient is taken before the absolute value, and slices with little of a tissue
    have no bias at all (see :data:`~ctclip.metrics.tissue.MIN_PX`).
    """
    found = {}
    for measure in next(iter(mine.values()), {}):
        added_hu = [
            max(0.0, abs(row[measure]) - abs(its_input[patient][measure]))
            for patient, row in mine.items()
            if np.isfinite([row[measure], its_input[patient][measure]]).all()
        ]
        if tissue_of(measure) and added_hu:
            found[tissue_of(measure)] = float(np.mean(added_hu))
    where = max(found, key=found.__getitem__, default="")
    largest_hu = found.get(where, float("nan"))
    return largest_hu, where if largest_hu else ""
