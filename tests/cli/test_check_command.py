from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from typer.testing import CliRunner, Result

from ctclip.cli.main import app
from ctclip.demo import write_ct_series
from ctclip.dicom import CTSlice, derive_slice, export, read_slice, save_slice, scan
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.verification import check_series, dciodvfy
from ctclip.verification import series as check_of_series
from ctclip.verification.elements import COPIED
from tests.dicom.fake import NOW, fake_derivation, fake_pixels, fake_slice, write, write_stack

OTHERS = "every other element is that of the source, or what ctclip makes of it"

METAL = 5000
"""A stored value above the window of the network."""


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source and its derived series."""
    folder = tmp_path_factory.mktemp("check")
    write_ct_series(folder / "in", low_dose(body_phantom_hu(2, 96), 30))
    for path in (folder / "in").iterdir():
        ds = pydicom.dcmread(path)
        ds.add_new("PixelPaddingValue", "US", 0)
        values = ds.pixel_array.copy()
        values[:4] = 0
        values[8:12, 8:12] = METAL
        ds.BitsStored, ds.HighBit = 16, 15
        ds.PixelData = values.tobytes()
        ds.save_as(path)
    result = _run("denoise", folder / "in", folder / "out", "--quiet")
    assert result.exit_code == 0, result.output
    return folder / "in", next((folder / "out").iterdir())


def _changed(pair: tuple[Path, Path], folder: Path, change: Callable[[Dataset], None]) -> Path:
    """A copy of the derived series with a change in its first slice."""
    return _all_changed(pair, folder, lambda ds, number: None if number else change(ds))


def _all_changed_alike(pair: tuple[Path, Path], folder: Path, change: Callable[[Dataset], None]) -> Path:
    return _all_changed(pair, folder, lambda ds, _: change(ds))


def _all_changed(pair: tuple[Path, Path], folder: Path, change: Callable[[Dataset, int], None]) -> Path:
    for number, path in enumerate(sorted(pair[1].iterdir())):
        ds = pydicom.dcmread(path)
        change(ds, number)
        ds.save_as(folder / path.name)
    return folder


def test_our_own_output_keeps_every_rule(pair: tuple[Path, Path]) -> None:
    source, derived = pair
    result = _run("check", derived, "--source", source)
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.output
    assert result.output.count("ok ") >= len(COPIED) + 15
    assert _run("check", derived).exit_code == 0
    assert _run("check", derived, "--source", source, "--quiet").output == ""


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def _shift(by: int) -> Callable[[Dataset], None]:
    def shift(ds: Dataset) -> None:
        values = ds.pixel_array.astype(int)
        tissue = (values > -by) & (values != METAL) & (values > 0)
        ds.PixelData = (values + tissue * by).astype("<u2").tobytes()

    return shift


def _change_metal(ds: Dataset) -> None:
    values = ds.pixel_array.copy()
    values[values == METAL] -= 1
    ds.PixelData = values.tobytes()


def _lose_a_row(ds: Dataset) -> None:
    ds.PixelData = ds.pixel_array[1:].tobytes()
    ds.Rows -= 1


def _write_implicit(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _rename_in_the_file_meta(ds: Dataset) -> None:
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


def _keep_the_uid(ds: Dataset) -> None:
    ds.SOPInstanceUID = ds.SourceImageSequence[0].ReferencedSOPInstanceUID


def _name_another_source(ds: Dataset) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    ds.SourceImageSequence.append(item)


def _other_purpose(sequence: str) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds[sequence].value[-1].PurposeOfReferenceCodeSequence[0], "CodeValue", "1")


def _fill_padding(ds: Dataset) -> None:
    ds.PixelData = np.maximum(ds.pixel_array, 1).astype("<u2").tobytes()


def _change_pixel(row: int, value: int) -> Callable[[Dataset], None]:
    """In the middle column, where the patient is."""

    def change(ds: Dataset) -> None:
        values = ds.pixel_array.copy()
        values[row, 48] = value
        ds.PixelData = values.tobytes()

    return change


def _turn_upside_down(ds: Dataset) -> None:
    ds.PixelData = ds.pixel_array[::-1].tobytes()


def _make_a_number(keyword: str) -> Callable[[Dataset], None]:
    """A sequence with the representation of a number."""

    def change(ds: Dataset) -> None:
        del ds[keyword]
        ds.add_new(Tag(keyword), "US", 5)

    return change


def _in_the_reference(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds.SourceImageSequence[0], keyword, value)


def _add_a_private_element(ds: Dataset) -> None:
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "words")


def _forget_source(ds: Dataset) -> None:
    ds.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_set("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"]), r"ImageType begins with DERIVED\SECONDARY\AXIAL"),
        (_set("RescaleType", "US"), "RescaleType is HU"),
        (_set("SeriesDescription", "x" * 65), "SeriesDescription is there, with 64 characters at most"),
        (_set("DerivationDescription", "smoothed"), "DerivationDescription names ctclip"),
        (_set("StudyInstanceUID", "1.2.3"), "each slice has its own SOPInstanceUID, all have one StudyInstanceUID"),
        (_set("ContributingEquipmentSequence", []), "ContributingEquipmentSequence names the processing"),
        (_set("PixelSpacing", [0.7, 0.8]), "PixelSpacing is that of the source"),
        (_set("KVP", 80), "KVP is that of the source"),
        (_set("RescaleIntercept", -1000), "RescaleIntercept is that of the source"),
        (_forget_source, "every slice has its own source slice"),
        (_shift(4), "mean shift in flat soft tissue is at most 1 HU"),
        (_shift(-4), "mean shift in flat soft tissue is at most 1 HU"),
        (_change_metal, "values outside [-1024, 3072] HU are unchanged"),
        (_lose_a_row, "Rows is that of the source"),
        (_set("Modality", ""), "SOPClassUID is CT Image Storage, Modality CT"),
        (_write_implicit, "transfer syntax is Explicit VR Little Endian"),
        (_rename_in_the_file_meta, "the file meta names the slice"),
        (_keep_the_uid, "SOPInstanceUID and SeriesInstanceUID are new"),
        (_set("SeriesDescription", ""), "SeriesDescription is there, with 64 characters at most"),
        (_set("SeriesNumber", None), "SeriesNumber is there"),
        (_name_another_source, "SourceImageSequence names one source slice"),
        (_other_purpose("SourceImageSequence"), "SourceImageSequence names one source slice"),
        (_other_purpose("ContributingEquipmentSequence"), "ContributingEquipmentSequence names the processing"),
        (_set("StudyInstanceUID", "1.2.3"), "StudyInstanceUID is that of the source, where it has one"),
        (_set("ImageOrientationPatient", [1, 0, 0, 0, 1, 1e-4]), "ImageOrientationPatient is that of the source"),
        (_fill_padding, "padding is bit-exact"),
        (_set("ContentTime", ""), "series, instance and content are dated"),
        (_set("DerivationCodeSequence", []), "DerivationCodeSequence names the smoothing, when denoised"),
        (_make_a_number("SourceImageSequence"), "SourceImageSequence names one source slice"),
        (_make_a_number("ContributingEquipmentSequence"), "ContributingEquipmentSequence names the processing"),
        (_set("SeriesNumber", 2), "SeriesNumber is not that of the source"),
        (_set("PhotometricInterpretation", "MONOCHROME1"), OTHERS),
        (_set("WindowCenter", 1000), OTHERS),
        (_set("PixelPaddingValue", 1064), OTHERS),
        (_set("PatientAge", "020Y"), OTHERS),
        (_set("StudyID", "9"), OTHERS),
        (_in_the_reference("SpatialLocationsPreserved", "NO"), OTHERS),
        (_in_the_reference("ReferencedSOPClassUID", SecondaryCaptureImageStorage), OTHERS),
        (_add_a_private_element, OTHERS),
        (_change_pixel(60, 0), "pixels that are no padding do not get its value"),
        (_change_pixel(60, 4200), "values inside [-1024, 3072] HU stay inside"),
        (_shift(40), "mean shift of each slice is at most 5 HU or half of its noise"),
        (_turn_upside_down, "each slice shows the anatomy of its source"),
    ],
)
def test_each_broken_rule_is_found(
    pair: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Dataset], None],
    rule: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dciodvfy.shutil, "which", lambda name: None)  # it takes longer than all rules together
    findings = {each.rule: each.passed for each in check_series(_changed(pair, tmp_path, change), pair[0])}
    assert findings[rule] is False


def test_uids_that_all_slices_have_in_common_are_checked_too(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source = pydicom.dcmread(next(pair[0].iterdir()))
    second = pydicom.dcmread(sorted(pair[1].iterdir())[1])
    own, distinct = "every slice has its own source slice", "each slice has its own SOPInstanceUID, all have one Study"
    for name, keyword, value, rule in (
        ("series", "SeriesInstanceUID", source.SeriesInstanceUID, "SOPInstanceUID and SeriesInstanceUID are new"),
        ("study", "StudyInstanceUID", "", distinct),
        ("slice", "SOPInstanceUID", second.SOPInstanceUID, distinct),
        ("reference", "SourceImageSequence", second.SourceImageSequence, own),
    ):
        (tmp_path / name).mkdir()
        folder = _all_changed(pair, tmp_path / name, lambda ds, _, of=(keyword, value): setattr(ds, *of))
        (finding,) = (each for each in check_series(folder, pair[0]) if each.rule.startswith(rule))
        assert not finding.passed, name
    assert finding.detail == "1 of 2 slices name the one that another names"


def test_simulated_noise_may_carry_metal_beyond_the_window(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def change(ds: Dataset, _: object, made_by: str) -> None:
        ds.DerivationDescription = ds.DerivationDescription.replace("Denoised by ctclip", made_by)
        _change_pixel(60, 4200)(ds)

    for made_by, kept in (("Denoised by ctclip", False), ("Noise inserted by ctclip", True)):
        (tmp_path / made_by).mkdir()
        folder = _all_changed(pair, tmp_path / made_by, partial(change, made_by=made_by))
        (finding,) = (each for each in check_series(folder, pair[0]) if each.rule.endswith("stay inside"))
        assert finding.passed == kept


@pytest.mark.parametrize("by", [1, 2])
def test_pixels_of_another_slice_are_found(tmp_path: Path, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that is not the next; slices that are alike tell nothing."""
    monkeypatch.setattr(dciodvfy.shutil, "which", lambda name: None)
    noise = np.random.default_rng(0).normal(0, 20, (2, 4, 64, 64))
    x = np.arange(64)
    body = np.stack([np.where(abs(x - 20 - 4 * i) < 12, 60, -200) + np.zeros((64, 1)) for i in range(4)])
    for name, anatomy, found in (("moving", body, 4), ("alike", body[[0] * 4], 0)):
        before, after = (np.rint(anatomy + each + 1024).astype(np.int16) for each in (noise[0], noise[1] / 4))
        for kind, order, broken in (("own", np.arange(4), 0), ("exchanged", np.roll(np.arange(4), by), found)):
            folder = tmp_path / name / kind
            slices = [fake_slice(2.0 * i, i + 1, pixels=pixels) for i, pixels in enumerate(before)]
            _derive(folder, *slices, stored=after[order])
            (finding,) = (each for each in check_series(folder / "out", folder / "in") if "neighbours" in each.rule)
            assert finding.passed == (not broken), (name, kind)
            assert finding.detail[:1] == (str(broken) if broken else ""), (name, kind)


def test_private_elements_are_all_kept_or_all_dropped(tmp_path: Path) -> None:
    for name, keep, passed in (("kept", True, True), ("dropped", False, True), ("half", True, False)):
        source = fake_slice()
        block = source.private_block(0x0009, "SOMEBODY", create=True)
        block.add_new(1, "LO", "one")
        block.add_new(2, "LO", "two")
        _derive(tmp_path / name, source, keep_private=keep)
        if not passed:
            (path,) = (tmp_path / name / "out").iterdir()
            ds = pydicom.dcmread(path)
            del ds[0x0009, 0x1002]
            ds.save_as(path)
        findings = check_series(tmp_path / name / "out", tmp_path / name / "in")
        assert [each.passed for each in findings if each.rule == OTHERS] == [passed]


def test_a_series_is_not_compared_with_sources_that_are_not_there(pair: tuple[Path, Path], tmp_path: Path) -> None:
    rules = {each.rule for each in check_series(_changed(pair, tmp_path, _forget_source), pair[0])}
    assert not any(rule.endswith("is that of the source") for rule in rules)


def test_other_series_beside_the_source_need_no_derived_slices(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(pair[0], tmp_path / "in")
    write_stack(tmp_path / "in" / "other", [0, 2])
    assert [each for each in check_series(pair[1], tmp_path / "in") if not each.passed] == []
    # the derived series among the source is not one whose UIDs are taken
    shutil.copytree(pair[1], tmp_path / "in" / "derived")
    assert [each for each in check_series(pair[1], tmp_path / "in") if not each.passed] == []


def test_uids_of_other_slices_and_series_of_the_source_are_not_new(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(pair[0], tmp_path / "in")
    (other,) = map(pydicom.dcmread, write_stack(tmp_path / "in" / "other", [0]))
    second = pydicom.dcmread(sorted(pair[0].iterdir())[1])
    for keyword, taken in (("SeriesInstanceUID", other.SeriesInstanceUID), ("SOPInstanceUID", second.SOPInstanceUID)):
        (tmp_path / keyword).mkdir()
        changed = _changed if keyword == "SOPInstanceUID" else _all_changed_alike
        folder = changed(pair, tmp_path / keyword, _set(keyword, taken))
        findings = check_series(folder, tmp_path / "in")
        assert [each.passed for each in findings if each.rule.endswith("are new")] == [False], keyword


def test_the_source_itself_is_no_derived_series(pair: tuple[Path, Path]) -> None:
    result = _run("check", pair[0])
    assert result.exit_code == 1
    assert "FAILED DerivationDescription names ctclip" in result.output


def test_a_damaged_slice_is_a_finding(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def cut(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:100]

    others, decoded = check_series(_changed(pair, tmp_path, cut), pair[0])
    assert others.passed
    assert (decoded.rule, decoded.passed) == ("every slice can be decoded", False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "empty, or zeros where a DICOM file starts"),
        (200, "no SOPInstanceUID"),
        (_set("Modality", "MR"), "Modality MR"),
        (_set("ImageType", ["DERIVED", "SECONDARY", "LOCALIZER"]), "localizer"),
        (_set("RescaleType", "HU_MOD"), "RescaleType HU_MOD: not HU"),
        (_set("SOPClassUID", SecondaryCaptureImageStorage), "Secondary Capture"),
    ],
)
def test_a_slice_that_is_none_any_more_is_found(
    pair: tuple[Path, Path], tmp_path: Path, change: Callable[[Dataset], None] | int | None, reason: str
) -> None:
    folder = _changed(pair, tmp_path, change if callable(change) else lambda ds: None)
    if not callable(change):
        (folder / "0001.dcm").write_bytes((folder / "0001.dcm").read_bytes()[: change or 0])
    result = _run("check", folder, "--quiet")
    assert result.exit_code == 1
    assert result.output.strip() == f"FAILED every file in the folder is a slice of the series (1 x {reason})"


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._0001.dcm"])
def test_what_the_system_leaves_in_the_folder_does_not_count(
    pair: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    shutil.copytree(pair[1], tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"of the system")
    result = _run("check", tmp_path / "out")
    assert result.exit_code == 0, result.output


def test_what_lies_beside_the_folder_of_the_series_does_not_count(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(pair[1], tmp_path / "out" / pair[1].name)
    (tmp_path / "out" / "report.json").write_text("{}")
    assert _run("check", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(("keyword", "value"), [("SeriesNumber", 77), ("SeriesDescription", "other")])
def test_a_series_has_one_number_and_one_description(
    pair: tuple[Path, Path], tmp_path: Path, keyword: str, value: object
) -> None:
    folder = _changed(pair, tmp_path, _set(keyword, value))
    for source in (None, pair[0]):
        broken = [(each.rule, each.detail) for each in check_series(folder, source) if not each.passed]
        assert broken == [(f"all slices have one {keyword}", "2 values")]


def test_descriptions_that_differ_in_the_source_may_differ(tmp_path: Path) -> None:
    _derive(tmp_path, *(fake_slice(2.0 * i, i, SeriesDescription=f"part {i}") for i in (1, 2)))
    rule = "all slices have one SeriesDescription"
    for source, passed in ((tmp_path / "in", True), (None, False)):
        findings = check_series(tmp_path / "out", source)
        assert [each.passed for each in findings if each.rule == rule] == [passed]


def _derive(folder: Path, *slices: Dataset, stored: np.ndarray | None = None, keep_private: bool = False) -> None:
    """Write slices to "in" and what would be derived from them, with other pixels where they are given, to "out"."""
    (folder / "out").mkdir(parents=True)
    derivation = fake_derivation(keep_private=keep_private)
    for number, source in enumerate(slices):
        ct = read_slice(write(source, folder / "in" / f"{number}"))
        pixels = ct.stored if stored is None else stored[number]
        derived = derive_slice(ct, pixels, derivation, series_number=1004, now=NOW)
        save_slice(derived, folder / "out" / f"{number}.dcm")


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_the_length_of_a_text_is_that_in_characters(tmp_path: Path) -> None:
    """dciodvfy counts bytes, and a Chinese letter has three of them."""
    _derive(tmp_path, fake_slice(SpecificCharacterSet="ISO_IR 192", SeriesDescription="\u8180" * 20))
    (path,) = (tmp_path / "out").iterdir()
    for description, passed in ((None, True), ("\u8180" * 64, True), ("\u8180" * 65, False)):
        if description:
            ds = pydicom.dcmread(path)
            ds.SeriesDescription = description
            ds.save_as(path)
        (finding,) = (each for each in check_series(tmp_path / "out", tmp_path / "in") if "dciodvfy" in each.rule)
        assert finding.passed == passed, finding.detail


def test_the_export_is_scanned_once_however_many_series_are_checked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for series in ("1.2.9.1", "1.2.9.2", "1.2.9.3"):
        write_stack(tmp_path / "in" / series, [0, 2], series=series)
    scanned: list[Path] = []
    for module in (check_of_series, export):
        monkeypatch.setattr(module, "scan", lambda folder: scanned.append(folder) or scan(folder))
    _run("denoise", tmp_path / "in", tmp_path / "out", "--check", "--model", tiny_model, "--device", "cpu")
    derived = list((tmp_path / "out").iterdir())
    assert len(derived) == 3
    assert sorted(scanned) == sorted([tmp_path / "in", *derived])


def test_denoise_checks_its_own_output_on_request(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality, report = tmp_path / "quality", tmp_path / "report.json"
    options = ["--check", "--qc", quality, "--report", report]
    for again in ([], ["--resume"]):
        result = _run("denoise", pair[0], tmp_path / "out", *options, *again)
        assert result.exit_code == 0, result.output
        assert "all rules kept" in result.output
        (series,) = json.loads(report.read_text())["series"]
        assert series["checked"] is True
        assert (quality / series["quality_report"]).is_file()
        assert str(quality) in result.output.replace("\n", "")
    monkeypatch.setattr("ctclip.verification.pixels.MAX_BIAS_HU", -1.0)
    result = _run("denoise", pair[0], tmp_path / "other", "--check")
    assert result.exit_code == 1
    assert "written, but not: mean shift in flat soft tissue" in result.output
    assert "all rules kept" not in result.output


def test_a_folder_with_two_series_is_one_line(pair: tuple[Path, Path]) -> None:
    result = _run("check", pair[0].parent)
    assert result.exit_code == 1
    assert "found 2 series" in result.output


def test_a_folder_without_a_series_is_one_line_with_the_reason(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = _run("check", _all_changed_alike(pair, tmp_path, _set("Modality", "MR")))
    assert result.exit_code == 1
    assert "expected the folder of one derived series, found 0 series: 2 x Modality MR" in result.output


def test_a_slice_that_is_missing_in_the_derived_series_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    first = sorted(pair[1].iterdir())[0]
    (tmp_path / "half" / first.name).write_bytes(first.read_bytes())
    broken = [each for each in check_series(tmp_path / "half", pair[0]) if not each.passed]
    assert [(each.rule, each.detail) for each in broken] == [
        ("every slice of the source series has a derived slice", "1 source slices have none")
    ]


def test_a_lossy_source_stays_lossy(tmp_path: Path) -> None:
    """The stream counts: this header does not say that it is lossy."""
    source = fake_slice(pixels=fake_pixels(shape=(64, 80)))
    source.compress(JPEG2000, j2k_cr=[5], generate_instance_uid=False)
    ct = read_slice(write(source, tmp_path / "in" / "a"))
    rule = "LossyImageCompression does not go back from 01"
    for kept in (True, False):
        ds = derive_slice(ct, ct.stored, fake_derivation(), series_number=1004, now=NOW)
        assert ds.LossyImageCompression == "01"
        if not kept:
            ds.LossyImageCompression = "00"
        (tmp_path / f"out{kept}").mkdir()
        save_slice(ds, tmp_path / f"out{kept}" / "a.dcm")
        findings = check_series(tmp_path / f"out{kept}", tmp_path / "in")
        assert [each.passed for each in findings if each.rule == rule] == [kept]


def test_values_below_the_window_are_unchanged_too(tmp_path: Path) -> None:
    pixels = fake_pixels()
    pixels[5, 5] = -100
    ct = read_slice(write(fake_slice(pixels=pixels), tmp_path / "in" / "a"))
    (tmp_path / "out").mkdir()
    for by, passed in ((0, True), (1, False)):
        changed = ct.stored + np.where(pixels == -100, by, 0).astype(np.int16)
        derived = derive_slice(ct, changed, fake_derivation(), series_number=1004, now=NOW)
        save_slice(derived, tmp_path / "out" / "a.dcm")
        findings = check_series(tmp_path / "out", tmp_path / "in")
        assert [each.passed for each in findings if each.rule.startswith("values outside")] == [passed]


def test_the_check_holds_few_slices_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = write_stack(tmp_path / "in", range(12))
    (tmp_path / "out").mkdir()
    for number, path in enumerate(sources):
        ct = read_slice(path)
        ds = derive_slice(ct, ct.stored, fake_derivation(), series_number=1004, now=NOW)
        save_slice(ds, tmp_path / "out" / f"{number}.dcm")
    monkeypatch.setattr(dciodvfy.shutil, "which", lambda name: None)
    alive: weakref.WeakSet[CTSlice] = weakref.WeakSet()
    counts = []

    def counted(path: Path) -> CTSlice:
        ct = read_slice(path)
        alive.add(ct)
        counts.append(len(alive))
        return ct

    monkeypatch.setattr(CTSlice, "__hash__", object.__hash__)  # to count them: arrays have none
    monkeypatch.setattr(CTSlice, "__eq__", object.__eq__)
    monkeypatch.setattr(check_of_series, "read_slice", counted)
    assert all(each.passed for each in check_series(tmp_path / "out", tmp_path / "in"))
    assert len(counts) == 24
    assert max(counts) == 2, "a slice and its source"


def test_dciodvfy_quotes_no_patient(monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path]) -> None:
    lines = ["Error - Value invalid for this VR - (0x0010,0x0010) PN [1] = <Muster^Eva> - Length", 'Error - "Muster"']
    monkeypatch.setattr(dciodvfy.shutil, "which", lambda name: name)
    for line in lines:
        monkeypatch.setattr(dciodvfy, "_errors", lambda path, line=line: [line] if "in" not in path.parts else [])
        (finding,) = (each for each in check_series(pair[1]) if each.rule == "dciodvfy finds no new errors")
        assert not finding.passed
        assert "Muster" not in finding.detail
        assert "<...>" in finding.detail


def test_a_shift_beside_padding_that_tissue_could_have_is_found(tmp_path: Path) -> None:
    hu = low_dose(body_phantom_hu(2, 128), 20)
    hu[:, :40] = 0
    for index, slice_hu in enumerate(hu):
        pixels = np.rint(slice_hu).astype(np.int16)
        source = write(
            fake_slice(2.0 * index, index + 1, pixels=pixels, intercept=0.0, PixelPaddingValue=0),
            tmp_path / "in" / f"{index}",
        )
        ct = read_slice(source)
        assert ct.padding[:40].all()
        shifted = np.where(ct.padding, ct.stored, ct.stored + 30).astype(np.int16)
        derived = derive_slice(ct, shifted, fake_derivation(), series_number=9, now=NOW)
        (tmp_path / "out").mkdir(exist_ok=True)
        save_slice(derived, tmp_path / "out" / f"{index}.dcm")
    (finding,) = (each for each in check_series(tmp_path / "out", tmp_path / "in") if "mean shift in flat" in each.rule)
    assert not finding.passed
    assert finding.detail == "+30.00 HU"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_a_description_that_was_wrong_before_is_no_new_error(tmp_path: Path) -> None:
    source = write(fake_slice(SeriesDescription="Kopf"), tmp_path / "in" / "1")
    # a letter outside of the default character set, as some exports have it
    source.write_bytes(source.read_bytes().replace(b"Kopf", b"K\xf6pf"))
    ct = read_slice(source)
    (tmp_path / "out").mkdir()
    derived = derive_slice(ct, ct.stored, fake_derivation(), series_number=9, now=NOW)
    save_slice(derived, tmp_path / "out" / "1.dcm")
    (finding,) = (each for each in check_series(tmp_path / "out", tmp_path / "in") if "dciodvfy" in each.rule)
    assert finding.passed, finding.detail
