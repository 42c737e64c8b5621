"""No command lets patient data into its output, its reports, its logs, or the names of files."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VM
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.demo import write_ct_series
from ctclip.dicom.lenient import quiet_pydicom
from ctclip.phantom import body_phantom_hu, low_dose

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


EXIT_CODES = {
    **dict.fromkeys(("again", "damaged", "strict", "other", "missing", "text", "text as model"), 1),
    **dict.fromkeys(("wrong series", "matrix of a damaged one", "check of the source", "check of a text"), 1),
    **dict.fromkeys(("simulate damaged", "evaluate damaged", "inspect damaged"), 1),
    **dict.fromkeys(("target is a file", "target inside", "report inside"), 2),
}
"""Of the commands that are refused, and must say why without the patient."""


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
        dataset.ConvolutionKernel = MARK
        dataset.private_block(0x0011, f"{MARK}", create=True).add_new(1, "LO", MARK)
        below = folder / f"{MARK}_folder"
        below.mkdir(exist_ok=True)
        dataset.save_as(below / f"{MARK}_{number}.dcm")
        path.unlink()
    (folder / f"{MARK}.txt").write_text(MARK)
    (folder / f"{MARK}.dcm").write_bytes(b"\0" * 128 + b"DICM" + MARK.encode() * 20)
    return folder


def test_no_command_shows_patient_data(
    marked: Path, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    caplog.set_level(logging.DEBUG)
    # hardly anything of the network, whose weights are random: its bias is not the point
    out, model = tmp_path / "out", ["--model", str(tiny_model), "--device", "cpu", "--strength", "0.001"]
    (tmp_path / "model.pt").write_text(MARK)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    whole = next((marked / f"{MARK}_folder").iterdir()).read_bytes()
    (damaged / f"{MARK}.dcm").write_bytes(whole[:-3000])
    unnamed = _with_texts_for_uids(marked, tmp_path / f"{MARK} texts")
    other = tmp_path / "other"
    other.mkdir()
    magnetic = pydicom.dcmread(next((marked / f"{MARK}_folder").iterdir()))
    magnetic.Modality = MARK
    magnetic.save_as(other / f"{MARK}.dcm")
    archive = tmp_path / f"{MARK}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (marked / f"{MARK}_folder").iterdir():
            packed.write(path)
    caplog.clear()
    quality = ["--qc", out / "quality", "--report", out / "report of quality.json", "-v"]
    few = ["--dose", "1,0.5", "--noise", "white", "--slices", "1", "--seeds", "1", *model]
    # the list of pairs that simulate writes names the folder as the user does
    named = tmp_path / f"{MARK} export"
    named.symlink_to(marked, target_is_directory=True)
    commands = {
        "dry": ["denoise", named, out / "dry", "--dry-run", "-v"],
        "denoise": ["denoise", named, out / "denoised", "--report", out / "report.json", "--check", "-v", *model],
        "again": ["denoise", named, out / "denoised", *model],
        "damaged": ["denoise", damaged, out / "damaged", "-v", *model],
        "strict": ["denoise", damaged, out / "strict", "--strict", "-v", *model],
        "quality": ["denoise", named, out / "judged", *quality, *model],
        "zip": ["denoise", archive, out / "from zip", "--check", "--report", out / "zip.json", "-v", *model],
        "inspect zip": ["inspect", archive],
        "no uids": ["denoise", unnamed, out / "unnamed", "--check", "--report", out / "unnamed.json", "-v", *model],
        "inspect no uids": ["inspect", unnamed],
        "other": ["denoise", other, out / "other", "-v", *model],
        "missing": ["denoise", named / "nowhere", out / "missing", *model],
        "text": ["denoise", named / f"{MARK}.txt", out / "text", *model],
        "text as model": ["denoise", named, out / "text", "--model", tmp_path / "model.pt"],
        "wrong series": ["denoise", named, out / "text", "--series", "1.2.3", *model],
        "target is a file": ["denoise", named, tmp_path / "tiny.pt", *model],
        "target inside": ["denoise", named, named / "out", *model],
        "report inside": ["denoise", named, out / "x", "--report", named / "report.json", *model],
        "matrix": ["matrix", named, "--output", out / "matrix", *few],
        "matrix of a damaged one": ["matrix", damaged, "--output", out / "matrix2", *few],
        "check of the source": ["check", damaged],
        "check of a text": ["check", named / f"{MARK}.txt"],
        "simulate damaged": ["simulate", damaged, out / "low2", "--dose", "0.5"],
        "evaluate damaged": ["evaluate", damaged, "--output", out / "evaluation2", *model],
        "inspect": ["inspect", named],
        "inspect json": ["inspect", named, "--json"],
        "inspect damaged": ["inspect", damaged],
        "simulate": ["simulate", marked, out / "low", "--dose", "0.25"],
        "evaluate": ["evaluate", out / "low" / "pairs.json", "--output", out / "evaluation", *model],
        "features": ["features", named, "--output", out / "features", "--encoder", "ct-compact"],
    }
    for name, command in commands.items():
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == EXIT_CODES.get(name, 0), f"{name}: {result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), name
        assert MARK not in result.output, name
        assert "19600307" not in result.output, name
        assert MARK not in caplog.text, name
    (series,) = (path for path in (out / "denoised").iterdir() if path.is_dir())
    _spoil(next(series.iterdir()))
    for source in ([], ["--source", str(marked)], ["--source", str(damaged)], ["--source", str(archive)]):
        result = CliRunner().invoke(app, ["check", str(series), *source])
        assert result.exit_code == 1
        assert MARK not in result.output
    assert len(list((out / "quality").iterdir())) == 2
    for path in [*out.rglob("*"), *temporary.rglob("*")]:
        assert MARK not in path.relative_to(tmp_path).as_posix()
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            assert MARK.encode() not in content, path
            assert MARK.encode("utf-16-le") not in content, path
            assert b"19600307" not in content, path
    assert not any(temporary.iterdir()), "nothing stays in the temporary folder"


def _with_texts_for_uids(export: Path, folder: Path) -> Path:
    """The same with names where the UIDs should be: de-identification gone wrong."""
    folder.mkdir()
    with quiet_pydicom():
        for number, path in enumerate(sorted((export / f"{MARK}_folder").iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"{MARK}^series", f"{MARK}^study"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{MARK}^{number}"
            dataset.save_as(folder / path.name)
    return folder


def _spoil(path: Path) -> None:
    """Values that dciodvfy quotes."""
    with quiet_pydicom():
        dataset = pydicom.dcmread(path)
        dataset.AccessionNumber = MARK * 10
        dataset.PatientSex = MARK
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{MARK}^1"
        dataset.save_as(path)


def test_the_marks_are_really_there(marked: Path) -> None:
    dataset = pydicom.dcmread(next((marked / f"{MARK}_folder").iterdir()))
    held = [keyword for keyword in PATIENT_KEYWORDS if MARK in str(dataset[keyword].value)]
    assert held == PATIENT_KEYWORDS
    assert np.asarray(dataset.pixel_array).shape == (128, 128)
