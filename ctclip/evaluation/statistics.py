"""From slices to patients, from patients to means with intervals, and methods compared in pairs."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ctclip.evaluation.measures import Row

CONFIDENCE = 0.95

MIN_PATIENTS = 3
"""With two, the interval would reach six times as far to either side as they lie apart; it is left empty."""


@dataclass(frozen=True)
class Interval:
    """A mean with the limits of its 95 % confidence interval, NaN with fewer than three patients."""

    mean: float
    low: float
    high: float
    sd: float


@dataclass(frozen=True)
class Difference:
    """Mean difference of two methods over the same patients.

    Args:
        interval: of the differences.
        p_value: of Wilcoxon's signed-rank test, two-sided; NaN with fewer than three patients. It is exact for few of
            them and cannot be less than 2 / 2^patients: below .05 from six on.
        patients: how many.
    """

    interval: Interval
    p_value: float
    patients: int


def patient_means(slices: Iterable[tuple[str, Row]]) -> dict[str, Row]:
    """Mean over the slices of each patient.

    Neighbouring slices show the same anatomy and are no independent samples, so everything after this counts patients.

    Args:
        slices: patient and row of each slice; NaN values are left out.

    Returns:
        one row per patient, in the order of their first slice; NaN where no slice has a value.
    """
    by_patient: dict[str, list[Row]] = defaultdict(list)
    for patient, row in slices:
        by_patient[patient].append(row)
    return {
        patient: {measure: _mean([row[measure] for row in rows]) for measure in rows[0]}
        for patient, rows in by_patient.items()
    }


def interval(values: Sequence[float]) -> Interval:
    """Mean, SD and Student's t interval over patients.

    Of normal values it covers the mean in 95 % of all samples, however few the patients are. Resampling few finds too
    little spread (a percentile bootstrap over three patients covers it in 74 %).

    Args:
        values: one per patient; NaN ones are left out.
    """
    known = np.asarray([value for value in values if not np.isnan(value)])
    mean = _mean(known)
    if len(known) < MIN_PATIENTS or not np.isfinite(known).all():
        return Interval(mean, float("nan"), float("nan"), float("nan"))
    sd = float(known.std(ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * sd / math.sqrt(len(known))
    return Interval(mean, mean - half, mean + half, sd)


def compare(values: dict[str, float], others: dict[str, float]) -> Difference:
    """Paired comparison over the patients that both have.

    Args:
        values: of a method, by patient.
        others: of the method that it is compared with.
    """
    shared = [name for name in values if np.isfinite([values[name], others.get(name, np.nan)]).all()]
    differences = np.array([values[name] - others[name] for name in shared])
    p_value = float("nan")
    if len(shared) >= MIN_PATIENTS:
        p_value = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Difference(interval(differences.tolist()), p_value, len(shared))


def _mean(values: Sequence[float] | np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean over nothing, which is NaN as documented
        return float(np.nanmean(np.asarray(values, dtype=np.float64)))
