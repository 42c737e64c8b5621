from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.data.pairs import find_pairs, read_pair
from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.demo import read_series_hu, write_ct_series
from ctclip.dicom import Series, derived_series_uid, read_slice
from ctclip.errors import ConfigError
from ctclip.metrics.noise import noise_sd_hu
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.pipeline.simulate import derivation_of, simulate_series
from ctclip.simulation import NoiseSimulator
from ctclip.simulation.settings import Amount, Settings
from tests.dicom.fake import fake_slice, write


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write_ct_series(tmp_path / "in", low_dose(body_phantom_hu(3, 128), 12))
    return tmp_path / "in"


def test_an_export_becomes_pairs_that_evaluate_takes(export: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in export.iterdir()}
    result = _run("simulate", export, tmp_path / "low", "--dose", 0.25, "--quiet")
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in export.iterdir()} == before
    (pair,), problems = find_pairs(tmp_path / "low" / "pairs.json")
    assert problems == []
    both = read_pair(pair)
    assert np.array_equal(both.full_hu, read_series_hu(export))
    sds = [np.median([noise_sd_hu(each) for each in volume]) for volume in (both.low_hu, both.full_hu)]
    assert sds[0] / sds[1] == pytest.approx(2, rel=0.1)
    header = pydicom.dcmread(pair.low[0])
    assert header.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert header.SeriesDescription.endswith("simulated dose 0.25")
    assert "domain=projection texture=standard seed=0" in header.DerivationDescription
    assert "DerivationCodeSequence" not in header


def test_a_volume_becomes_a_volume_and_seeds_differ(tmp_path: Path) -> None:
    full = low_dose(body_phantom_hu(2, 128), 12).round()
    write_volume(tmp_path / "ct.nii.gz", Volume(full, np.diag([-0.8, -0.8, 3.0, 1.0]), np.dtype(np.int16)))
    for seed in (0, 1):
        options = ("--noise-sd", 30, "--domain", "image", "--seed", seed)
        result = _run("simulate", tmp_path / "ct.nii.gz", tmp_path / f"low{seed}.nii.gz", *options)
        assert result.exit_code == 0, result.output
    one, other = (read_volume(tmp_path / f"low{seed}.nii.gz") for seed in (0, 1))
    assert one.dtype == np.int16
    assert not np.array_equal(one.hu, other.hu)
    flat = (slice(None), slice(60, 76), slice(30, 50))
    assert (one.hu - full)[flat].std() == pytest.approx(30, rel=0.25)


def test_no_two_slices_have_the_same_noise(tmp_path: Path) -> None:
    slices_hu = np.repeat(body_phantom_hu(1, 64), 10, axis=0)  # more than one batch
    write_ct_series(tmp_path / "in", slices_hu)
    last = sorted((tmp_path / "in").iterdir())[-1]
    header = pydicom.dcmread(last)
    header.PixelSpacing = [2.5, 2.5]  # a group of its own
    header.save_as(last)
    write_volume(tmp_path / "in.nii.gz", Volume(slices_hu, np.diag([-1, -1, 3.0, 1]), np.dtype(np.float32)))
    for source, target in (("in", "low"), ("in.nii.gz", "low.nii.gz")):
        options = ("--noise-sd", 30, "--domain", "white", "--quiet")
        assert _run("simulate", tmp_path / source, tmp_path / target, *options).exit_code == 0
    (series,) = (path for path in (tmp_path / "low").iterdir() if path.is_dir())
    for noisy_hu in (read_series_hu(series), read_volume(tmp_path / "low.nii.gz").hu):
        inside = slices_hu[0] > -500
        assert np.abs(np.corrcoef((noisy_hu - slices_hu)[:, inside]) - np.eye(10)).max() < 0.3


def test_every_slice_gets_its_own_level_in_series_and_volumes(tmp_path: Path) -> None:
    """Ten slices, more than one batch, the thickest with twice the noise of the thinnest at the same photons."""
    axis = np.arange(96) - 47.5
    radius_px, radii_px = np.hypot(axis[:, None], axis[None, :]), np.linspace(26, 44, 10)
    slices_hu = np.stack([np.where(radius > radius_px, 0, -1000) for radius in radii_px]).astype(np.float32)
    write_ct_series(tmp_path / "in", slices_hu)
    for path in (tmp_path / "in").iterdir():
        header = pydicom.dcmread(path)
        header.PixelSpacing = [3, 3]
        header.save_as(path)
    write_volume(tmp_path / "in.nii.gz", Volume(slices_hu, np.diag([-3, -3, 3.0, 1]), np.dtype(np.float32)))
    for source, target in (("in", "low"), ("in.nii.gz", "low.nii.gz")):
        assert _run("simulate", tmp_path / source, tmp_path / target, "--noise-sd", 30, "--quiet").exit_code == 0
    (series,) = (path for path in (tmp_path / "low").iterdir() if path.is_dir())
    for noisy_hu in (read_series_hu(series), read_volume(tmp_path / "low.nii.gz").hu):
        inside = [radius - 9 > radius_px for radius in radii_px]
        sds_hu = [each[there].std() for each, there in zip(noisy_hu, inside, strict=True)]
        assert sds_hu == pytest.approx([30] * 10, rel=0.2)


def test_the_step_between_slices_does_not_count_for_the_noise(tmp_path: Path) -> None:
    slices_hu = body_phantom_hu(1, 64).repeat(2, axis=0)
    found = []
    for step_mm in (1.0, 5.0):
        affine = np.diag([-2.0, -2.0, step_mm, 1.0])
        write_volume(tmp_path / f"{step_mm}.nii", Volume(slices_hu, affine, np.dtype(np.float32)))
        target = tmp_path / f"low{step_mm}.nii"
        assert _run("simulate", tmp_path / f"{step_mm}.nii", target, "--photons", 1e5).exit_code == 0
        found.append(read_volume(target).hu)
    np.testing.assert_array_equal(*found)
    simulator = NoiseSimulator("projection", "standard", 2.0, level=1e5)  # of pixels of 2 mm
    np.testing.assert_allclose(found[0], simulator.low_dose(slices_hu), atol=0.01)


def test_the_number_of_photons_is_the_one_that_is_given() -> None:
    scan = list(body_phantom_hu(1, 64))
    assert Settings(Amount(photons=2e4)).simulator(scan, 1.0).level == 2e4


@pytest.mark.parametrize(
    "change", [{"amount": Amount(dose=0.5)}, {"domain": "image"}, {"texture": "sharp"}, {"seed": 1}]
)
def test_every_setting_makes_a_series_of_its_own(change: dict[str, Any]) -> None:
    settings = Settings(Amount(dose=0.25))
    one, other = (derived_series_uid("1.2.3", derivation_of(each)) for each in (settings, replace(settings, **change)))
    assert one != other


def test_a_series_is_chosen_from_a_folder_with_several(export: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(export.iterdir())):
        other = pydicom.dcmread(path)
        other.SeriesInstanceUID, other.SOPInstanceUID = "1.2.9", f"1.2.9.{number}"
        other.save_as(export / f"other{number}.dcm")
    result = _run("simulate", export, tmp_path / "low", "--photons", 1e5, "--quiet")
    assert result.exit_code == 0, result.output
    entries = json.loads((tmp_path / "low" / "pairs.json").read_text())
    assert len({entry["full_series"] for entry in entries}) == 2
    pairs, problems = find_pairs(tmp_path / "low" / "pairs.json")
    assert (len(pairs), problems) == (2, [])
    assert len({entry["patient"] for entry in entries}) == 1


def test_series_that_name_no_patient_are_not_taken_for_one(export: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(export.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = dataset.StudyInstanceUID = None
        dataset.save_as(path)
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.9", f"1.2.9.{number}"
        dataset.save_as(export / f"other{number}.dcm")
    result = _run("simulate", export, tmp_path / "low", "--photons", 1e5, "--quiet")
    assert result.exit_code == 0, result.output
    entries = json.loads((tmp_path / "low" / "pairs.json").read_text())
    assert len({entry["patient"] for entry in entries}) == len(entries) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "exactly one of dose, SD and photons, found 0"),
        (("--dose", 0.5, "--photons", 1e5), "found 2"),
        (("--dose", 2), "above 0 and below 1"),
        (("--photons", 1e5, "--domain", "image"), "projection domain"),
        (("--dose", 0.5, "--texture", "B30"), "unknown texture"),
    ],
)
def test_wrong_usage_leaves_nothing(export: Path, tmp_path: Path, options: tuple, message: str) -> None:
    result = _run("simulate", export, tmp_path / "low", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "low").exists()


def test_a_volume_does_not_replace_anything_unasked(tmp_path: Path) -> None:
    volume = Volume(low_dose(body_phantom_hu(1, 96), 12), np.eye(4), np.dtype(np.int16))
    for name in ("ct.nii.gz", "low.nii.gz"):
        write_volume(tmp_path / name, volume)
    for target in ("ct.nii.gz", "low.nii.gz", "folder"):
        result = _run("simulate", tmp_path / "ct.nii.gz", tmp_path / target, "--dose", 0.5)
        assert result.exit_code == 2, result.output
    assert np.array_equal(read_volume(tmp_path / "low.nii.gz").hu, read_volume(tmp_path / "ct.nii.gz").hu)


def test_not_even_overwriting_replaces_the_input(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(low_dose(body_phantom_hu(1, 64), 12), np.eye(4), np.dtype(np.int16)))
    before = source.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(source)
    for target in (source, tmp_path / "link.nii.gz"):
        result = _run("simulate", source, target, "--photons", 1e5, "--overwrite")
        assert result.exit_code == 2
        assert "the output is the input" in " ".join(result.output.split())
        assert source.read_bytes() == before


def test_a_place_that_takes_no_file_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctclip.pipeline.simulate.read_volume", lambda _: pytest.fail("began to work"))
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    (tmp_path / "folder.nii.gz").mkdir()
    for target, message in (("folder.nii.gz", "is a folder"), ("ct.nii.gz/low.nii.gz", "lies below a file")):
        result = _run("simulate", tmp_path / "ct.nii.gz", tmp_path / target, "--dose", 0.5, "--overwrite")
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())


def test_the_folder_is_made_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "ct.nii.gz", Volume(low_dose(body_phantom_hu(1, 64), 12), np.eye(4), np.dtype(np.int16)))

    def cannot(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Settings, "simulator", lambda *_: pytest.fail("began to work"))
    monkeypatch.setattr(Path, "mkdir", cannot)
    result = _run("simulate", tmp_path / "ct.nii.gz", tmp_path / "new" / "low.nii.gz", "--dose", 0.5)
    assert result.exit_code == 1
    assert "Permission denied" in result.output


@pytest.mark.parametrize(
    "amount",
    [
        *({"sd_hu": sd_hu} for sd_hu in (-1, np.inf, 1001, "a")),
        *({"photons": photons} for photons in (0, -5, 2e9)),
        *({"dose": dose} for dose in (1, "a")),
    ],
)
def test_amounts_out_of_range_are_refused(amount: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0 and at most 1|above 0 and below 1"):
        Amount(**amount)


def test_what_is_not_in_hu_is_not_simulated(tmp_path: Path) -> None:
    unit = (body_phantom_hu(2, 64) + 1024) / 4096
    write_volume(tmp_path / "unit.nii", Volume(unit, np.eye(4), np.dtype(np.float32)))
    for number, slice_hu in enumerate(body_phantom_hu(2, 64), start=1):
        pixels = (slice_hu + 1024).clip(1).astype(np.int16)
        write(fake_slice(3.0 * number, number, pixels=pixels, intercept=0), tmp_path / "raw" / str(number))
    for source, target in (("unit.nii", "low.nii"), ("raw", "low")):
        result = _run("simulate", tmp_path / source, tmp_path / target, "--photons", 1e5)
        assert result.exit_code == 1, result.output
        assert "these values are not HU" in " ".join(result.output.split())


def test_the_value_of_padding_does_not_count_for_the_noise(tmp_path: Path) -> None:
    axis = np.arange(64) - 31.5
    outside = np.hypot(axis[:, None], axis[None, :]) > 29
    inside = np.rint(body_phantom_hu(1, 64)[0] + 1024).clip(1).astype(np.int16)
    added = []
    for padding in (-2000, 2500):  # as bone would be
        assert padding not in inside
        pixels = np.where(outside, np.int16(padding), inside)
        source, target = tmp_path / f"in{padding}", tmp_path / f"low{padding}"
        write(fake_slice(0, 1, pixels=pixels, PixelPaddingValue=padding, PixelSpacing=[1, 1]), source / "1")
        result = _run("simulate", source, target, "--noise-sd", 20, "--quiet")
        assert result.exit_code == 0, result.output
        (path,) = target.rglob("*.dcm")
        low = read_slice(path)
        assert np.array_equal(low.stored[outside], pixels[outside])
        added.append((low.hu - read_slice(source / "1").hu)[~outside])
    assert added[0].std() > 5
    np.testing.assert_array_equal(*added)


def test_pairs_whose_low_dose_is_gone_are_no_longer_listed(export: Path, tmp_path: Path) -> None:
    options = ("--domain", "white", "--quiet")
    assert _run("simulate", export, tmp_path / "low", "--noise-sd", 20, *options).exit_code == 0
    (gone,) = (path for path in (tmp_path / "low").iterdir() if path.is_dir())
    shutil.rmtree(gone)
    assert _run("simulate", export, tmp_path / "low", "--noise-sd", 40, *options).exit_code == 0
    (entry,) = json.loads((tmp_path / "low" / "pairs.json").read_text())
    assert entry["low"] != gone.name


def test_pairs_of_earlier_runs_stay_listed(export: Path, tmp_path: Path) -> None:
    options = ("--domain", "white", "--quiet")
    for noise in (20, 40):
        assert _run("simulate", export, tmp_path / "low", "--noise-sd", noise, *options).exit_code == 0
    entries = json.loads((tmp_path / "low" / "pairs.json").read_text())
    assert len({entry["low"] for entry in entries}) == len(entries) == 2
    pairs, problems = find_pairs(tmp_path / "low" / "pairs.json")
    assert (len(pairs), problems) == (2, [])

    again = _run("simulate", export, tmp_path / "low", "--noise-sd", 40, *options)
    assert again.exit_code == 1
    assert "exists; give --overwrite" in " ".join(again.output.split())
    overwrite = ["simulate", export, tmp_path / "low", "--noise-sd", 40, "--overwrite", *options]
    series = next(path for path in (tmp_path / "low").iterdir() if path.is_dir())
    (series / "notes.txt").write_text("mine")
    assert "no earlier result" in _run(*overwrite).output
    (series / "notes.txt").unlink()
    assert _run(*overwrite).exit_code == 0
    assert len(json.loads((tmp_path / "low" / "pairs.json").read_text())) == 2


def test_a_pair_is_listed_as_soon_as_it_is_made(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is ended in its second series: the next run does not make the first one again."""
    write_ct_series(tmp_path / "second", low_dose(body_phantom_hu(3, 128), 12))
    for path in (tmp_path / "second").iterdir():
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID = "1.2.3.9"
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{header.InstanceNumber}"
        header.save_as(export / f"second {path.name}")
    done = []

    def ends_in_the_second(series: Series, *arguments: Any, **options: Any) -> Path:
        if done:
            raise KeyboardInterrupt
        done.append(series.uid)
        return simulate_series(series, *arguments, **options)

    monkeypatch.setattr("ctclip.pipeline.simulate.simulate_series", ends_in_the_second)
    options = ("--noise-sd", 20, "--domain", "white", "--quiet")
    assert _run("simulate", export, tmp_path / "low", *options).exit_code != 0
    (entry,) = json.loads((tmp_path / "low" / "pairs.json").read_text())
    assert [entry["full_series"]] == done


def test_a_crop_of_the_body_has_noise_in_the_circle_only_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crop = low_dose(body_phantom_hu(2, 128), 12)[:, 32:96, 32:96]
    write_volume(tmp_path / "ct.nii.gz", Volume(crop.clip(-900), np.diag([2, 2, 3, 1.0]), np.dtype(np.int16)))
    options = ("--noise-sd", 20, "--domain", "white")
    assert _run("simulate", tmp_path / "ct.nii.gz", tmp_path / "low.nii.gz", *options).exit_code == 0
    assert re.search(r"21 % of the body lies outside the inscribed circle and gets no noise", caplog.text)


def test_options_and_inputs_without_effect_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(low_dose(body_phantom_hu(1, 64), 12), np.eye(4), np.dtype(np.int16)))
    with_series = _run("simulate", source, tmp_path / "low.nii.gz", "--photons", 1e5, "--series", "1.2.3")
    assert (with_series.exit_code, "no effect on a volume: --series" in with_series.output) == (2, True)
    missing = _run("simulate", tmp_path / "typo.nii.gz", tmp_path / "low.nii.gz", "--dose", 0.5)
    assert (missing.exit_code, "the input does not exist" in " ".join(missing.output.split())) == (1, True)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["ct.nii.gz"]


def test_a_list_of_something_else_is_not_replaced(export: Path, tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "pairs.json").write_text('{"training": []}')
    result = _run("simulate", export, tmp_path / "low", "--noise-sd", 20, "--domain", "white")
    assert result.exit_code == 2
    assert "is no list of pairs" in result.output
    assert [path.name for path in (tmp_path / "low").iterdir()] == ["pairs.json"]


def test_a_series_of_two_sizes_is_simulated(export: Path, tmp_path: Path) -> None:
    first = pydicom.dcmread(sorted(export.iterdir())[0])
    odd = first.pixel_array[:96, :112]
    first.Rows, first.Columns, first.PixelData = *odd.shape, odd.tobytes()
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    first.ImagePositionPatient = [0, 0, 99]
    first.save_as(export / "odd.dcm")
    result = _run("simulate", export, tmp_path / "low", "--dose", 0.5, "--domain", "image")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "low").rglob("*.dcm"))) == 4


def test_what_cannot_be_simulated_is_a_failed_series(export: Path, tmp_path: Path) -> None:
    for path in export.iterdir():
        header = pydicom.dcmread(path)
        header.PixelSpacing = [0, 0]
        header.save_as(path)
    result = _run("simulate", export, tmp_path / "low", "--dose", 0.5)
    assert result.exit_code == 1
    assert "does not state PixelSpacing above 0" in " ".join(result.output.split())


def test_names_are_printed_as_they_are(export: Path, tmp_path: Path) -> None:
    target = tmp_path / ("a long name of a folder " * 3) / "[low] [/bold]"
    result = _run("simulate", export, target, "--noise-sd", 20, "--domain", "white")
    assert result.exit_code == 0, result.output
    assert str(target / "pairs.json") in result.output, "neither markup nor broken lines"


def test_noise_goes_by_the_pixel_size_of_each_group_of_slices(tmp_path: Path) -> None:
    volume = low_dose(body_phantom_hu(4, 96), 12)
    for folder, sizes in (("mixed", (0.5, 3.5)), ("large", (3.5,))):
        for group, size in enumerate(sizes):
            for index, slice_hu in enumerate(volume):
                pixels = np.rint(slice_hu + 1024).clip(0).astype(np.int16)
                number = 10 * group + index + 1
                ds = fake_slice(3.0 * number, number, pixels=pixels, PixelSpacing=[size, size])
                write(ds, tmp_path / folder / str(number))
        options = ["--photons", 1e5, "--quiet"]
        assert _run("simulate", tmp_path / folder, tmp_path / f"{folder}_low", *options).exit_code == 0
    added = {}
    for folder in ("mixed", "large"):
        for path in (tmp_path / f"{folder}_low").rglob("*.dcm"):
            low = read_slice(path)
            noise = low.hu - read_slice(tmp_path / folder / str(low.header.InstanceNumber)).hu
            added.setdefault((folder, float(low.header.PixelSpacing[0])), []).append(noise[40:56, 40:56].std())
    assert np.mean(added["mixed", 3.5]) == pytest.approx(np.mean(added["large", 3.5]), rel=0.15)
    assert np.mean(added["mixed", 3.5]) > 1.2 * np.mean(added["mixed", 0.5])
