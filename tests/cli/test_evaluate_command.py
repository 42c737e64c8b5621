"""The command on every layout, with known answers: the truth is a phantom, the methods have known effects."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.report import REPORT_FILES
from tests.data.test_pairs import LAYOUTS
from tests.dicom.fake import PATIENT, fake_slice, write

SIZE, SLICES = 128, 3
LOW_SD_HU, FULL_SD_HU = 40, 10
QUICK = ("--model", "none", "--baseline", "median", "--no-physics", "--quiet")
COLUMN = "psnr_db [-160,240] HU range 400"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def _series(folder: Path, volume_hu: np.ndarray, uid: str, **overrides: object) -> None:
    """Slices under shuffled names, in another order in every folder."""
    names = np.random.default_rng(len(uid)).permutation(len(volume_hu))
    for index, (name, slice_hu) in enumerate(zip(names, volume_hu, strict=True)):
        pixels = np.clip(np.rint(slice_hu + 1024), 0, 4095).astype(np.int16)
        ds = fake_slice(2.0 * index, index + 1, series=uid, pixels=pixels, **overrides)
        write(ds, folder / f"{name:03d}.IMA")


def _volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Low and full dose of a patient, as they are stored."""
    full = low_dose(body_phantom_hu(SLICES, SIZE), FULL_SD_HU, seed=seed).round().clip(-1024)
    return low_dose(full, LOW_SD_HU, seed=100 + seed).round().clip(-1024), full


def _tree(root: Path, layout: str, patients: int = 2) -> dict[str, float]:
    """A data set; returns the PSNR of each patient's low dose, by scikit-image."""
    truth = {}
    for number in range(patients):
        low, full = _volumes(number)
        places = [place.replace("L506", f"L{number:03d}") for place in LAYOUTS[layout]]
        _series(root / places[0], low, f"1.2.{number}.1", PatientID=f"SECRET-{number}")
        _series(root / places[1], full, f"1.2.{number}.10", PatientID=f"SECRET-{number}")
        windowed = [volume.clip(-160, 240) for volume in (full, low)]
        truth[f"L{number:03d}"] = np.mean(
            [peak_signal_noise_ratio(f, x, data_range=400) for f, x in zip(*windowed, strict=True)]
        )
    return truth


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("layout", ["mayo2016", "mayo2016 archive", "tcia"])
def test_a_data_set_evaluates_end_to_end(layout: str, tmp_path: Path) -> None:
    truth = _tree(tmp_path / "data", layout)
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.html", "results.json", "summary.csv", "patients.csv", "slices.csv"}
    identity = [float(r[COLUMN]) for r in _rows(tmp_path / "out" / "patients.csv") if r["method"] == "identity"]
    assert sorted(identity) == pytest.approx(sorted(truth.values()), abs=1e-4)
    summary = _rows(tmp_path / "out" / "summary.csv")
    mean = next(
        r for r in summary if (r["method"], r["metric"], r["data_range_hu"]) == ("identity", "psnr_db", "400.0")
    )
    assert float(mean["mean"]) == pytest.approx(np.mean(list(truth.values())), abs=1e-4)
    assert (mean["patients"], mean["slices"]) == ("2", str(2 * SLICES))
    everything = "".join(path.read_text() for path in (tmp_path / "out").iterdir()) + result.output
    for secret in (PATIENT.split("^")[0], "19600102", "A-9", "SECRET", "L000", str(tmp_path)):
        assert secret not in everything


def test_a_list_of_volumes_evaluates_with_a_model_and_the_phantom(tmp_path: Path) -> None:
    from ctclip.data.volumes import Volume, write_volume

    for dose, volume in zip(("low", "full"), _volumes(0), strict=True):
        write_volume(tmp_path / f"{dose}.nii.gz", Volume(volume, np.diag([-0.7, -0.7, 3, 1]), np.dtype(np.int16)))
    (tmp_path / "pairs.csv").write_text("low,full,patient\nlow.nii.gz,full.nii.gz,somebody\n")
    options = ("--strength", "0.5", "--strength", "1", "--baseline", "identity", "--quiet")
    result = _run(tmp_path / "pairs.csv", "--output", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["name"] for each in content["methods"]] == ["identity", "ct-compact strength 0.5", "ct-compact"]
    assert len(content["methods"][2]["sha256"]) == 64
    noise = {row["method"]: row["value"] for row in content["acceptance"] if row["criterion"] == "noise change"}
    assert noise["ct-compact"] < noise["ct-compact strength 0.5"] < -20
    assert len(content["nps"]) == 3
    assert "somebody" not in json.dumps(content)


def test_a_missing_slice_and_a_wrong_kernel_are_reported_and_the_rest_is_judged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _tree(data, "mayo2016", patients=3)
    next((data / "L000/quarter_1mm").iterdir()).unlink()
    _series(data / "L001/full_1mm", _volumes(1)[1], "1.2.1.10", PatientID="SECRET-1", ConvolutionKernel="D45f")
    result = _run(data, "--output", tmp_path / "out", *QUICK)
    assert result.exit_code == 3, result.output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    problems = " ".join(content["problems"])
    assert "0 low-dose and 1 full-dose slices have no partner" in problems
    assert "ConvolutionKernel Br38f/3 and D45f" in problems
    identity = next(row for row in content["summary"] if row["method"] == "identity")
    assert (identity["patients"], identity["slices"]) == (2, 2 * SLICES - 1)


def test_results_of_another_tool_are_judged_alike(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _tree(data, "mayo2016")
    for number in range(2):
        _series(tmp_path / f"theirs/{number}", _volumes(number)[0] + 20, f"1.9.{number}", PatientID=f"SECRET-{number}")
    result = _run(data, "--output", tmp_path / "out", "--prediction", tmp_path / "theirs", *QUICK)
    assert result.exit_code == 0, result.output
    summary = _rows(tmp_path / "out" / "summary.csv")
    bias = {row["method"]: float(row["mean"]) for row in summary if row["metric"] == "bias_hu soft tissue"}
    assert bias["prediction"] - bias["identity"] == pytest.approx(20, abs=0.1)


def test_means_over_different_patients_stand_beside_their_numbers(tmp_path: Path) -> None:
    """Results for one of two patients, equal to the input: they add no bias, and their PSNR is no better."""
    data = tmp_path / "data"
    truth = _tree(data, "mayo2016")
    _series(tmp_path / "theirs", _volumes(1)[0], "1.9.1", PatientID="SECRET-1")
    options = ("--model", "none", "--baseline", "identity", "--no-physics")
    result = _run(data, "--output", tmp_path / "out", "--prediction", tmp_path / "theirs", *options)
    assert result.exit_code == 3, result.output
    rows = [re.split(r"\s*[│|]\s*", line.strip("│| ")) for line in result.output.splitlines()]
    shown = {row[0]: row[1:3] for row in rows if row[0] in ("identity", "prediction")}
    both = sum(truth.values()) / 2
    assert shown == {"identity": ["2", f"{both:.2f}"], "prediction": ["1", f"{truth['L001']:.2f}"]}
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["criterion"]: row["value"] for row in content["acceptance"]}["largest bias by tissue"] == 0
    assert 'class="best"' not in (tmp_path / "out" / "report.html").read_text()


def test_one_patient_is_chosen_by_folder(tmp_path: Path) -> None:
    truth = _tree(tmp_path / "data", "tcia")
    result = _run(tmp_path / "data", "--output", tmp_path / "out", "--patients", "L001", *QUICK)
    assert result.exit_code == 0, result.output
    rows = [row for row in _rows(tmp_path / "out" / "patients.csv") if row["method"] == "identity"]
    assert [float(row[COLUMN]) for row in rows] == pytest.approx([truth["L001"]], abs=1e-4)


def test_without_noise_in_the_data_physics_is_left_out_by_name(tmp_path: Path) -> None:
    clean = np.full((SLICES, SIZE, SIZE), 50)
    clean[:, :16], clean[:, -16:] = -1000, 20
    _series(tmp_path / "data/L000/quarter_1mm", clean, "1.2.1")
    _series(tmp_path / "data/L000/full_1mm", clean + 5, "1.2.10")
    options = ("--model", "none", "--baseline", "identity", "--quiet")
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *options)
    assert result.exit_code == 3, result.output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    (problem,) = content["problems"]
    assert "physics left out: the low-dose scans hold no noise" in problem
    assert content["nps"] == []


def test_a_pair_without_image_quality_is_a_problem(tmp_path: Path) -> None:
    _tree(tmp_path / "data", "mayo2016", patients=2)
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *QUICK, "--windows", "5000,10")
    assert result.exit_code == 3, result.output
    problems = json.loads((tmp_path / "out" / "results.json").read_text())["problems"]
    assert len(problems) == 2, problems
    assert "[4995,5005]" in problems[0]
    assert all("no image quality" in each for each in problems)


def test_a_pair_of_equal_scans_is_left_out_of_everything(tmp_path: Path) -> None:
    truth = _tree(tmp_path / "data", "mayo2016", patients=2)
    shutil.rmtree(tmp_path / "data/L001/full_1mm")
    shutil.copytree(tmp_path / "data/L001/quarter_1mm", tmp_path / "data/L001/full_1mm")
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *QUICK)
    assert result.exit_code == 3, result.output
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    (problem,) = content["problems"]
    assert "left out: its low dose equals its full dose" in problem
    assert {(row["patients"], row["slices"]) for row in content["summary"] if row["metric"] == "psnr_db"} == {
        (1, SLICES)
    }
    assert len({row["patient"] for row in content["patients"]}) == 1
    (mean,) = [
        row["mean"]
        for row in content["summary"]
        if (row["method"], row["metric"], row["data_range_hu"]) == ("identity", "psnr_db", 400)
    ]
    assert mean == pytest.approx(truth["L000"], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--windows", "liver"), "expected soft, lung, brain, bone, full or LEVEL,WIDTH"),
        (("--baseline", "wavelet"), "unknown baseline 'wavelet'"),
        (("--layout", "mayo"), "unknown layout 'mayo'"),
        (("--patients", "L999"), "1 of 1 names are not among the 1 patients"),
        (("--strength", "max"), "low, medium, high"),
        (("--strength", "0.5", "--strength", "0.50"), "--strength: found 0.5, 0.5, expected each once"),
        (("--model", "ct-huge"), "ct-huge"),
        (("--model", "none", "--no-physics", "--seed", "-1"), "Invalid value for '--seed'"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    _tree(tmp_path / "data", "mayo2016", patients=1)
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *options)
    assert result.exit_code in (1, 2), result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--layout", "mayo"), 2, "unknown layout 'mayo'"),
        (("--prediction", "empty"), 1, "--prediction empty: the folder is empty"),
    ],
)
def test_a_wrong_value_is_told_from_wrong_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _tree(tmp_path / "data", "mayo2016", patients=1)
    (tmp_path / "empty").mkdir()
    result = _run("data", "--output", "out", *QUICK, *options)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "typo", "--output", "out"],
        ["matrix", "typo", "--output", "out", "--model", "none"],
        ["simulate", "typo", "out", "--dose", "0.5"],
        ["simulate", "typo.nii.gz", "out.nii.gz", "--dose", "0.5"],
        ["denoise", "typo", "out"],
        ["denoise", "typo.nii.gz", "out.nii.gz"],
    ],
)
def test_a_missing_input_has_one_exit_code_in_all_commands(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    assert re.search("no such file|does not exist", " ".join(result.output.split()))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("command", ["evaluate", "matrix"])
def test_only_an_earlier_result_is_replaced(tmp_path: Path, command: str) -> None:
    """``--overwrite`` removes a folder: never one that holds anything else, such as the scans."""
    _tree(tmp_path / "data", "mayo2016", patients=1)
    before = sorted(path for path in tmp_path.rglob("*"))
    for output, message in (
        (tmp_path / "data", "inside the input"),
        (tmp_path / "data" / "new", "inside the input"),
        (tmp_path, "no earlier result"),
    ):
        arguments = [command, tmp_path / "data", "--output", output, "--overwrite", "--model", "none"]
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.split())
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    _tree(tmp_path / "data", "mayo2016", patients=1)
    (tmp_path / "out").mkdir()
    for options in ((), ("--overwrite",)):
        result = _run(tmp_path / "data", "--output", tmp_path / "out", *QUICK, *options)
        assert result.exit_code == 0, result.output
        assert {path.name for path in (tmp_path / "out").iterdir()} == set(REPORT_FILES)


def test_an_earlier_evaluation_is_not_replaced_unasked(tmp_path: Path) -> None:
    _tree(tmp_path / "data", "mayo2016", patients=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    result = _run(tmp_path / "data", "--output", tmp_path / "out", *QUICK)
    assert result.exit_code == 2
    assert (tmp_path / "out" / "report.html").read_text() == "mine"
    assert "--overwrite" in result.output
