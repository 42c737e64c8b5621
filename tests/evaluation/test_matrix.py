from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ctclip import __version__
from ctclip.cli.main import app
from ctclip.data.volumes import Volume, write_volume
from ctclip.errors import DataError
from ctclip.evaluation.document import described, versions
from ctclip.evaluation.matrix import TestScan, conditions, find_scans, run_matrix
from ctclip.evaluation.methods import Method, baseline
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.report.content import IDENTITY
from ctclip.report.matrix import Cell, Condition, heat_maps, write_matrix
from ctclip.units import MODEL_HU_WINDOW, SOFT_TISSUE_HU_WINDOW
from tests.dicom.fake import fake_slice, write

SCAN = TestScan("scan 1", low_dose(body_phantom_hu(2, 128), 10), 1.5)


def test_full_dose_comes_once_and_white_noise_has_no_texture() -> None:
    found = conditions(["white", "image"], ["smooth", "sharp"], [0.1, 1.0, 0.5])
    assert found == [
        Condition("", "", 1.0),
        Condition("white", "", 0.5),
        Condition("white", "", 0.1),
        *(Condition("image", texture, dose) for texture in ("smooth", "sharp") for dose in (0.5, 0.1)),
    ]


def test_halving_the_noise_gains_6_db_everywhere_and_harms_nothing() -> None:
    def halve(volume_hu: np.ndarray) -> np.ndarray:
        return (volume_hu + SCAN.slices_hu) / 2

    methods = [baseline("identity"), Method("halve", "knows the truth", halve)]
    found = conditions(["white", "projection"], ["standard"], [1, 0.5, 0.1])
    cells, problems = run_matrix([SCAN], methods, found, MODEL_HU_WINDOW, range(2))
    assert problems == []
    assert len(cells) == 2 * (1 + 4 * 2)
    identity, halved = heat_maps(cells)
    ((_, fields),) = halved.rows
    assert fields[0].text == "0.00 HU"
    assert [field.text for field in fields[1:]] == ["+6.02 dB"] * 4
    assert all(field.colour.startswith("color-mix(in srgb, #2b7bba") for field in fields[1:])
    ((_, inputs),) = identity.rows
    psnr = [float(field.text.split()[0]) for field in inputs[1:]]
    assert psnr[0] - psnr[1] == pytest.approx(10 * np.log10(9), abs=0.7), "added variance 9 against 1 times the scan's"


def test_a_scan_without_soft_tissue_is_a_problem_but_not_the_end(tmp_path: Path) -> None:
    lung = TestScan("scan 2", np.full((1, 64, 64), -800, np.float32), 1.5)
    cells, (problem,) = run_matrix(
        [lung, SCAN], [baseline("identity")], conditions(["image"], ["standard"], [0.5]), MODEL_HU_WINDOW, [0]
    )
    assert "scan 2" in problem
    assert {cell.scan for cell in cells} == {"scan 1"}


def test_a_crop_with_soft_tissue_in_its_corners_alone_is_a_problem_but_not_the_end() -> None:
    axis = np.arange(128) - 63.5
    lung = np.hypot(axis[:, None], axis[None, :]) < 60
    crop = TestScan("scan 2", np.where(lung, -850, low_dose(np.full((2, 128, 128), 40, np.float32), 10)), 1.5)
    found = conditions(["image", "projection"], ["standard"], [0.5])
    cells, problems = run_matrix([crop, SCAN], [baseline("identity")], found, MODEL_HU_WINDOW, [0])
    assert [cell.scan for cell in cells] == ["scan 1"] * 2
    assert ["scan 2" in each and "within its inscribed circle" in each for each in problems] == [True] * 2


def test_a_result_of_another_shape_is_a_problem_but_not_the_end() -> None:
    methods = [Method("crop", "loses a column", lambda volume_hu: volume_hu[..., 1:]), baseline("identity")]
    cells, (problem,) = run_matrix([SCAN], methods, conditions(["white"], [], [1]), MODEL_HU_WINDOW, [0])
    assert [cell.method for cell in cells] == ["identity"]
    assert problem.startswith(
        "scan 1, nothing added at dose 1, seed 0, crop left out: the result has shape (2, 128, 127)"
    )


def test_slices_of_air_alone_do_not_make_the_figures_infinite() -> None:
    air = low_dose(np.full_like(SCAN.slices_hu[:1], -1000), 10)
    with_air = replace(SCAN, slices_hu=np.concatenate([air, SCAN.slices_hu]))
    methods, found = [baseline("identity"), baseline("median")], conditions(["white"], ["standard"], [0.5])
    cells, problems = run_matrix([with_air], methods, found, SOFT_TISSUE_HU_WINDOW, [0])
    assert (len(cells), problems) == (2, [])
    assert all(np.isfinite(list(cell.quality.values())).all() for cell in cells)
    cells, (problem,) = run_matrix([SCAN], methods, found, (5000.0, 6000.0), [0])
    assert not cells
    assert "a single value in the window [5000.0, 6000.0] HU" in problem


def test_the_mean_over_scans_has_the_sd_of_the_seeds_means() -> None:
    """Scans that differ by 20 dB, whose seeds differ by 2 and by 4 dB: the means of the seeds differ by 3."""
    (condition,) = conditions(["white"], ["standard"], [0.5])
    psnr_db = {("one", 0): 30.0, ("one", 1): 32.0, ("two", 0): 50.0, ("two", 1): 54.0}
    cells = [Cell("identity", scan, condition, seed, {"psnr_db": v}) for (scan, seed), v in psnr_db.items()]
    (heat_map,) = heat_maps(cells)
    (name, (field,)) = heat_map.rows[-1]
    assert (name, field.text, field.note) == ("mean over scans", "41.50 dB", "± 2.12")


def _gains(missing: tuple[str, int]) -> list[tuple[str, str, str]]:
    """Texts and small print of a method that gains 1, 2 and 3 dB with seeds 0, 1 and 2 on one scan, 11, 12 and 13 dB on
    the other, without one of its results ("one" or "two" and the seed, -1 for all)."""
    (condition,) = conditions(["white"], ["standard"], [0.5])
    cells = [
        Cell(method, scan, condition, seed, {"psnr_db": 30.0 + gain})
        for scan, more in (("one", 1.0), ("two", 11.0))
        for seed in range(3)
        for method, gain in ((IDENTITY, 0.0), ("net", more + seed))
        if not (method == "net" and scan == missing[0] and missing[1] in (seed, -1))
    ]
    net = next(each for each in heat_maps(cells) if each.method == "net")
    return [(name, field.text, field.note) for name, (field,) in net.rows]


def test_seeds_are_paired_by_number() -> None:
    """Without seed 0 of one scan, the mean over scans is that of seeds 1 and 2: 7 and 8 dB."""
    assert _gains(("one", 0)) == [
        ("one", "+2.50 dB", "± 0.71, 2 of 3 seeds"),
        ("two", "+12.00 dB", "± 1.00"),
        ("mean over scans", "+7.50 dB", "± 0.71, 2 of 3 seeds"),
    ]


def test_a_mean_over_fewer_scans_says_so() -> None:
    assert _gains(("two", -1)) == [
        ("one", "+2.00 dB", "± 1.00"),
        ("two", "\N{EN DASH}", ""),
        ("mean over scans", "+2.00 dB", "± 1.00, 1 of 2 scans"),
    ]


def test_every_seed_adds_other_noise() -> None:
    cells, _ = run_matrix(
        [SCAN], [baseline("identity")], conditions(["white"], ["standard"], [0.5]), MODEL_HU_WINDOW, [0, 1, 1]
    )
    one, other, again = (cell.quality["rmse_hu"] for cell in cells)
    assert [cell.seed for cell in cells] == [0, 1, 1]
    assert one != other == again


def test_a_sharp_texture_is_sharper_than_a_smooth_one() -> None:
    seen: list[np.ndarray] = []

    def look(volume_hu: np.ndarray) -> np.ndarray:
        seen.append((volume_hu - SCAN.slices_hu)[:, 48:80, 40:88])
        return volume_hu

    found = conditions(["image"], ["smooth", "sharp"], [0.25])
    run_matrix([SCAN], [Method("look", "keeps what it gets", look)], found, MODEL_HU_WINDOW, [0])
    smooth, sharp = (np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / noise.var() for noise in seen)
    assert smooth > sharp + 0.2


def test_of_pairs_the_full_dose_is_taken(tmp_path: Path) -> None:
    affine = np.diag([-0.8, -1.2, 5.0, 1])
    volumes = {
        "full": low_dose(body_phantom_hu(2, 64), 10).round(),
        "low": low_dose(body_phantom_hu(2, 64), 40).round(),
    }
    for name, hu in volumes.items():
        write_volume(tmp_path / f"{name}.nii.gz", Volume(hu, affine, np.dtype(np.int16)))
    (tmp_path / "pairs.json").write_text('[{"low": "low.nii.gz", "full": "full.nii.gz"}]')
    ((scan,), problems) = find_scans(tmp_path / "pairs.json", 2)
    assert problems == []
    np.testing.assert_array_equal(scan.slices_hu, volumes["full"])
    assert (scan.label, scan.pixel_mm) == ("scan 1, step 5 mm", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("thickness_mm", "slices", "expected"), [(5, 1, "5 mm thick"), (5, 2, "5 mm thick"), (None, 2, "step 2 mm")]
)
def test_scans_are_labelled_by_thickness(
    tmp_path: Path, thickness_mm: float | None, slices: int, expected: str
) -> None:
    pixels = np.clip(SCAN.slices_hu.round() + 1024, 0, 4095).astype(np.int16)
    for index, each in enumerate(pixels):
        ds = fake_slice(2.0 * index, index + 1, pixels=each, SliceThickness=thickness_mm, ConvolutionKernel="B30f")
        write(ds, tmp_path / f"{index}.dcm")
    ((scan,), problems) = find_scans(tmp_path, slices)
    assert (scan.label, problems) == (f"scan 1, B30f, {expected}", [])


def test_masks_are_left_out(tmp_path: Path) -> None:
    affine = np.diag([-1.5, -1.5, 2.5, 1])
    write_volume(tmp_path / "mask.nii.gz", Volume(np.ones((2, 64, 64), np.float32), affine, np.dtype(np.int16)))
    with pytest.raises(DataError, match="these values are not HU"):
        find_scans(tmp_path, 2)
    scan = low_dose(body_phantom_hu(2, 64), 10)
    write_volume(tmp_path / "scan.nii.gz", Volume(scan, affine, np.dtype(np.int16)))
    scans, (problem,) = find_scans(tmp_path, 2)
    assert len(scans) == 1
    assert "left out: these values are not HU" in problem


def test_the_command_writes_a_page_and_a_table(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("muster_eva", "other"):
        volume = low_dose(body_phantom_hu(4, 96), 10).round()
        write_volume(data / f"{name}.nii.gz", Volume(volume, np.diag([-1.5, -1.5, 2.5, 1]), np.dtype(np.int16)))
    scans, _ = find_scans(data, 2)
    assert [scan.slices_hu.shape for scan in scans] == [(2, 96, 96)] * 2
    assert np.array_equal(scans[0].slices_hu, volume[1:3])
    assert scans[1].label == "scan 2, step 2.5 mm"
    assert scans[0].pixel_mm == pytest.approx(1.5)
    options = ["--noise", "image", "--dose", "1,0.25", "--slices", "1", "--seeds", "2", "--model", "none", "--quiet"]
    result = CliRunner().invoke(app, ["matrix", str(data), "--output", str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (1 + 2)
    assert float(rows[0]["rmse_hu [-160,240] HU range 400"]) == 0
    page = (tmp_path / "out" / "matrix.html").read_text()
    assert "mean over scans" in page
    shown = dict(re.findall("<dt>([^<]*)</dt><dd>([^<]*)", page))
    expected = {
        "scans": "2",
        "slices of each scan": "1",
        "noise": "image",
        "texture": "standard",
        "dose": "1, 0.25",
        "window": "soft",
        "seeds": "0 to 1",
        "identity": "the low-dose image itself",
        **versions(),
    }
    assert {name: shown.get(name) for name in expected} == expected
    assert shown["ctclip"].startswith(__version__)
    assert "muster" not in page
    assert "http:" not in page


def test_the_page_says_which_model_it_was(tmp_path: Path) -> None:
    (condition,) = conditions(["white"], ["standard"], [0.5])
    cell = Cell("net", "scan 1", condition, 0, {"psnr_db": 30.0})
    models = described([Method("net", "small", sha256="ab" * 32)])
    write_matrix([cell], tmp_path, window_hu=(-160, 240), settings={}, methods=models, versions={}, problems=[])
    assert f"<dt>net</dt><dd>small<small>SHA-256 <code>{'ab' * 32}</code>" in (tmp_path / "matrix.html").read_text()


def test_nothing_measured_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    volume = Volume(SCAN.slices_hu.round(), np.diag([-1.5, -1.5, 2.5, 1]), np.dtype(np.int16))
    write_volume(tmp_path / "scan.nii.gz", volume)
    options = ["--dose", "0.5", "--window", "5000,10", "--model", "none", "--quiet"]
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    result = CliRunner().invoke(app, ["matrix", str(scan), "--output", str(out), *options])
    assert result.exit_code == 1
    assert "ctclip: nothing could be measured: scan 1, " in " ".join(result.output.split())
    assert "a single value in the window" in " ".join(result.output.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dose", "0.5,2"), "expected numbers above 0 and up to 1"),
        (("--noise", "poisson"), "found 'poisson', expected one of projection, image, white"),
        (("--window", "soft,lung"), "found 2 windows, expected one"),
        (("--texture", ""), "found nothing, expected one of smooth, standard, sharp"),
    ],
)
def test_wrong_usage_is_one_line(options: tuple[str, str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["matrix", str(tmp_path), "--output", str(tmp_path / "out"), *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
