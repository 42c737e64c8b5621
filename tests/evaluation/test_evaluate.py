"""Pairs on disk in, figures out: methods whose effect is known must show it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctclip.data.pairs import ScanPair, find_pairs
from ctclip.evaluation.bench import bench_methods, run_bench
from ctclip.evaluation.evaluate import evaluate
from ctclip.evaluation.measures import measure_slices, windowed
from ctclip.evaluation.methods import Method, baseline, prediction_of
from ctclip.evaluation.summary import BIAS, EDGE_SHARPNESS, LESIONS, NOISE, SHARPNESS, TEXTURE, summarise
from ctclip.metrics.image import image_quality
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.report.content import Measure
from ctclip.units import MODEL_HU_WINDOW, SOFT_TISSUE_HU_WINDOW

SIZE = 192
FAINT_HU_PER_PX = 3
PSNR = windowed("psnr_db", SOFT_TISSUE_HU_WINDOW)


def _write(path: Path, volume_hu: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(np.rint(volume_hu).astype(np.int16).T, np.diag([-0.7, -0.7, 3, 1])), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients of two slices each: full dose with 10 HU of noise, low dose with 25 HU more."""
    folder = tmp_path_factory.mktemp("pairs")
    entries = []
    for number in range(4):
        full = low_dose(body_phantom_hu(2, SIZE), 10 + number, seed=number)
        _write(folder / f"full{number}.nii.gz", full)
        _write(folder / f"low{number}.nii.gz", low_dose(full, 25, seed=100 + number))
        entries.append({"low": f"low{number}.nii.gz", "full": f"full{number}.nii.gz", "patient": f"p{number}"})
    (folder / "pairs.json").write_text(json.dumps(entries))
    return folder


def _shift(volume_hu: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(volume_hu, (0, 0.7, 0.7)) + np.float32(20)


def test_identity_shift_and_filters_show_what_they_are(data: Path) -> None:
    pairs, problems = find_pairs(data / "pairs.json")
    assert problems == []
    methods = [baseline("identity"), Method("shift", "blur and +20 HU", _shift), baseline("nlm")]
    steps = []
    found = evaluate(pairs, methods, [SOFT_TISSUE_HU_WINDOW], progress=lambda *step: steps.append(step))
    assert found.problems == []
    assert len(found.slices) == 4 * 2 * 3
    assert steps[-1] == ("measured", 12, 12)
    assert list(found.panels[0].outputs_hu) == ["shift", "nlm"]
    summary = summarise(found, {})
    bias = summary.means["shift"][Measure("bias_hu soft tissue", "HU")]
    assert bias.mean == pytest.approx(20, abs=0.5)
    assert abs(summary.means["identity"][Measure("bias_hu soft tissue", "HU")].mean) < 0.5
    judged = {(each.method, each.criterion.name): each for each in summary.judgements}
    assert judged["shift", BIAS.name].value == pytest.approx(20, abs=1)
    assert not judged["shift", BIAS.name].passed
    assert not judged["nlm", NOISE.name].passed, "non-local means takes more than half of the noise"
    assert summary.means["nlm"][PSNR].mean > summary.means["identity"][PSNR].mean + 2
    better = {(m, column): difference for m, other, column, difference in summary.differences if other == "identity"}
    assert better["nlm", PSNR].interval.low > 0
    assert better["nlm", PSNR].patients == 4


def test_results_that_cannot_be_measured_are_listed_and_the_others_counted(data: Path) -> None:
    def to_nan(volume_hu: np.ndarray) -> np.ndarray:
        return np.where(volume_hu > 0, np.nan, volume_hu)

    pairs, _ = find_pairs(data / "pairs.json")
    wrong = [
        Method("crop", "loses a column", lambda volume_hu: volume_hu[..., 1:]),
        Method("nan", "no numbers", to_nan),
    ]
    methods = [baseline("identity"), *wrong, Method("shift", "blur and +20 HU", _shift)]
    found = evaluate(pairs[:1], methods, [SOFT_TISSUE_HU_WINDOW])
    assert [each.method for each in found.slices] == ["identity"] * 2 + ["shift"] * 2
    crop, nan = found.problems
    assert f"crop left out: the result has shape (2, {SIZE}, {SIZE - 1}), expected that of the volume" in crop
    assert re.search("nan left out: [0-9]+ processed pixels are not finite", nan)
    assert list(found.panels[0].outputs_hu) == ["shift"]
    bench = bench_methods(wrong, 25.0)
    assert bench.results == {}
    assert [problem.split(":")[0] for problem in bench.problems] == [
        f"phantom, {name} left out" for name in ("crop", "nan")
    ]


def test_input_and_reference_are_shown_as_they_are_and_noise_is_that_of_the_low_dose(data: Path) -> None:
    pairs, _ = find_pairs(data / "pairs.json")
    methods = [
        baseline("identity"),
        *(Method(name, "20 HU more", lambda hu: hu + 20) for name in ("input", "reference")),
    ]
    found = evaluate(pairs, methods, [SOFT_TISSUE_HU_WINDOW], panels=2)
    assert [panel.scan for panel in found.panels] == [pair.name for pair in pairs[:2]]
    for pair, panel in zip(pairs, found.panels, strict=False):
        for shown_hu, paths in ((panel.input_hu, pair.low), (panel.reference_hu, pair.full)):
            stored = np.asarray(nib.load(paths[0]).dataobj).T
            np.testing.assert_array_equal(shown_hu, stored[int(panel.slice_label.split()[1]) - 1])
    assert found.noise_sd_hu == pytest.approx(np.hypot(25, 11.5), rel=0.15)


def test_patients_are_averaged_before_their_mean(data: Path) -> None:
    pairs, _ = find_pairs(data / "pairs.json")
    found = evaluate(pairs, [baseline("identity")], [SOFT_TISSUE_HU_WINDOW])
    summary = summarise(found, {})
    by_hand = []
    for pair in pairs:
        low, full = (np.asarray(nib.load(paths[0]).dataobj).T.astype(np.float32) for paths in (pair.low, pair.full))
        by_hand.append(image_quality(low, full, SOFT_TISSUE_HU_WINDOW)["psnr_db"])
    assert summary.means["identity"][PSNR].mean == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert len(summary.patients["identity"]) == 4


def test_an_eraser_of_lesions_gains_psnr_and_is_found_out(data: Path) -> None:
    def erase(volume_hu: np.ndarray) -> np.ndarray:
        slope = ndimage.gaussian_filter(volume_hu, (0, 3, 3), order=(0, 1, 0)) ** 2
        slope += ndimage.gaussian_filter(volume_hu, (0, 3, 3), order=(0, 0, 1)) ** 2
        flat = slope < FAINT_HU_PER_PX**2
        return np.where(flat, ndimage.median_filter(volume_hu, (1, 9, 9)), volume_hu).astype(np.float32)

    pairs, _ = find_pairs(data / "pairs.json")
    methods = [baseline("identity"), Method("eraser", "smooths all faint detail", erase)]
    found = evaluate(pairs, methods, [SOFT_TISSUE_HU_WINDOW])
    bench = {method.name: run_bench(method.denoise, 25.0) for method in methods if method.denoise}
    summary = summarise(found, bench)
    psnr = [summary.means[name][PSNR].mean for name in ("identity", "eraser")]
    assert psnr[1] > psnr[0] + 0.4
    judged = {each.criterion.name: each for each in summary.judgements if each.method == "eraser"}
    assert judged[LESIONS.name].value < 0.85
    assert not judged[LESIONS.name].passed
    assert not judged[TEXTURE.name].passed
    assert judged[EDGE_SHARPNESS.name].passed
    assert SHARPNESS.name in judged


def test_results_of_another_tool_are_judged_alike_and_missing_ones_reported(data: Path, tmp_path: Path) -> None:
    pairs, _ = find_pairs(data / "pairs.json")
    results = tmp_path / "results"
    results.mkdir()
    for number in range(3):
        low = np.asarray(nib.load(data / f"low{number}.nii.gz").dataobj).T
        _write(results / f"low{number}.nii.gz", low + 5)
    found = evaluate(pairs, [baseline("identity"), prediction_of(results)], [SOFT_TISSUE_HU_WINDOW])
    summary = summarise(found, {})
    ((_, _, _, added),) = [each for each in summary.differences if each[2] == Measure("bias_hu soft tissue", "HU")]
    assert added.interval.mean == pytest.approx(5, abs=1e-3)
    assert added.patients == 3
    assert {name: counts[PSNR] for name, counts in summary.counts.items()} == {"identity": (4, 8), "prediction": (3, 6)}
    (problem,) = found.problems
    assert "low3.nii.gz" in problem or "expected one prediction" in problem


def _pairs_of(folder: Path, *scans: tuple[np.ndarray, np.ndarray]) -> list[ScanPair]:
    """Low and full dose of each, in files."""
    for number, (low, full) in enumerate(scans):
        _write(folder / f"low{number}.nii.gz", low)
        _write(folder / f"full{number}.nii.gz", full)
    entries = [{"low": f"low{number}.nii.gz", "full": f"full{number}.nii.gz"} for number in range(len(scans))]
    (folder / "pairs.json").write_text(json.dumps(entries))
    return find_pairs(folder / "pairs.json")[0]


def test_scans_that_are_not_both_in_hu_are_left_out_though_they_reach_below_0(tmp_path: Path) -> None:
    """Values without their intercept do so by noise, and by padding; with it twice they do anyway."""
    full = low_dose(body_phantom_hu(1, SIZE), 10, seed=1)
    low = low_dose(full, 25, seed=2)
    assert (low + 1000).min() < 0
    padded = low + 1024
    padded[:, :8] = -2000
    scans = [(low + 1000, full), (padded, full), (low, full + 1024), (low - 1024, full), (low, full)]
    pairs = _pairs_of(tmp_path, *scans)
    found = evaluate(pairs, [baseline("identity")], [SOFT_TISSUE_HU_WINDOW])
    assert [each.scan for each in found.slices] == [pairs[4].name]
    offsets = []
    for pair, problem in zip(pairs, found.problems, strict=False):
        (offset,) = re.findall(
            f"^pair {pair.name} left out: inside the patient its low dose differs from the full dose by (.*) HU "
            r"\(median\), expected 100 HU at most: .* apply RescaleSlope and RescaleIntercept",
            problem,
        )
        offsets.append(float(offset))
    assert offsets == pytest.approx([1000, 1024, -1024, -1024], abs=2)


def test_air_does_not_decide_whether_scans_are_in_hu(tmp_path: Path) -> None:
    """Filled in one of the scans, or beside the body that is not in HU; lungs alone, with noise, are no patient."""
    full = low_dose(body_phantom_hu(1, SIZE), 10, seed=1)
    low = low_dose(full, 25, seed=2)
    air = ndimage.uniform_filter(full, (0, 9, 9)) < -800
    assert air.mean() > 0.5
    filled, body = np.where(air, 0, low), np.where(air, low, low + 1024)
    lung = low_dose(np.full_like(full, -850), 20, seed=3)
    noisy_lung = low_dose(lung, 200, seed=4)
    pairs = _pairs_of(tmp_path, (filled, full), (low, np.where(air, 0, full)), (noisy_lung, lung), (body, full))
    found = evaluate(pairs, [baseline("identity")], [MODEL_HU_WINDOW])
    assert [each.scan for each in found.slices] == [pair.name for pair in pairs[:3]]
    (problem,) = found.problems
    assert re.search(r"by \+102[2-6] HU", problem)


def test_predictions_that_are_not_in_hu_are_left_out(data: Path, tmp_path: Path) -> None:
    pairs, _ = find_pairs(data / "pairs.json")
    low = np.asarray(nib.load(data / "low0.nii.gz").dataobj).T
    _write(tmp_path / "low0.nii.gz", low + 1000)
    methods = [baseline("identity"), prediction_of(tmp_path)]
    found = evaluate(pairs[:1], methods, [SOFT_TISSUE_HU_WINDOW])
    assert {each.method for each in found.slices} == {"identity"}
    (problem,) = found.problems
    assert "prediction left out: inside the patient the prediction differs from the full dose by +1" in problem


def test_a_result_that_equals_the_full_dose_is_no_result(data: Path, tmp_path: Path) -> None:
    """Its PSNR would be infinite, if only in one slice."""
    pairs, _ = find_pairs(data / "pairs.json")
    low, full = (np.asarray(nib.load(data / f"{dose}0.nii.gz").dataobj).T for dose in ("low", "full"))
    for name, result in (("all", full), ("one", np.stack([low[0], full[1]])), ("window", full - 1000 * (full < -500))):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "low0.nii.gz", result)
    methods = [
        baseline("identity"),
        *(replace(prediction_of(tmp_path / name), name=name) for name in ("all", "one", "window")),
    ]
    found = evaluate(pairs[:1], methods, [SOFT_TISSUE_HU_WINDOW])
    assert {each.method for each in found.slices} == {"identity"}
    counts = [
        re.findall("(.*) left out: its result equals the full dose .* in ([12]) of 2 slices", problem.split(", ", 1)[1])
        for problem in found.problems
    ]
    assert counts == [[("all", "2")], [("one", "1")], [("window", "2")]]
    assert np.isfinite([row[PSNR] for _, row in found.of_method("identity")]).all()


def test_slices_that_show_nothing_in_a_window_are_no_part_of_its_figures() -> None:
    body = low_dose(body_phantom_hu(1, SIZE), 10, seed=1)
    air = low_dose(np.full_like(body, -1000), 10, seed=2)
    full = np.concatenate([body, air, body])
    low = low_dose(full, 20, seed=3)
    low[2] = full[2]
    rows = measure_slices(low, low, full, [SOFT_TISSUE_HU_WINDOW, MODEL_HU_WINDOW], legacy=True)
    in_soft_tissue, in_all = (
        [row[windowed("psnr_db", window)] for row in rows] for window in (SOFT_TISSUE_HU_WINDOW, MODEL_HU_WINDOW)
    )
    np.testing.assert_array_equal(np.isnan(in_soft_tissue), [False, True, True])
    np.testing.assert_array_equal(np.isnan(in_all), [False, False, True])
    np.testing.assert_array_equal(
        [np.isnan(row[windowed("ssim", MODEL_HU_WINDOW, legacy=True)]) for row in rows], [False, False, True]
    )
    assert np.isfinite(in_soft_tissue[0])


def test_half_of_the_noise_is_about_minus_50_percent_and_bias_is_that_to_the_full_dose() -> None:
    clean = body_phantom_hu(1, SIZE)
    low = low_dose(clean, 20, seed=3)
    output = (low + clean) / 2
    (row,) = measure_slices(output, low, clean - 7, [MODEL_HU_WINDOW])
    (unchanged,) = measure_slices(low, low, clean - 7, [MODEL_HU_WINDOW])
    noise, change = Measure("noise_sd_hu", "HU"), Measure("noise_change_percent", "%")
    assert (row[change], unchanged[change]) == pytest.approx((-50, 0), abs=5)
    assert row[noise] == pytest.approx(unchanged[noise] * (1 + row[change] / 100))
    assert row[Measure("bias_hu soft tissue", "HU")] == pytest.approx(7, abs=0.3)


def test_without_noise_its_change_is_not_a_number() -> None:
    clean = np.full((1, SIZE, SIZE), 47.3, np.float32)
    clean[:, -20:] = 11.9
    clean[:, :20, :20] = -1000  # rounding leaves a variance beside other values
    (row,) = measure_slices(clean + 1, clean, clean + 5, [MODEL_HU_WINDOW])
    assert np.isnan(row[Measure("noise_change_percent", "%")])
    assert row[Measure("noise_sd_hu", "HU")] == pytest.approx(0, abs=1e-3)


def test_anatomy_in_what_was_removed_is_seen_against_the_full_dose() -> None:
    full = low_dose(body_phantom_hu(1, SIZE), 5, seed=1)
    low = low_dose(full, 20, seed=3)
    structure = Measure("residual_structure", "")
    blurred = ndimage.gaussian_filter(low, (0, 1.5, 1.5))
    (blur,), (ideal,) = (measure_slices(output, low, full, [MODEL_HU_WINDOW]) for output in (blurred, full))
    assert abs(ideal[structure]) < 0.1 < 0.3 < blur[structure]


def test_legacy_is_the_published_conventions_error_scaled_by_4120_over_4096() -> None:
    full = low_dose(body_phantom_hu(1, SIZE), 12, seed=1).clip(-1000, 2000)
    low = low_dose(full, 20, seed=2).clip(-1000, 2000)
    (row,) = measure_slices(low, low, full, [MODEL_HU_WINDOW], legacy=True)
    published = windowed("rmse_hu", MODEL_HU_WINDOW, legacy=True)
    plain = windowed("rmse_hu", MODEL_HU_WINDOW)
    assert row[published] == pytest.approx(row[plain] * 4120 / 4096, rel=1e-5)
    psnr = [row[windowed("psnr_db", MODEL_HU_WINDOW, legacy=legacy)] for legacy in (False, True)]
    assert psnr[1] - psnr[0] == pytest.approx(-0.051, abs=0.001)
    assert published.name == "rmse_hu legacy [-1024,3072] HU range 4096"
    assert plain.name == "rmse_hu [-1024,3072] HU range 4096"


def test_a_pair_that_cannot_be_used_does_not_stop_the_others(data: Path, tmp_path: Path) -> None:
    _write(tmp_path / "other.nii.gz", body_phantom_hu(3, 64))
    _write(tmp_path / "tiny.nii.gz", low_dose(body_phantom_hu(3, 64), 10)[:, 28:36])
    entries = json.loads((data / "pairs.json").read_text())
    entries = [{key: str(data / value) if key != "patient" else value for key, value in e.items()} for e in entries[:1]]
    entries.append({"low": entries[0]["low"], "full": str(tmp_path / "other.nii.gz"), "patient": "q"})
    entries.append({dose: str(tmp_path / "tiny.nii.gz") for dose in ("low", "full")})
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    pairs, _ = find_pairs(tmp_path / "pairs.json")
    found = evaluate(pairs, [baseline("identity")], [SOFT_TISSUE_HU_WINDOW])
    assert len(found.slices) == 2
    unequal, small = found.problems
    assert "left out: volumes of one pair differ in size" in unequal
    assert "left out: a slice of 8 x 64 is too small for SSIM" in small
