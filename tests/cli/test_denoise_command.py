from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.demo import read_series_hu, save_picture, write_ct_series
from ctclip.phantom import body_phantom_hu, low_dose

NEW_AT_EVERY_RUN = (
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "InstanceCreationDate",
    "InstanceCreationTime",
)

HEAVY_MODULES = {"ignite", "matplotlib", "monai", "skimage"}
"""Not needed to denoise DICOM; MONAI alone takes two seconds to import."""


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write_ct_series(tmp_path / "in", low_dose(body_phantom_hu(3, 96), 30))
    return tmp_path / "in"


def _digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_an_export_becomes_a_derived_series(export: Path, tmp_path: Path) -> None:
    before = _digest(export)
    result = _run("denoise", export, tmp_path / "out", "--report", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert _digest(export) == before
    (series,) = (tmp_path / "out").iterdir()
    assert sorted(p.name for p in series.iterdir()) == ["0001.dcm", "0002.dcm", "0003.dcm"]
    noisy, denoised = read_series_hu(export), read_series_hu(series)
    assert noisy.shape == denoised.shape
    report = json.loads((tmp_path / "r.json").read_text())
    (row,) = report["series"]
    assert (row["status"], row["slices"], row["derived"]) == ("done", 3, series.name)
    assert row["noise_after_hu"] < 0.7 * row["noise_before_hu"]
    assert abs(row["shift_hu"]) < 2
    assert "Phantom" not in result.output + (tmp_path / "r.json").read_text().replace("body_phantom", "")


def test_an_earlier_result_in_the_export_is_left_out_and_changes_nothing(export: Path, tmp_path: Path) -> None:
    _run("denoise", export, tmp_path / "first")
    (first,) = (tmp_path / "first").iterdir()
    first.rename(export / "earlier")
    again = _run("denoise", export, tmp_path / "second")
    assert again.exit_code == 0, again.output
    assert f"series {first.name}: 3 slices, skip (denoised by ctclip already" in again.output.replace("\n", " ")
    (second,) = (tmp_path / "second").iterdir()
    assert second.name == first.name
    numbers = {pydicom.dcmread(path).SeriesNumber for path in [*second.iterdir(), *(export / "earlier").iterdir()]}
    assert numbers == {1002}
    asked = _run("denoise", export, tmp_path / "third", "--series", first.name, "-v")
    assert asked.exit_code == 0, asked.output
    assert "denoising it again takes more than its strength says" in asked.output.replace("\n", " ")


def test_guessed_padding_is_reported(export: Path, tmp_path: Path) -> None:
    for path in export.iterdir():
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array.copy()
        pixels[:3], pixels[-3:] = 0, 0
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(path)
    report = tmp_path / "r.json"
    assert _run("denoise", export, tmp_path / "out", "--report", report).exit_code == 0
    (row,) = json.loads(report.read_text())["series"]
    assert row["warnings"] == ["padding without PixelPaddingValue was guessed in 3 slices"]


def test_a_second_run_makes_the_same_files(export: Path, tmp_path: Path) -> None:
    _run("denoise", export, tmp_path / "a")
    _run("denoise", export, tmp_path / "b")
    first, second = (sorted((tmp_path / name).rglob("*.dcm")) for name in "ab")
    assert [p.relative_to(tmp_path / "a") for p in first] == [p.relative_to(tmp_path / "b") for p in second]
    for one, other in zip(first, second, strict=True):
        datasets = [pydicom.dcmread(path) for path in (one, other)]
        for dataset in datasets:
            for keyword in NEW_AT_EVERY_RUN:
                if keyword in dataset:
                    delattr(dataset, keyword)
            for item in dataset.ContributingEquipmentSequence:
                del item.ContributionDateTime
        assert datasets[0] == datasets[1]


def test_strength_zero_keeps_every_pixel(export: Path, tmp_path: Path) -> None:
    assert _run("denoise", export, tmp_path / "out", "--strength", "0").exit_code == 0
    (series,) = (tmp_path / "out").iterdir()
    assert np.array_equal(read_series_hu(series), read_series_hu(export))


def test_existing_output_is_kept_unless_asked(export: Path, tmp_path: Path) -> None:
    assert _run("denoise", export, tmp_path / "out").exit_code == 0
    refused = _run("denoise", export, tmp_path / "out")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    assert _run("denoise", export, tmp_path / "out", "--overwrite").exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_series_with_files_of_others_is_not_replaced(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = ["denoise", export, tmp_path / "out", "--model", tiny_model]
    assert _run(*command).exit_code == 0
    (series,) = (tmp_path / "out").iterdir()
    (series / "notes.txt").write_text("mine")
    (series / "0003.dcm").unlink()
    for option in ("--overwrite", "--resume"):
        result = _run(*command, option)
        assert result.exit_code == 1
        assert "holds 1 files or folders that are no earlier result" in result.output
        assert (series / "notes.txt").read_text() == "mine"
    (series / "notes.txt").rename(series / ".DS_Store")
    assert _run(*command, "--resume").exit_code == 0, "what a Mac leaves is nobody's"
    assert _run(*command, "--overwrite").exit_code == 0
    assert len(list(series.iterdir())) == 3


def test_one_bad_series_does_not_stop_the_others(export: Path, tmp_path: Path) -> None:
    write_ct_series(export / "second", low_dose(body_phantom_hu(2, 96), 30))
    for path in (export / "second").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID += ".9"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID + ".9"
        dataset.save_as(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 5000])
    result = _run("denoise", export, tmp_path / "out")
    assert result.exit_code == 3, result.output
    assert [len(list(series.iterdir())) for series in (tmp_path / "out").iterdir()] == [3]


def test_many_studies_in_one_call(tmp_path: Path) -> None:
    """Two studies with several series: the bad one is named, the report holds all, numbers do not collide."""
    volume = low_dose(body_phantom_hu(2, 64), 30)
    for study, number in ((1, 3), (1, 3), (2, 3), (2, 1003)):
        folder = tmp_path / "in" / f"study {study}" / f"{len(list((tmp_path).rglob('*')))}"
        write_ct_series(folder, volume)
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID = f"1.2.{study}"
            dataset.SeriesNumber, dataset.SeriesInstanceUID = number, f"1.2.{study}.{folder.name}"
            dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{path.stem.lstrip('0')}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
    path.write_bytes(path.read_bytes()[:-3000])
    (tmp_path / "in" / "notes.txt").write_text("hello")
    report, unchanged = tmp_path / "reports" / "new" / "r.json", ["--strength", "0"]
    result = _run("denoise", tmp_path / "in", tmp_path / "out", *unchanged, "--report", report)
    assert result.exit_code == 3, result.output
    assert "4 series: 3 done (6 slices), 0 kept, 1 failed" in " ".join(result.output.split())
    content = json.loads(report.read_text())
    assert [row["status"] for row in content["series"]] == ["done", "done", "done", "failed"]
    assert "PixelData holds" in content["series"][3]["message"]
    assert content["skipped_files"] == {"not DICOM": 1}
    written = {row["derived"] for row in content["series"] if row["status"] == "done"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    first = [pydicom.dcmread(tmp_path / "out" / name / "0001.dcm") for name in written]
    assert sorted((ds.StudyInstanceUID, ds.SeriesNumber) for ds in first) == [
        ("1.2.1", 1003),
        ("1.2.1", 1004),
        ("1.2.2", 1004),
    ]
    path.unlink()
    again = _run("denoise", tmp_path / "in", tmp_path / "out", *unchanged, "--resume", "--check", "--report", report)
    assert again.exit_code == 0, again.output
    assert [row["status"] for row in json.loads(report.read_text())["series"]] == ["kept", "kept", "kept", "done"]


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("empty", 1, "empty"),
        ("text", 1, "no axial CT series in the input; found 1 x not DICOM"),
        ("MR", 1, "found 3 x Modality MR"),
        ("target is a file", 2, "the output is a file"),
        ("report inside", 2, "--report lies inside the input"),
        ("quality inside", 2, "--qc lies inside the input"),
        ("report is a folder", 2, "--report is a folder"),
        ("quality is a file", 2, "--qc is a file"),
        ("link loop", 1, "does not exist"),
        ("no CT", 1, "no axial CT series"),
        ("missing", 1, "does not exist"),
        ("truncated", 1, "failed"),
        ("inside", 2, "inside the input"),
        ("same", 2, "inside the input"),
        ("model", 1, "unknown model"),
        ("damaged model", 1, "cannot be read"),
        ("series", 1, "not in the input"),
        ("no series", 2, "--series is empty"),
        ("pipe", 1, "is a pipe or a device"),
        ("batch", 2, "--batch"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(
    export: Path, tmp_path: Path, case: str, code: int, message: str
) -> None:
    source, target, options = export, tmp_path / "out", []
    if case in ("empty", "no CT"):
        source = tmp_path / "other"
        source.mkdir()
        if case == "no CT":
            (source / "readme.txt").write_text("hello")
    elif case == "text":
        source = tmp_path / "readme.txt"
        source.write_text("hello")
    elif case == "MR":
        for path in export.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.Modality = "MR"
            dataset.save_as(path)
    elif case == "target is a file":
        target = tmp_path / "file"
        target.write_text("mine")
    elif case in ("report inside", "quality inside"):
        options = ["--report", export / "r.json"] if case == "report inside" else ["--qc", export / "quality"]
    elif case == "report is a folder":
        options = ["--report", tmp_path]
    elif case == "quality is a file":
        (tmp_path / "file").write_text("mine")
        options = ["--qc", tmp_path / "file"]
    elif case == "link loop":
        source = tmp_path / "loop"
        source.symlink_to(source)
    elif case == "missing":
        source = tmp_path / "nowhere"
    elif case == "truncated":
        path = export / "0002.dcm"
        path.write_bytes(path.read_bytes()[:-4000])
    elif case in ("inside", "same"):
        target = export / "out" if case == "inside" else export
    elif case == "model":
        options = ["--model", "nope"]
    elif case == "damaged model":
        (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04 damaged")
        options = ["--model", str(tmp_path / "bad.pt")]
    elif case == "series":
        options = ["--series", "1.2.3"]
    elif case == "no series":
        options = ["--series", ""]
    elif case == "pipe":
        source = tmp_path / "pipe"
        os.mkfifo(source)
    elif case == "batch":
        options = ["--batch", "0"]
    before = sorted(export.rglob("*"))
    result = _run("denoise", source, target, *options)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert sorted(export.rglob("*")) == before
    assert not (tmp_path / "out").exists()


def test_a_volume_keeps_its_grid(tmp_path: Path) -> None:
    affine = np.diag([-0.7, -0.8, 3.0, 1.0])
    affine[:3, 3] = 10, 20, -30
    noisy = low_dose(body_phantom_hu(2, 80), 30)
    write_volume(tmp_path / "in.nii.gz", Volume(noisy, affine, np.dtype(np.int16)))
    for name in ("out.nii.gz", "out.nrrd", "out.mha"):
        result = _run("denoise", tmp_path / "in.nii.gz", tmp_path / name)
        assert result.exit_code == 0, result.output
        out = read_volume(tmp_path / name)
        np.testing.assert_allclose(out.affine, affine, atol=1e-5)
        assert out.dtype == np.int16
        assert 0 < np.abs(out.hu - np.rint(noisy)).max() < 400
    assert _run("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nrrd").exit_code == 2


@pytest.mark.parametrize(
    ("option", "is_for"),
    [
        (("--series", "1.2.3"), "DICOM"),
        (("--qc", "qc"), "DICOM"),
        (("--check",), "DICOM"),
        (("--engine", "ray"), "DICOM"),
        (("--workers-per-gpu", "2"), "DICOM"),
        (("--resume",), "DICOM"),
        (("--strict",), "DICOM"),
        (("--keep-private",), "DICOM"),
        (("--report", "report.json"), "CT"),
        (("--roi", "64"), "CT"),
        (("--overlap", "0.25"), "windows"),
        (("--batch", "2"), "CT"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else each,
)
def test_an_option_without_an_effect_is_refused(tmp_path: Path, option: tuple[str, ...], is_for: str) -> None:
    hu = np.full((2, 8, 8), -100, np.float32)
    write_volume(tmp_path / "in.nii.gz", Volume(hu, np.eye(4), np.dtype(np.int16)))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in.png")
    suffixes = {
        "DICOM": {"a volume": ".nii.gz", "images": ".png"},
        "CT": {"images": ".png"},
        "windows": {"whole slices": ".nii.gz", "images": ".png"},
    }
    for what, suffix in suffixes[is_for].items():
        target = tmp_path / f"out{suffix}"
        result = _run("denoise", tmp_path / f"in{suffix}", target, *option)
        assert result.exit_code == 2
        assert f"no effect on {what}: {option[0]}; leave it out" in result.output
        assert not target.exists()


def test_a_folder_of_volumes_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "a.nii.gz", Volume(np.zeros((2, 8, 8), np.float32), np.eye(4), np.dtype(np.int16)))
    result = _run("denoise", tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert "found 1 x not DICOM; volumes are taken one at a time: give the file" in " ".join(result.output.split())


def test_options_that_contradict_each_other_are_refused(export: Path, tmp_path: Path) -> None:
    result = _run("denoise", export, tmp_path / "out", "--resume", "--overwrite")
    assert result.exit_code == 2
    assert "give one of them" in result.output
    result = _run("denoise", export, tmp_path / "out", "--roi", "5")
    assert result.exit_code == 2
    assert "roi must be a whole number of pixels, at least 32, found 5" in result.output


def test_a_series_does_not_become_a_volume(export: Path, tmp_path: Path) -> None:
    result = _run("denoise", export, tmp_path / "out.nii.gz")
    assert result.exit_code == 2
    assert "the output is a folder here, found out.nii.gz" in result.output
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_shorter_demonstration_replaces_a_longer_one(tmp_path: Path) -> None:
    for slices in (2, 1):
        result = _run("demo", "--output", tmp_path / "demo", "--slices", slices, "--overwrite")
        assert result.exit_code == 0, result.output
        for name in ("noisy", "denoised"):
            assert len(list((tmp_path / "demo" / name).rglob("*.dcm"))) == slices
    assert _run("demo", "--output", tmp_path / "demo").exit_code == 2


def test_the_picture_of_the_demonstration_shows_after_minus_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    before, after = (np.full((8, 8), hu, np.float32) for hu in (40, 60))
    after[0, 0] = 2000  # beyond the window, as 240 HU
    save_picture(tmp_path / "a.png", before, after)
    panels = figures[0].axes
    titles = ["before, -160 to 240 HU", "after, -160 to 240 HU", "after - before, -50 to 50 HU"]
    assert [panel.get_title() for panel in panels] == titles
    assert panels[2].images[0].get_clim() == (-50, 50)
    shown = np.asarray(panels[2].images[0].get_array())
    assert (shown[0, 0], shown[4, 4]) == (200, 20)


@pytest.mark.parametrize("report", ["in.nii.gz", "out.nii.gz", "folder"])
def test_a_report_replaces_no_volume(tmp_path: Path, report: str) -> None:
    (tmp_path / "folder").mkdir()
    write_volume(tmp_path / "in.nii.gz", Volume(np.full((2, 8, 8), -100, np.float32), np.eye(4), np.dtype(np.int16)))
    before = (tmp_path / "in.nii.gz").read_bytes()
    result = _run("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--report", tmp_path / report)
    assert result.exit_code == 2
    assert "--report is the input, the output or a folder" in result.output
    assert (tmp_path / "in.nii.gz").read_bytes() == before
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("name", ["big.nii", "big.nii.gz"])
def test_a_volume_larger_than_memory_is_one_line(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / "in.nii", Volume(np.full((2, 8, 8), -100, np.float32), np.eye(4), np.dtype(np.int16)))
    content = bytearray((tmp_path / "in.nii").read_bytes())
    struct.pack_into("<4h", content, 40, 3, 30000, 30000, 30000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    result = _run("denoise", tmp_path / name, tmp_path / "out.nii")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert name in result.output


def test_places_that_take_no_volume_are_refused_before_the_work(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denoise(*_: object, **__: object) -> None:
        raise AssertionError("the work would be lost")

    monkeypatch.setattr("ctclip.denoise.Denoiser.denoise", denoise)
    source = tmp_path / "in.nii.gz"
    write_volume(source, Volume(np.full((2, 8, 8), -100, np.float32), np.eye(4), np.dtype(np.int16)))
    (tmp_path / "folder.nii").mkdir()
    for target, code, message in (
        (tmp_path / "folder.nii", 2, "is a folder, expected a file"),
        (source / "out.nii", 2, "the output lies below a file"),
    ):
        result = _run("denoise", source, target, "--model", tiny_model, "--overwrite")
        assert (result.exit_code, type(result.exception)) == (code, SystemExit)
        assert message in result.output


@pytest.mark.parametrize("suffix", [".nii.gz", ".png"])
def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, suffix: str) -> None:
    result = _run("denoise", tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert result.exit_code == 1
    assert "no such file" in result.output


def test_a_format_that_is_not_written_is_no_folder(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in.png")
    result = _run("denoise", tmp_path / "in.png", tmp_path / "out.webp")
    assert result.exit_code == 2
    assert "found .webp for the output, expected one of .png" in " ".join(result.output.split())
    assert not (tmp_path / "out.webp").exists()


def test_a_volume_is_never_replaced_by_its_own_result(tmp_path: Path) -> None:
    source, link = tmp_path / "in.nii.gz", tmp_path / "link.nii.gz"
    write_volume(source, Volume(np.full((2, 8, 8), -100, np.float32), np.eye(4), np.dtype(np.int16)))
    link.symlink_to(source)
    before = source.read_bytes()
    for target in (source, link):
        result = _run("denoise", source, target, "--overwrite")
        assert result.exit_code == 2
        assert "the output is the input, which is never modified" in " ".join(result.output.split())
        assert source.read_bytes() == before


@pytest.mark.parametrize(("largest", "remedy"), [(1, "undo the scaling"), (300, "apply RescaleSlope")])
def test_volumes_that_are_not_hu_are_refused(tmp_path: Path, largest: float, remedy: str) -> None:
    values = np.linspace(0, largest, 128, dtype=np.float32).reshape(2, 8, 8)
    write_volume(tmp_path / "in.nii.gz", Volume(values, np.eye(4), np.dtype(np.float32)))
    result = _run("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz")
    assert result.exit_code == 1
    assert "not HU" in result.output
    assert remedy in result.output
    assert "check_hu" not in result.output, "an option of the API"
    assert not (tmp_path / "out.nii.gz").exists()


def test_pictures_do_not_hide_an_export(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    cd, named = tmp_path / "cd", tmp_path / "named"
    shutil.copytree(export, cd / "DICOM")
    Image.new("L", (8, 8)).save(cd / "logo.jpg")
    named.mkdir()
    for number, path in enumerate(sorted(export.iterdir()), start=1):
        shutil.copy(path, named / f"{number}.jpg")
    volume = shutil.copy(named / "1.jpg", tmp_path / "scan.mha")
    assert _run("inspect", volume).exit_code == 0
    for source, slices in ((cd, 3), (named, 3), (named / "1.jpg", 1), (volume, 1)):
        target = tmp_path / f"out of {source.stem}"
        result = _run("denoise", source, target, "--model", tiny_model)
        assert result.exit_code == 0, result.output
        assert len(list(target.rglob("*.dcm"))) == slices
        assert not list(target.rglob("*.jpg"))


def test_pictures_among_other_files_are_told_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "readme.txt").write_text("hello")
    result = _run("denoise", tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert "photographs are taken from a folder that holds nothing else, or give the file" in result.output


def test_a_report_that_cannot_be_written_is_found_before_the_work(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["denoise", export, tmp_path / "out", "--model", tiny_model, "--report"]
    (tmp_path / "file").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", _full_disk)
        assert (result := _run(*command, tmp_path / "new" / "r.json")).exit_code == 2
    assert "--report cannot be written: No space left on device" in result.output
    for report, message in (("file/r.json", "--report lies below a file"), ("out", "--report is a folder")):
        assert (result := _run(*command, tmp_path / report)).exit_code == 2
        assert message in result.output
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(Path, "write_text", _full_disk)
    result = _run(*command, tmp_path / "r.json")
    assert result.exit_code == 3, "the series is done"
    assert "the report was not written: No space left on device" in result.output
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 3


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", ["bad slice", "unknown model", "no series", "nothing there"])
def test_a_run_that_fails_has_a_report_too(export: Path, tiny_model: Path, tmp_path: Path, fault: str) -> None:
    options = ["--strict", "--model", "nope" if fault == "unknown model" else tiny_model]
    if fault == "bad slice":
        path = export / "0002.dcm"
        path.write_bytes(path.read_bytes()[:-3000])
    elif fault == "no series":
        options += ["--series", "1.2.3"]
    source = tmp_path / "nowhere" if fault == "nothing there" else export
    result = _run("denoise", source, tmp_path / "out", *options, "--report", tmp_path / "r.json")
    assert result.exit_code == 1
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["error"] in " ".join(result.output.split())
    if fault in ("bad slice", "unknown model"):
        assert [row["status"] for row in content["series"]] == ["failed"]
    else:
        assert content["series"] == []
    assert list(content["skipped_series"].values()) == (["not asked for"] if fault == "no series" else [])


def test_a_dry_run_writes_nothing(export: Path, tmp_path: Path) -> None:
    result = _run("denoise", export, tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "3 slices, denoise" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        (("--model", "nope"), 1, "unknown model 'nope'"),
        (("--device", "gpu"), 2, "unknown device 'gpu'"),
        (("--precision", "fp16"), 2, "unknown precision 'fp16'"),
        (("--backend", "tensorrt"), 2, "found 'tensorrt'"),
        (("--roi", "31"), 2, "at least 32, found 31"),
    ],
)
def test_a_dry_run_refuses_settings_that_a_run_would(
    export: Path, tmp_path: Path, option: tuple[str, str], code: int, message: str
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "in.png")
    hu = np.full((2, 8, 8), -100, np.float32)
    write_volume(tmp_path / "in.nii.gz", Volume(hu, np.eye(4), np.dtype(np.int16)))
    for source, target in ((export, "out"), (tmp_path / "in.nii.gz", "out.nii.gz"), (tmp_path / "in.png", "out.png")):
        if target == "out.png" and option[0] == "--roi":
            continue
        result = _run("denoise", source, tmp_path / target, "--list", *option)
        assert result.exit_code == code
        assert message in result.output


def test_a_dry_run_says_what_would_become_of_earlier_results(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = ["denoise", export, tmp_path / "out", "--model", tiny_model]

    def listed(*options: str) -> str:
        before = sorted((tmp_path / "out").rglob("*"))
        result = _run(*command, *options, "--list")
        assert result.exit_code == int("slices, fail (" in result.output), "that of the run itself"
        assert sorted((tmp_path / "out").rglob("*")) == before
        return result.output

    assert "3 slices, denoise\n" in listed()
    assert _run(*command).exit_code == 0
    assert "3 slices, fail (its folder exists; give --overwrite to replace it)" in listed()
    assert "3 slices, keep (done by an earlier run)" in listed("--resume")
    assert "3 slices, denoise again (replaces an earlier result)" in listed("--overwrite")
    assert "3 slices, denoise\n" in listed("--strength", "0.5"), "another series"
    (series,) = (tmp_path / "out").iterdir()
    (series / "0003.dcm").unlink()
    assert "3 slices, denoise again (an earlier run had 2 of now 3 slices)" in listed("--resume")
    (series / "notes.txt").write_text("mine")
    for option in ("--resume", "--overwrite"):
        assert "holds 1 files or folders that are no earlier result" in listed(option)


def test_a_strict_dry_run_reads_every_slice(export: Path, tmp_path: Path) -> None:
    strict = ["denoise", export, tmp_path / "out", "--list", "--strict"]
    assert _run(*strict).exit_code == 0
    path = export / "0002.dcm"
    path.write_bytes(path.read_bytes()[:-3000])
    result = _run(*strict)
    assert result.exit_code == 1
    assert "nothing was written: series" in result.output


def test_a_dry_run_refuses_a_volume_that_exists(tmp_path: Path) -> None:
    hu = np.full((2, 8, 8), -100, np.float32)
    for name in ("in.nii.gz", "out.nii.gz"):
        write_volume(tmp_path / name, Volume(hu, np.eye(4), np.dtype(np.int16)))
    command = ["denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--list"]
    assert "exists; give --overwrite" in _run(*command).output
    assert _run(*command, "--overwrite").exit_code == 0


def test_weights_commands() -> None:
    listed, verified = _run("weights", "list"), _run("weights", "verify")
    assert "ct-compact" in listed.output
    assert "not CLIP" in listed.output
    assert verified.exit_code == 0
    assert "ok" in verified.output


def test_help_does_not_import_torch() -> None:
    script = "import sys, ctclip.cli.main; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_listing_an_export_does_not_import_torch(export: Path, tmp_path: Path) -> None:
    script = "import sys, ctclip.cli.main as cli; cli.app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    arguments = ["denoise", str(export), str(tmp_path / "out"), "--list", "-q"]
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert "pydicom" in run.stdout.split()
    assert "torch" not in run.stdout.split()


def test_denoising_imports_no_more_than_it_needs(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from ctclip.cli.main import app
code = app(sys.argv[1:], standalone_mode=False)
print(code, sorted({HEAVY_MODULES!r} & set(sys.modules)))
"""
    arguments = [str(each) for each in ("denoise", export, tmp_path / "out", "--model", tiny_model)]
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "0 []"


def test_a_volume_that_cannot_be_written_is_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    for name in ("in.nii.gz", "out.nii.gz"):
        write_volume(tmp_path / name, Volume(np.full((2, 8, 8), -100, np.float32), np.eye(4), np.dtype(np.int16)))
    for target, message in (("in.nii.gz", "the output is the input"), ("out.nii.gz", "exists; give --overwrite")):
        for how in (("--model", "no-such-model"), ("--dry-run",)):
            result = _run("denoise", tmp_path / "in.nii.gz", tmp_path / target, *how)
            assert result.exit_code == 2
            assert message in " ".join(result.output.split())


def test_the_report_of_a_volume_names_device_and_settings(tmp_path: Path) -> None:
    hu = low_dose(body_phantom_hu(1, 64), 30)
    write_volume(tmp_path / "in.nii.gz", Volume(hu, np.eye(4), np.dtype(np.int16)))
    options = ("--device", "cpu", "--precision", "fp32", "--backend", "eager", "--report", tmp_path / "report.json")
    result = _run("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", *options)
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "report.json").read_text())
    (volume,) = written["series"]
    assert volume["device"] == written["device"] == "cpu"
    assert volume["settings"] == written["settings"]
    assert "precision=fp32" in volume["settings"]
