"""An evaluation from Python: the same report as the command's, and nothing handed in is changed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctclip.data.pairs import find_pairs, of_patients, read_pair
from ctclip.errors import ConfigError, DataError
from ctclip.evaluation.bench import bench_methods
from ctclip.evaluation.methods import baseline, methods_of
from ctclip.evaluation.run import EvaluationSettings, evaluate_pairs
from ctclip.metrics.noise import volume_noise_sd_hu
from ctclip.phantom import body_phantom_hu, low_dose

NO_PHYSICS = EvaluationSettings(physics=False)


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    entries = []
    for number in range(2):
        full = low_dose(body_phantom_hu(1, 128), 10, seed=number)
        for dose, volume in (("full", full), ("low", low_dose(full, 30, seed=9 + number))):
            nib.save(nib.Nifti1Image(volume.T, np.diag([-0.7, -0.7, 3, 1])), tmp_path / f"{dose}{number}.nii.gz")
        entries.append({"low": f"low{number}.nii.gz", "full": f"full{number}.nii.gz", "patient": f"p{number}"})
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    return tmp_path / "pairs.json"


def test_a_report_from_pairs(listing: Path) -> None:
    pairs, _ = find_pairs(listing)
    methods = methods_of(models=["none"], strengths=[1.0], baselines=["median"], prediction=None)
    steps: list[tuple[str, float, float]] = []
    report = evaluate_pairs(
        pairs, methods, NO_PHYSICS, problems=["known before"], progress=lambda *step: steps.append(step)
    )
    assert report.method_names == ["identity", "median"]
    assert report.problems == ["known before"]
    assert report.settings == {"windows": "[-160,240] HU, [-1024,3072] HU", "seed": "0", "legacy": "False"}
    assert (len(report.slices), len(report.panels), report.nps) == (4, 2, [])
    assert math.isnan(report.phantom_noise_hu)
    assert steps[-1] == ("measured", 4, 4)


def test_settings_are_shown_as_stated_with_a_word_on_the_phantom(listing: Path) -> None:
    pairs, _ = find_pairs(listing)
    stated = {"windows": "soft"}
    steps: list[tuple[str, float, float]] = []
    report = evaluate_pairs(
        pairs[:1],
        [baseline("identity")],
        EvaluationSettings(),
        stated=stated,
        phantom_progress=lambda *step: steps.append(step),
    )
    assert list(report.settings) == ["windows", "physics"]
    stated_hu = volume_noise_sd_hu(read_pair(pairs[0]).low_hu)
    assert report.settings["physics"].startswith(f"phantom with {stated_hu:.1f} HU of noise")
    assert "20th percentile of the local SD in soft tissue, as ctclip inspect measures it" in report.settings["physics"]
    (identity,) = [row.mean for row in report.summary if row.measure.metric == "noise_sd_hu"]
    assert identity < stated_hu, "the root mean square of what lies below the percentile"
    assert stated == {"windows": "soft"}
    assert steps == [("phantom identity", 0, 1), ("phantom identity", 1, 1)]
    assert [curve.method for curve in report.nps] == ["identity"]
    assert report.phantom_noise_hu == stated_hu


def test_methods_without_the_identity_say_what_is_missing(listing: Path) -> None:
    report = evaluate_pairs(find_pairs(listing)[0], [baseline("median")], NO_PHYSICS)
    (problem,) = report.problems
    assert "comparisons and acceptance left out, but for the change of noise: no method is called 'identity'" in problem
    assert report.comparisons == []
    assert {row.criterion: math.isnan(row.value) for row in report.acceptance} == {
        "noise change": False,
        "largest bias by tissue": True,
    }


def test_strengths_are_shares() -> None:
    with pytest.raises(ConfigError, match="strength must be low, medium, high or a number from 0 to 1, found 2.0"):
        methods_of(models=["ct-compact"], strengths=[2.0], baselines=[], prediction=None)


def test_nothing_to_measure_is_an_error(listing: Path) -> None:
    with pytest.raises(DataError, match="nothing could be measured: there are no pairs"):
        evaluate_pairs([], [baseline("identity")], NO_PHYSICS)


@pytest.mark.parametrize(
    ("noise_sd_hu", "remark", "problems"),
    [(math.nan, "no scan holds enough soft tissue", 0), (0.0, "the low-dose scans hold no noise", 1)],
)
def test_without_noise_there_is_no_phantom(noise_sd_hu: float, remark: str, problems: int) -> None:
    bench = bench_methods([baseline("identity")], noise_sd_hu)
    assert bench.results == {}
    assert remark in bench.remark
    assert len(bench.problems) == problems


def test_patients_are_chosen_by_name_or_hash(listing: Path) -> None:
    pairs, _ = find_pairs(listing)
    assert of_patients(pairs, []) == pairs
    assert of_patients(pairs, ["p1"]) == of_patients(pairs, [pairs[1].patient]) == [pairs[1]]
    with pytest.raises(DataError, match="1 of 2 names are not among the 2 patients"):
        of_patients(pairs, ["p1", "p7"])
