"""No command lets patient data into its output, its reports, its logs, or the names of files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VM
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.demo import write_ct_series
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.weights import save_checkpoint

MARK = "ZZMARK"

PATIENT_KEYWORDS = [
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "PatientComments",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
    "ImageComments",
    "RequestedProcedureDescription",
    "AdditionalPatientHistory",
    "Occupation",
    "MedicalRecordLocator",
    "RequestingPhysician",
    "PerformedProcedureStepDescription",
]


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A series with a mark in everything that may hold patient data, file names too."""
    folder = tmp_path / "export"
    write_ct_series(folder, low_dose(body_phantom_hu(3, 128), 30))
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        for keyword in PATIENT_KEYWORDS:
            several = dictionary_VM(keyword) != "1"
            setattr(dataset, keyword, [f"{MARK}A", f"{MARK}B"] if several else f"{MARK}{number}")
        dataset.PatientBirthDate = "19600307"
        dataset.private_block(0x0011, f"{MARK}", create=True).add_new(1, "LO", MARK)
        below = folder / f"{MARK}_folder"
        below.mkdir(exist_ok=True)
        dataset.save_as(below / f"{MARK}_{number}.dcm")
        path.unlink()
    (folder / f"{MARK}.txt").write_text(MARK)
    (folder / f"{MARK}.dcm").write_bytes(b"\0" * 128 + b"DICM" + MARK.encode() * 20)
    return folder


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pt"
    save_checkpoint(DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1, residual=True)), path)
    return path


def test_no_command_shows_patient_data(
    marked: Path, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    caplog.set_level(logging.DEBUG)
    out, model = tmp_path / "out", ["--model", str(tiny_model), "--device", "cpu"]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    whole = next((marked / f"{MARK}_folder").iterdir()).read_bytes()
    (damaged / f"{MARK}.dcm").write_bytes(whole[:-3000])
    commands = {
        "dry": ["denoise", marked, out / "dry", "--dry-run", "-v"],
        "denoise": ["denoise", marked, out / "denoised", "--report", out / "report.json", "--check", "-v", *model],
        "again": ["denoise", marked, out / "denoised", *model],
        "damaged": ["denoise", damaged, out / "damaged", "-v", *model],
        "strict": ["denoise", damaged, out / "strict", "--strict", "-v", *model],
        "inspect": ["inspect", marked],
        "inspect json": ["inspect", marked, "--json"],
        "inspect damaged": ["inspect", damaged],
        "simulate": ["simulate", marked, out / "low", "--dose", "0.25"],
        "evaluate": ["evaluate", out / "low" / "pairs.json", "--output", out / "evaluation", *model],
        "features": ["features", marked, "--output", out / "features", "--encoder", str(tiny_model)],
    }
    for name, command in commands.items():
        result = CliRunner().invoke(app, [str(part) for part in command])
        refused = name in ("again", "damaged", "strict")
        assert (result.exit_code == 1) == refused, f"{name}: {result.output}"
        assert MARK not in result.output, name
        assert "19600307" not in result.output, name
        assert MARK not in caplog.text, name
    (series,) = (path for path in (out / "denoised").iterdir() if path.is_dir())
    result = CliRunner().invoke(app, ["check", str(series), "--source", str(marked)])
    assert MARK not in result.output
    for path in [*out.rglob("*"), *temporary.rglob("*")]:
        assert MARK not in path.relative_to(tmp_path).as_posix()
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            assert MARK.encode() not in content, path
            assert MARK.encode("utf-16-le") not in content, path
            assert b"19600307" not in content, path
    assert not any(temporary.iterdir()), "nothing stays in the temporary folder"


def test_the_marks_are_really_there(marked: Path) -> None:
    dataset = pydicom.dcmread(next((marked / f"{MARK}_folder").iterdir()))
    held = [keyword for keyword in PATIENT_KEYWORDS if MARK in str(dataset[keyword].value)]
    assert held == PATIENT_KEYWORDS
    assert np.asarray(dataset.pixel_array).shape == (128, 128)
