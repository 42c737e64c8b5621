"""What measures come to, from numbers whose summary is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ctclip.evaluation.document import make_report
from ctclip.evaluation.evaluate import Evaluation
from ctclip.evaluation.methods import Method
from ctclip.evaluation.summary import BIAS, EDGE_SHARPNESS, LESIONS, NOISE, SHARPNESS, TEXTURE, summarise
from ctclip.report.content import IDENTITY, Measure, SliceRow

CHANGE, FAT, BONE = Measure("noise_change_percent", "%"), Measure("bias_hu fat", "HU"), Measure("bias_hu bone", "HU")


def evaluation(**methods: tuple[float, float, float]) -> Evaluation:
    """Three patients of one slice; the same change of noise, bias in fat and in bone for each."""
    return Evaluation(
        [
            SliceRow(name, f"p{patient}", f"scan{patient}", 0, dict(zip((CHANGE, FAT, BONE), values, strict=True)))
            for patient in range(3)
            for name, values in methods.items()
        ]
    )


def bench(frequency: float, f50_at_1000: float, f50_at_300: float, dprime: float) -> Any:
    sharpness = {1000.0: SimpleNamespace(f50_per_mm=f50_at_1000), 300.0: SimpleNamespace(f50_per_mm=f50_at_300)}
    nps = SimpleNamespace(mean_frequency_per_mm=frequency)
    return SimpleNamespace(nps=nps, ttf=sharpness, dprime=dprime)


MEASURED = evaluation(identity=(0, 1, 1), mine=(-40, 2, -3))
BENCH = {IDENTITY: bench(0.25, 0.5, 0.4, 2.0), "mine": bench(0.2, 0.45, 0.3, 1.9)}


def test_a_method_is_judged_against_its_input() -> None:
    judged = {each.criterion.name: each for each in summarise(MEASURED, BENCH).judgements}
    expected = {NOISE: -40, BIAS: 2, TEXTURE: 0.8, EDGE_SHARPNESS: -10, SHARPNESS: -25, LESIONS: 0.95}
    for criterion, value in expected.items():
        assert judged[criterion.name].value == pytest.approx(value), criterion.name
    assert {name for name, each in judged.items() if each.passed} == {NOISE.name, LESIONS.name}
    assert {name: each.place for name, each in judged.items() if each.place} == {BIAS.name: "bone"}


def test_without_the_bench_only_patients_count() -> None:
    for known in ({}, {IDENTITY: BENCH[IDENTITY]}, {"mine": BENCH["mine"]}):
        assert [each.criterion for each in summarise(MEASURED, known).judgements] == [NOISE, BIAS]


def test_what_cannot_be_measured_is_not_passed() -> None:
    blind = bench(0.25, 0.5, 0.4, 2.0)
    del blind.ttf[300.0]
    judged = {each.criterion.name: each for each in summarise(MEASURED, {**BENCH, "mine": blind}).judgements}
    assert np.isnan(judged[SHARPNESS.name].value)
    assert not judged[SHARPNESS.name].passed
    drowned = {IDENTITY: bench(0.25, 0.5, 0.4, 0.0), "mine": bench(0.2, 0.45, 0.3, 0.0)}
    judged = {each.criterion.name: each for each in summarise(MEASURED, drowned).judgements}
    assert np.isnan(judged[LESIONS.name].value)
    assert not judged[LESIONS.name].passed
    unknown = evaluation(identity=(0, 1, 1), mine=(np.nan, np.nan, np.nan))
    assert [each.passed for each in summarise(unknown, {}).judgements] == [False, False]


def test_differences_are_those_from_the_other_method() -> None:
    found = {(name, other, measure): each for name, other, measure, each in summarise(MEASURED, {}).differences}
    assert set(found) == {("mine", IDENTITY, measure) for measure in (CHANGE, FAT, BONE)}
    assert found["mine", IDENTITY, BONE].interval.mean == -4
    assert found["mine", IDENTITY, BONE].patients == 3


@pytest.mark.parametrize(
    ("of_input", "of_method", "expected", "place"),
    [
        pytest.param((0.1, 0.1, 0.1, 0.1), (6, -6, 6, -6), 5.9, "fat", id="signs of patients do not cancel"),
        pytest.param((4, 4, 4, 4), (0.01, 0.01, 0.01, 0.01), 0, "", id="a bias that is removed is none"),
        pytest.param((0, 0, 8, 8), (3, 3, 0, 0), 1.5, "fat", id="nor does it make up for another patient's"),
        pytest.param((-2, -2, -2, -2), (2.5, 2.5, 2.5, 2.5), 0.5, "fat", id="beyond that of the input"),
        pytest.param((1, np.nan, 1, 1), (2, 9, np.nan, 4), 2, "fat", id="patients without a value are left out"),
        pytest.param((np.nan,) * 4, (2,) * 4, np.nan, "", id="nothing known"),
    ],
)
def test_bias_adds_up_over_patients(
    of_input: tuple[float, ...], of_method: tuple[float, ...], expected: float, place: str
) -> None:
    slices = [
        SliceRow(name, f"p{number}", f"scan{number}", 0, {CHANGE: -40.0, FAT: bias, BONE: 0.0 * bias})
        for name, values in ((IDENTITY, of_input), ("mine", of_method))
        for number, bias in enumerate(values)
    ]
    _, bias = summarise(Evaluation(slices), {}).judgements
    assert (bias.value, bias.place) == (pytest.approx(expected, nan_ok=True), place)
    assert bias.passed == (expected <= 1)


def test_noise_of_slices_is_averaged_before_the_sign_is_taken_away() -> None:
    slices = [
        SliceRow(name, "p", "scan", index, {CHANGE: -40.0, FAT: bias})
        for name, values in ((IDENTITY, (0.0, 0.0)), ("mine", (3.0, -2.0)))
        for index, bias in enumerate(values)
    ]
    _, bias = summarise(Evaluation(slices), {}).judgements
    assert bias.value == 0.5


def test_bias_is_what_a_method_adds_where_it_has_results() -> None:
    """A copy of the input adds nothing, whatever the scans are like for which there is none."""
    bias_hu = {("p0", "a"): 1.0, ("p0", "b"): 9.0, ("p1", "c"): 31.0}

    def rows(method: str, scans: str) -> list[SliceRow]:
        return [
            SliceRow(method, patient, scan, 0, {CHANGE: 0.0, FAT: value})
            for (patient, scan), value in bias_hu.items()
            if scan in scans
        ]

    for scans, patients in (("a", 1), ("ab", 1), ("ac", 2)):
        summary = summarise(Evaluation(rows(IDENTITY, "abc") + rows("copy", scans)), {})
        judged = {each.criterion: each for each in summary.judgements}
        assert judged[BIAS].value == 0, scans
        assert judged[BIAS].passed
        ((_, _, _, found),) = [each for each in summary.differences if each[2] == FAT]
        assert (found.interval.mean, found.patients) == (0, patients)
    summary = summarise(Evaluation(rows(IDENTITY, "c") + rows("copy", "a")), {})
    assert [each.passed for each in summary.judgements] == [False, False], "nothing in common"


def test_patients_and_slices_are_those_that_have_a_value() -> None:
    values = {("p0", "a", 0): (1.0, 2.0), ("p0", "a", 1): (np.nan, 3.0), ("p1", "b", 0): (np.nan, 4.0)}
    slices = [
        SliceRow(IDENTITY, *place, {CHANGE: np.nan, FAT: fat, BONE: bone}) for place, (fat, bone) in values.items()
    ]
    summary = summarise(Evaluation(slices), {})
    assert summary.counts == {IDENTITY: {CHANGE: (0, 0), FAT: (1, 1), BONE: (2, 3)}}
    report = make_report(Evaluation(slices), summary, {}, [Method(IDENTITY, "nothing")], {})
    assert [(row.patients, row.slices) for row in report.summary] == [(0, 0), (1, 1), (2, 3)]
