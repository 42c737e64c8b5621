from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.dicom import printable_kernel
from ctclip.inspection import MEASURED_SLICES
from ctclip.metrics.noise import noise_correlation
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.sampling import evenly_spread
from ctclip.simulation.correlated import correlated_noise
from tests.dicom.fake import PATIENT, SAGITTAL, fake_slice, write


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *(str(argument) for argument in arguments)], env={"COLUMNS": "200"})


def _series(folder: Path, volume_hu: np.ndarray, uid: str, **overrides: object) -> None:
    for index, slice_hu in enumerate(volume_hu):
        pixels = np.clip(np.rint(slice_hu + 1024), 0, 4095).astype(np.int16)
        write(fake_slice(2.5 * index, index + 1, series=uid, pixels=pixels, **overrides), folder / f"{uid}.{index}")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    noisy = low_dose(body_phantom_hu(4, 256), 30)
    _series(folder, noisy, "1.2.1", SeriesNumber=1, Exposure=150, CTDIvol=7.5)
    _series(folder, low_dose(body_phantom_hu(4, 256), 3), "1.2.2", SeriesNumber=2, ConvolutionKernel=None)
    _series(folder, noisy, "1.2.3", SeriesNumber=3, orientation=SAGITTAL)
    (folder / "notes.txt").write_text("no DICOM")
    return folder


def test_every_series_is_listed_with_what_would_happen(export: Path) -> None:
    result = _run(export, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    first, smooth, sagittal = content["series"]
    assert (first["SeriesInstanceUID"], first["slices"], first["matrix"]) == ("1.2.1", 4, [256, 256])
    assert (first["ConvolutionKernel"], first["KVP"], first["Exposure"], first["CTDIvol"]) == ("Br38f/3", 120, 150, 7.5)
    assert (first["PixelSpacing"], first["SliceThickness"], first["step_mm"]) == ([0.5, 0.5], 2.0, 2.5)
    assert first["noise_sd_hu"] == pytest.approx(30, rel=0.1)
    assert first["noise_correlation"] == pytest.approx(0.47, abs=0.08)
    assert (first["action"], first["remark"]) == ("denoise", "within what the model was trained with")
    assert (smooth["action"], smooth["remark"], smooth["ConvolutionKernel"]) == (
        "denoise",
        "already smooth: little to gain",
        "",
    )
    assert sagittal["action"] == "skip"
    assert "axial" in sagittal["reason"]
    assert sum(content["skipped_files"].values()) == 1


def test_the_table_says_the_same_without_patient_data(export: Path) -> None:
    result = _run(export)
    assert result.exit_code == 0
    for expected in ("1.2.1", "Br38f/3", "7.5", "already", "skip", "skipped 1 file"):
        assert expected in result.output
    for secret in (PATIENT.split("^")[0], "P-77", "19600102", "A-9"):
        assert secret not in result.output + _run(export, "--json").output


def test_uids_stay_in_one_piece_in_a_pipe(tmp_path: Path) -> None:
    uid = "1.2.840.113619.2.55.3.1234567890.123.1234567890.123456789012"
    _series(tmp_path, low_dose(body_phantom_hu(2, 64), 30), uid, SeriesNumber=12345678)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)], env={"COLUMNS": "80"})
    assert f"12345678: {uid}" in result.stdout
    assert result.stderr == ""
    assert max(map(len, result.output.splitlines())) < 400, "no wider than what stands in it"


def test_why_a_series_is_skipped_is_said_once(tmp_path: Path) -> None:
    write(fake_slice(0, 1, ImageType=["DERIVED", "SECONDARY", "MIP"]), tmp_path / "a")
    result = _run(tmp_path)
    assert result.output.count("no plain slices (ImageType MIP): 1 of 1 slices") == 1


def test_a_folder_without_ct_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    result = _run(tmp_path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["series"] == []


def test_where_there_is_no_series_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    result = _run(tmp_path)
    assert result.exit_code == 1
    assert result.output.split("\n")[-3:] == ["no CT series", "skipped 1 file: not DICOM", ""]
    assert "does not exist" in _run(tmp_path / "scan.nii.gz").output
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    result = _run(tmp_path / "scan.nii.gz")
    assert result.exit_code == 1
    assert "inspect reads DICOM" in result.output


def test_one_thickness_in_two_spellings_is_no_mixture(tmp_path: Path) -> None:
    for index, slice_hu in enumerate(low_dose(body_phantom_hu(2, 64), 30)):
        pixels = np.rint(slice_hu + 1024).astype(np.int16)
        thickness, kv = (("5", "120"), ("5.000", "120.0"))[index]
        write(fake_slice(5 * index, index + 1, pixels=pixels, SliceThickness=thickness, KVP=kv), tmp_path / f"{index}")
    (facts,) = json.loads(_run(tmp_path, "--json").output)["series"]
    assert not [each for each in facts["warnings"] if "in one series" in each]


@pytest.mark.parametrize(("cutoff", "expected"), [(0.18, 0.61), (0.22, 0.47), (0.32, 0.20)])
def test_the_correlation_of_known_noise_is_found(cutoff: float, expected: float) -> None:
    noise = correlated_noise((3, 256, 256), cutoff, generator=torch.Generator().manual_seed(0)).numpy()
    assert np.mean([noise_correlation(40 + 20 * each) for each in noise]) == pytest.approx(expected - 0.05, abs=0.03)


def test_white_noise_is_not_correlated() -> None:
    noise = np.random.default_rng(0).normal(40, 20, (256, 256))
    assert noise_correlation(noise) == pytest.approx(0, abs=0.03)


def test_no_soft_tissue_no_correlation() -> None:
    assert np.isnan(noise_correlation(np.full((64, 64), -900.0)))


def test_kilovolts_and_thickness_beyond_those_of_the_training_are_said(tmp_path: Path) -> None:
    noisy = low_dose(body_phantom_hu(2, 256), 30)
    _series(tmp_path / "in", noisy, "1.2.1", KVP="80", SliceThickness="0.6")
    _series(tmp_path / "in", noisy, "1.2.2", KVP="120", SliceThickness="2.5")
    remarks = {
        each["SeriesInstanceUID"]: each["remark"]
        for each in json.loads(_run(tmp_path / "in", "--json").stdout)["series"]
    }
    assert "80 kV: the model was trained with 100 to 120" in remarks["1.2.1"]
    assert "0.6 mm thick: the model was trained with 1.25 to 5" in remarks["1.2.1"]
    assert remarks["1.2.2"] == "within what the model was trained with"


def test_more_and_smoother_noise_than_that_of_the_training_is_said(tmp_path: Path) -> None:
    clean = np.full((2, 128, 128), 40.0)
    white = np.random.default_rng(0).normal(0, 1, clean.shape)
    smooth = ndimage.gaussian_filter(white, (0, 1.5, 1.5))
    air = np.zeros(clean.shape, dtype=bool)
    air[:, :8] = True
    for number, noise in enumerate((6 * white, 10 * white, 100 * white, 130 * white, 20 * smooth / smooth.std())):
        _series(tmp_path, np.where(air, -1000, clean + noise), f"1.2.{number}", SeriesNumber=number)
    assert [each["remark"] for each in json.loads(_run(tmp_path, "--json").stdout)["series"]] == [
        "already smooth: little to gain",
        "within what the model was trained with",
        "within what the model was trained with",
        "more noise than the model was trained with",
        "smoother noise than the model was trained with",
    ]


def test_what_stands_in_the_table_is_that_of_the_middle_slice(tmp_path: Path) -> None:
    for index, slice_hu in enumerate(low_dose(body_phantom_hu(3, 64), 30)):
        pixels = np.rint(slice_hu + 1024).astype(np.int16)
        own = {"XRayTubeCurrent": 100 + index, "Exposure": 50 + index, "CTDIvol": 7.0 + index}
        write(fake_slice(2.5 * index, index + 1, pixels=pixels, **own), tmp_path / f"{index}")
    (facts,) = json.loads(_run(tmp_path, "--json").stdout)["series"]
    assert (facts["XRayTubeCurrent"], facts["Exposure"], facts["CTDIvol"]) == (101, 51, 8)


def test_what_denoise_would_refuse_is_said(tmp_path: Path) -> None:
    noisy = low_dose(body_phantom_hu(3, 64), 30)
    _series(tmp_path, noisy, "1.2.1", SeriesNumber=1)
    _series(tmp_path, np.ones_like(noisy), "1.2.2", SeriesNumber=2)
    _series(tmp_path, noisy, "1.2.3", SeriesNumber=3)
    cut = tmp_path / "1.2.1.1"
    cut.write_bytes(cut.read_bytes()[:-1000])
    write(fake_slice(9, 9, series="1.2.3", SeriesNumber=3, ImagePositionPatient=None), tmp_path / "placeless")
    result = _run(tmp_path, "--json")
    damaged, mask, placeless = json.loads(result.output)["series"]
    assert damaged["action"] == mask["action"] == placeless["action"] == "fail"
    assert "PixelData" in damaged["reason"]
    assert placeless["reason"].startswith("damaged headers: 1 of 4 slices")
    listed = CliRunner().invoke(app, ["denoise", str(tmp_path), str(tmp_path.with_suffix(".out")), "--list"])
    assert "series 1.2.3: 4 slices, fail (damaged headers: 1 of 4 slices" in listed.output
    assert mask["reason"] == "no value below 0 HU: not HU, or a mask"
    assert result.exit_code == 1, "nothing can be denoised"


def test_one_value_below_0_hu_in_a_slice_that_is_not_measured_is_enough(tmp_path: Path) -> None:
    hu = np.ones((3 * MEASURED_SLICES, 32, 32))
    index = 0
    assert index not in set(evenly_spread(len(hu), MEASURED_SLICES))
    hu[index, 0, 0] = -1
    _series(tmp_path, hu, "1.2.1")
    result = _run(tmp_path, "--json")
    assert json.loads(result.output)["series"][0]["action"] == "denoise"
    assert result.exit_code == 0


def test_padding_with_the_value_of_tissue_is_not_measured(tmp_path: Path) -> None:
    hu = low_dose(body_phantom_hu(3, 128), 30)
    y, x = np.ogrid[:128, :128]
    outside = (y - 64) ** 2 + (x - 64) ** 2 > 60**2
    for index, slice_hu in enumerate(np.where(outside, 0, hu)):
        pixels = np.rint(slice_hu).astype(np.int16)
        write(
            fake_slice(2.5 * index, index + 1, pixels=pixels, intercept=0.0, PixelPaddingValue=0),
            tmp_path / f"{index}",
        )
    (facts,) = json.loads(_run(tmp_path, "--json").output)["series"]
    assert facts["noise_sd_hu"] == pytest.approx(30, rel=0.15)
    assert 0.2 < facts["noise_correlation"] < 0.7


def test_a_fill_with_the_value_of_tissue_is_not_measured_and_no_noise_is_said(tmp_path: Path) -> None:
    clean = body_phantom_hu(3, 128)
    _series(tmp_path, np.where(clean < -500, 0, low_dose(clean, 30)).clip(-900), "1.2.1", SeriesNumber=1)
    _series(
        tmp_path, np.select([clean < -500, np.indices(clean.shape)[2] < 64], [-1000, 0], 60), "1.2.2", SeriesNumber=2
    )
    masked, noiseless = json.loads(_run(tmp_path, "--json").output)["series"]
    assert masked["noise_sd_hu"] == pytest.approx(30, rel=0.15)
    assert (noiseless["noise_sd_hu"], noiseless["remark"]) == (None, "no noise at all")


def test_what_is_mixed_in_a_series_is_said_and_steps_are_those_of_positions(tmp_path: Path) -> None:
    noisy = low_dose(body_phantom_hu(4, 64), 30)
    for index, slice_hu in enumerate(noisy):
        pixels = np.rint(slice_hu + 1024).astype(np.int16)
        kernel, kv = (("B30f", "80"), ("B70f", "140"))[index % 2]
        place = 2.5 * (index // 2)
        write(
            fake_slice(place, index + 1, pixels=pixels, ConvolutionKernel=kernel, KVP=kv, SliceThickness=2 + index % 2),
            tmp_path / f"{index}",
        )
    (facts,) = json.loads(_run(tmp_path, "--json").output)["series"]
    assert facts["step_mm"] == 2.5
    mixed = {f"2 values of {keyword} in one series" for keyword in ("ConvolutionKernel", "KVP", "SliceThickness")}
    assert mixed <= set(facts["warnings"])


@pytest.mark.parametrize(
    ("kernel", "shown"),
    [
        *((name, name) for name in ("B30f", "Br38f", "STANDARD", "BONE+", "FC18", "FC08-H", "YB", "HD BONE", "SOFT")),
        ("MUELLER HANS", "unknown name"),
        ("Eva", "unknown name"),
        ("BONE MUELLER", "unknown name"),
        ("19600307", "unknown name"),
    ],
)
def test_kernels_are_shown_and_names_are_not(kernel: str, shown: str) -> None:
    assert printable_kernel((kernel,)) == shown
    assert printable_kernel(("Br38f", kernel)) == (shown if shown == "unknown name" else f"Br38f/{kernel}")
