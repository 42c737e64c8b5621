from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ctclip.evaluation.measures import windowed
from ctclip.evaluation.statistics import Interval, compare, interval, patient_means
from ctclip.report.content import Measure

PSNR = windowed("psnr_db", (-160.0, 240.0))


def test_every_patient_counts_once_however_many_slices_it_has() -> None:
    slices = [("a", {PSNR: 30.0})] * 9 + [("b", {PSNR: 20.0})]
    means = patient_means(slices)
    assert means == {"a": {PSNR: 30.0}, "b": {PSNR: 20.0}}
    assert interval([row[PSNR] for row in means.values()]).mean == 25.0


def test_missing_values_are_left_out_and_nothing_at_all_is_nan() -> None:
    bias = Measure("bias_hu lung", "HU")
    means = patient_means([("a", {bias: np.nan}), ("a", {bias: 2.0}), ("b", {bias: np.nan})])
    assert means["a"][bias] == 2.0
    assert np.isnan(means["b"][bias])


@pytest.mark.parametrize("patients", [3, 10])
def test_the_interval_covers_the_mean_as_often_as_it_says(patients: int) -> None:
    samples = np.random.default_rng(0).normal(30, 2, (4000, patients))
    found = [interval(sample) for sample in samples.tolist()]
    covered = np.mean([each.low <= 30 <= each.high for each in found])
    assert covered == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / len(samples)))


def test_the_interval_is_students() -> None:
    """Of three patients, half of it is 4.30265 (t with 2 degrees of freedom, from tables) standard errors."""
    found = interval([1.0, np.nan, 2.0, 3.0])
    assert (found.mean, found.sd) == pytest.approx((2, 1))
    assert (2 - found.low, found.high - 2) == pytest.approx((4.30265 / np.sqrt(3),) * 2, rel=1e-5)


@pytest.mark.parametrize(("patients", "smallest"), [(2, np.nan), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_few_patients_cannot_have_a_small_p_value(patients: int, smallest: float) -> None:
    better = {f"p{number}": 1 + 0.1 * number for number in range(patients)}
    assert compare(better, dict.fromkeys(better, 0.0)).p_value == pytest.approx(smallest, nan_ok=True)


def test_two_patients_give_no_interval() -> None:
    assert np.isnan(interval([1.0, 2.0]).low)
    assert interval([1.0, 2.0]).mean == 1.5


def test_the_spread_is_that_of_a_sample_and_equal_patients_have_none() -> None:
    assert interval([1.0, 2.0, 3.0, np.nan]).sd == pytest.approx(1)
    assert interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0, 0.0)


def test_patients_without_a_value_in_either_method_are_left_out() -> None:
    found = compare({"a": 3.0, "b": np.nan, "c": 4.0, "d": 5.0}, {"a": 1.0, "b": 1.0, "c": 2.0, "d": np.nan})
    assert (found.patients, found.interval.mean) == (2, 2.0)


def test_a_paired_comparison_sees_what_the_spread_of_patients_hides() -> None:
    patients = {f"p{i}": float(value) for i, value in enumerate(np.random.default_rng(1).normal(28, 3, 12))}
    better = {name: value + 0.5 + 0.01 * i for i, (name, value) in enumerate(patients.items())}
    found = compare(better, {**patients, "only here": 1.0})
    assert found.patients == 12
    assert found.interval.mean == pytest.approx(0.555)
    assert 0.5 < found.interval.low < found.interval.high < 0.62
    differences = np.array([better[name] - patients[name] for name in patients])
    assert found.p_value == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert compare(patients, patients).p_value == 1.0
