"""Every layout of training data, from files made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from ctclip.checks import or_exit
from ctclip.data.images import find_images
from ctclip.data.layouts import hashed
from ctclip.data.scans import read_scan
from ctclip.data.sources import are_pairs, find_items, normal_dose, patient_weights, split_by_patient
from ctclip.errors import DataError, SeriesError
from ctclip.transforms import LoadImageCTd
from ctclip.transforms.load import CTReader
from ctclip.units import PADDING_HU
from tests.dicom.fake import write_stack


def _volume(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((4, 5, 3), value, np.int16), np.diag([-0.5, -0.5, 2, 1])), path)


def test_volumes_of_one_folder_are_one_patient(tmp_path: Path) -> None:
    for name in ("anna/1.nii.gz", "anna/deep/2.nii.gz", "otto.nii.gz"):
        _volume(tmp_path / name)
    items = find_items(tmp_path)
    assert len(items) == 3
    assert len({item["patient"] for item in items}) == 2
    assert not any("anna" in item["patient"] for item in items), "hashes, not names"
    assert sorted(patient_weights(items)) == [0.5, 0.5, 1.0]


def test_volumes_of_the_decathlon_and_of_nnunet_are_patients_of_their_own(tmp_path: Path) -> None:
    for name in ("imagesTr/a_1.nii.gz", "imagesTr/a_2.nii.gz", "imagesTs/a_3.nii.gz", "Task09/imagesVal/a_4.nii.gz"):
        _volume(tmp_path / name)
    for name in ("imagesTr/anna/1.nii.gz", "imagesTr/anna/2.nii.gz"):
        _volume(tmp_path / name)
    items = find_items(tmp_path)
    assert sorted(patient_weights(items)) == [0.5, 0.5, 1, 1, 1, 1]
    assert {item["patient"] for item in find_items(tmp_path / "imagesTr")} < {item["patient"] for item in items}


def test_a_dicom_series_is_one_item_in_the_order_of_its_positions(tmp_path: Path) -> None:
    write_stack(tmp_path / "export", [6.0, 4.0, 2.0, 0.0])
    (item,) = find_items(tmp_path)
    image = LoadImageCTd("image")(item)["image"]
    assert image.shape[0] == 1
    assert image.shape[-1] == 4
    # LPS (-10, -20, 0) and steps of 2 mm along z.
    expected = [[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(image.affine, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("value", "message"), [(1024, "smallest 1024, largest 1024"), (0, "smallest 0")])
def test_volumes_that_cannot_be_hu_are_refused(tmp_path: Path, value: int, message: str) -> None:
    """Stored values without their intercept, and masks of a segmentation."""
    _volume(tmp_path / "a.nii.gz", value)
    with pytest.raises(SystemExit, match=f"^ctclip: a.nii.gz: these values are not HU: {message}"):
        or_exit(LoadImageCTd("image"), {"image": str(tmp_path / "a.nii.gz")})


def test_dicom_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", (0, 2, 1))
    for number, path in enumerate(sorted((tmp_path / "in").iterdir())):
        path.rename(path.with_name(f"{number}.{('mha', 'nii', 'nrrd')[number]}"))
    (item,) = find_items(tmp_path / "in")
    assert [Path(name).name for name in item["image"]] == ["0.mha", "2.nrrd", "1.nii"]
    assert LoadImageCTd("image")(item)["image"].shape[-1] == 3
    one = tmp_path / "in" / "0.mha"
    (alone,) = find_items(one)
    assert alone["image"] == [str(one)]
    assert read_scan([one]).hu.shape[0] == 1


def test_two_studies_of_one_patient_stay_together(tmp_path: Path) -> None:
    write_stack(tmp_path / "a", [0.0, 2.0])
    write_stack(tmp_path / "b", [0.0, 2.0], series="1.2.3.9", StudyInstanceUID="1.2.3.8")
    write_stack(tmp_path / "c", [0.0, 2.0], series="1.2.3.10", PatientID="other")
    assert len({item["patient"] for item in find_items(tmp_path)}) == 2


def test_mayo_pairs_are_matched_by_position_not_by_name(tmp_path: Path) -> None:
    write_stack(tmp_path / "L067" / "quarter_1mm", [10.0, 12.0, 14.0])
    write_stack(tmp_path / "L067" / "full_1mm", [16.0, 14.0, 12.0, 10.0, 8.0], series="1.2.3.9")
    (item,) = find_items(tmp_path)
    assert (len(item["image"]), len(item["label"])) == (3, 3)
    low, full = (LoadImageCTd("image")({"image": item[key]})["image"] for key in ("image", "label"))
    np.testing.assert_allclose(low.affine, full.affine)
    assert normal_dose([item])[0]["image"] == item["label"]


def _volume_scans(folder: Path, _: str) -> None:
    _volume(folder / "a.nii.gz")


def _dicom_scans(folder: Path, series: str) -> None:
    write_stack(folder / "study", [0.0, 2.0], series=series, PatientID=folder.name)


def _mayo_scans(folder: Path, series: str) -> None:
    write_stack(folder / "quarter_1mm", [0.0, 2.0])
    write_stack(folder / "full_1mm", [0.0, 2.0], series=series)


def _tcia_scans(folder: Path, series: str) -> None:
    write_stack(folder / "12-23-2021" / "1.000000-Low Dose Images-39", [0.0, 2.0])
    write_stack(folder / "12-23-2021" / "1.000000-Full dose images-71", [0.0, 2.0], series=series)


@pytest.mark.parametrize("make", [_volume_scans, _dicom_scans, _mayo_scans, _tcia_scans])
def test_links_to_the_folders_of_patients_are_followed_in_every_layout(
    tmp_path: Path, make: Callable[[Path, str], None]
) -> None:
    """A low-dose scan whose pair is not found would count as one of normal dose."""
    store, data = tmp_path / "store", tmp_path / "data"
    for name, series in (("L067", "1.2.3.8"), ("L506", "1.2.3.9")):
        make(store / name, series)
        data.mkdir(exist_ok=True)
        (data / name).symlink_to(store / name)
    (data / "again").symlink_to(data)
    stored, linked = find_items(store), find_items(data)
    assert len(linked) == 2
    assert [item["patient"] for item in linked] == [item["patient"] for item in stored]
    assert [set(item) for item in linked] == [set(item) for item in stored]
    assert str(normal_dose(linked)).replace(str(data), str(store)) == str(normal_dose(stored))


def test_links_that_gather_patients_inside_the_data_do_not_make_them_one(tmp_path: Path) -> None:
    for name in ("p1", "p2", "p3"):
        _volume(tmp_path / name / "x.nii.gz")
        (tmp_path / "folds" / "0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "folds" / "0" / name).symlink_to(tmp_path / name)
    (tmp_path / "p3" / "x.nii.gz").rename(tmp_path / "folds" / "contents.nii.gz")
    (tmp_path / "p3" / "x.nii.gz").symlink_to(tmp_path / "folds" / "contents.nii.gz")
    assert sorted(item["patient"] for item in find_items(tmp_path)) == sorted(map(hashed, ("p1", "p2", "p3", "folds")))


def test_scans_that_are_named_low_dose_and_fit_no_layout_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _volume(tmp_path / "fulldose" / "a.nii.gz")
    _volume(tmp_path / "anna" / "x.nii.gz")
    find_items(tmp_path)
    assert "taken for normal dose" not in caplog.text
    _volume(tmp_path / "QuarterDose" / "a.nii.gz")
    assert len(find_items(tmp_path)) == 3
    assert "taken for normal dose, though a folder is named low or quarter dose: 1 of 3 scans" in caplog.text


def test_links_to_folders_of_photographs_are_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "store" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "twice").symlink_to(tmp_path / "store")
    (item,) = find_images(tmp_path / "data")
    assert item["image"] == str(tmp_path / "data" / "more" / "a.png"), "each folder once, by its first name"


def test_what_the_system_leaves_beside_files_is_no_scan_and_no_image(tmp_path: Path) -> None:
    _volume(tmp_path / "A.nii.gz")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in ("._A.nii.gz", "._a.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert [Path(item["image"]).name for item in find_items(tmp_path)] == ["A.nii.gz"]
    assert [Path(item["image"]).name for item in find_images(tmp_path)] == ["a.png"]


def test_the_log_says_how_many_scans_and_pairs_were_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, series in (("L067", "1.2.3.8"), ("L506", "1.2.3.9")):
        _mayo_scans(tmp_path / name, series)
    with caplog.at_level("INFO", "ctclip"):
        find_items(tmp_path)
        find_items(tmp_path / "L067" / "quarter_1mm")
    assert [record.message for record in caplog.records] == [
        "found 2 scans of 2 patients; pairs of low and full dose among them: 2",
        "found 1 scans of 1 patients; pairs of low and full dose among them: 0",
    ]


def test_series_without_common_positions_are_no_pair(tmp_path: Path) -> None:
    write_stack(tmp_path / "L067" / "quarter_1mm", [100.0, 102.0])
    write_stack(tmp_path / "L067" / "full_1mm", [0.0, 2.0], series="1.2.3.9")
    with pytest.raises(DataError, match="no slice position in common"):
        find_items(tmp_path)


def test_decathlon_lists(tmp_path: Path) -> None:
    for name in ("low.nii.gz", "full.nii.gz"):
        _volume(tmp_path / "images" / name)
    entry = {"image": "images/low.nii.gz", "label": "images/full.nii.gz", "patient": "7"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [entry]}))
    (item,) = find_items(tmp_path / "list.json")
    assert item["image"].endswith("low.nii.gz")
    assert item["label"].endswith("full.nii.gz")
    with pytest.raises(DataError, match="section 'test'"):
        find_items(tmp_path / "list.json", "test")
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "images/gone.nii.gz"}]}))
    with pytest.raises(DataError, match="not there"):
        find_items(tmp_path / "list.json")


def test_entries_of_names_of_their_own_are_the_same_patients_wherever_the_images_lie(tmp_path: Path) -> None:
    """So that a list keeps the patients that an earlier training held out."""
    for folder in ("here", "there"):
        for name in "ab":
            _volume(tmp_path / folder / f"{name}.nii.gz")
        entries = [{"image": f"{folder}/{name}.nii.gz"} for name in "ab"]
        (tmp_path / f"{folder}.json").write_text(json.dumps({"training": entries}))
    here, there = ([item["patient"] for item in find_items(tmp_path / f"{name}.json")] for name in ("here", "there"))
    assert here == there
    assert len(set(here)) == 2


@pytest.mark.parametrize("unnamed", [{}, {"patient": None}, {"patient": ""}])
def test_entries_without_a_patient_are_told_apart_by_their_paths(tmp_path: Path, unnamed: dict) -> None:
    for name in "abc":
        _volume(tmp_path / name / "ct.nii.gz")
    entries: list[dict] = [{"image": f"{name}/ct.nii.gz", **unnamed} for name in "ab"]
    entries += [{"image": f"{name}/ct.nii.gz", "patient": 0} for name in "bc"]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    assert sorted(patient_weights(find_items(tmp_path / "list.json"))) == [0.5, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": 5}, "expected an object with an array as section 'training'"),
        ({"training": ["low.nii.gz"]}, "every entry of 'training' needs an 'image', found low.nii.gz"),
        ({"training": [{"image": None}]}, "'image' in the data list must be the name of a file, found 'None'"),
        ({"training": [{"image": 5}]}, "'image' in the data list must be"),
        ({"training": [{"image": ["low.nii.gz"]}]}, "'image' in the data list must be"),
        ({"training": [{"image": "low.nii.gz", "label": None}]}, "'label' in the data list must be"),
        ({"training": [{"image": "low.nii.gz", "label": ""}]}, "'label' in the data list must be"),
        ({"training": [{"image": "folder"}]}, "names folder, which is a folder"),
        ("just text", "expected an object"),
    ],
)
def test_entries_that_name_no_file(tmp_path: Path, content: object, message: str) -> None:
    _volume(tmp_path / "low.nii.gz")
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        find_items(tmp_path / "list.json")


def test_a_file_of_another_kind_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "notes.txt"}]}))
    (item,) = find_items(tmp_path / "list.json")
    with pytest.raises(SystemExit, match="^ctclip: notes.txt is neither a DICOM file nor a volume: expected [^\n]*$"):
        or_exit(LoadImageCTd("image"), item)


def test_pairs_and_single_scans_are_not_measured_together() -> None:
    pair, scan = {"image": "a", "label": "b"}, {"image": "c"}
    assert are_pairs([pair, pair])
    assert not are_pairs([scan])
    with pytest.raises(DataError, match="1 of 3 entries have a 'label': expected all of them or none"):
        are_pairs([scan, pair, scan])


def test_no_patient_is_on_both_sides_of_a_split() -> None:
    items = [{"image": str(i), "patient": str(i // 3)} for i in range(30)]
    train, held_out = split_by_patient(items, 0.2, seed=1)
    assert len(train) + len(held_out) == 30
    assert len({item["patient"] for item in held_out}) == 2
    assert not {item["patient"] for item in train} & {item["patient"] for item in held_out}
    assert split_by_patient(items, 0.2, seed=1) == (train, held_out)
    assert split_by_patient(items, 0.0)[1] == []
    assert len(split_by_patient(items, 0.001)[1]) == 3, "one patient at least"
    assert len({split_by_patient(items, 0.1, seed)[1][0]["patient"] for seed in range(20)}) > 5
    with pytest.raises(DataError, match="cannot hold out 0.5 of 1 patients or images: at least one"):
        split_by_patient(items[:3], 0.5)
    assert split_by_patient(items, np.float32(0.5)) == split_by_patient(items, 0.5)  # type: ignore[arg-type]
    for share in ("abc", float("nan"), 1, -0.1, True):  # options on the command line
        with pytest.raises(
            DataError, match=f"^the share to hold out must be a number from 0 to below 1, found {share!r}"
        ):
            split_by_patient(items, share)  # type: ignore[arg-type]


def test_volumes_beside_dicom_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "export", [0.0, 2.0])
    _volume(tmp_path / "export" / "mask.nii.gz")
    with pytest.raises(DataError, match="1 volumes beside 1 DICOM series; give a folder or a list with one"):
        find_items(tmp_path)
    assert len(find_items(tmp_path / "export" / "mask.nii.gz")) == 1


def test_a_single_scan_and_a_list_of_pairs(tmp_path: Path) -> None:
    first = write_stack(tmp_path / "low", [0.0, 2.0])[0]
    (item,) = find_items(first)
    assert len(item["image"]) == 1
    _volume(tmp_path / "a.nii.gz", -50)
    _volume(tmp_path / "b.nii.gz", -70)
    (tmp_path / "pairs.json").write_text(json.dumps([{"low": "a.nii.gz", "full": "b.nii.gz"}]))
    for name in ("pairs.csv", "PAIRS.CSV"):
        (tmp_path / name).write_text("low,full\na.nii.gz,b.nii.gz\n")
    (tmp_path / "PAIRS.JSON").write_bytes((tmp_path / "pairs.json").read_bytes())
    (tmp_path / "DECATHLON.JSON").write_text(json.dumps({"training": [{"image": "b.nii.gz"}]}))
    for name in ("pairs.json", "pairs.csv", "PAIRS.JSON", "PAIRS.CSV", "DECATHLON.JSON"):
        (item,) = find_items(tmp_path / name)
        assert LoadImageCTd("image")(normal_dose([item])[0])["image"].max() == -70


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_items(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(DataError, match=r"nothing to use in .*: expected NIfTI, NRRD or MetaImage \(\.mha\) vol"):
            find_items(tmp_path)
        (tmp_path / "readme.txt").write_text("no images")
    with pytest.raises(DataError, match="no images"):
        find_images(tmp_path)


def test_headers_that_name_another_file_are_not_followed_but_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.MHD").write_text("ElementDataFile = /etc/passwd")
    (tmp_path / "a.raw").touch()
    remedy = r"\.mhd files are not read: convert them to \.mha, \.nrrd or \.nii\.gz"
    for place in (tmp_path, tmp_path / "a.MHD"):
        with pytest.raises(DataError, match=f"nothing to use in .*; {remedy}$"):
            find_items(place)
    with pytest.raises(SystemExit, match=f"^ctclip: a.MHD is neither a DICOM file nor a volume: .*; {remedy}$"):
        or_exit(LoadImageCTd("image"), {"image": str(tmp_path / "a.MHD")})
    caplog.clear()
    _volume(tmp_path / "b.nii.gz")
    assert len(find_items(tmp_path)) == 1
    assert caplog.messages == [remedy.replace("\\", "")]


def test_real_exports_load_with_padding_below_every_window(shared_data: Path) -> None:
    items = find_items(shared_data / "dicom" / "rider_chest_ge_std_overlap")
    image = LoadImageCTd("image")(items[0])["image"]
    assert image.shape == (1, 512, 512, 24)
    assert image.min() == PADDING_HU
    assert abs(float(image.affine[2, 2]) - 0.8) < 0.01
    reference = nib.load(shared_data / "ct_train" / "rider_chest_ge_standard_80.nii.gz")
    inside = image[0].numpy() > -1024
    np.testing.assert_allclose(image[0].numpy()[inside], reference.get_fdata()[..., :24][inside])
    np.testing.assert_allclose(image.affine, reference.affine, atol=0.05)


def test_slices_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    a = [str(path) for path in write_stack(tmp_path / "a", [0.0, 2.0, 4.0])]
    b = [str(path) for path in write_stack(tmp_path / "b", [6.0, 8.0], series="1.2.3.9")]
    c = [str(path) for path in write_stack(tmp_path / "c", [6.0], PixelSpacing=[0.6, 0.6])]
    reader = CTReader()
    for files, message in (
        (a[:2] + b, "slices of 2 series cannot be one volume; give the files of one series$"),
        ([*a, *c], "1 of 4 slices differ from the first in size, orientation, PixelSpacing or"),
        ([a[0], a[0]], "found steps of 0.00 to 0.00 mm, expected each file once, in the order"),
        ([a[0], a[1], a[1], a[2]], "found steps of 0.00 to 2.00 mm"),
        ([a[0], a[2], a[1]], "found steps of -2.00 to 4.00 mm"),
        ([], "found no files, expected a volume's file or the files of one DICOM series"),
    ):
        with pytest.raises(SeriesError, match=message):
            reader.read(files)
    np.testing.assert_allclose(reader.read(a).affine[:3, 2], [0, 0, 2])
    np.testing.assert_allclose(reader.read(a[::-1]).affine[:3, 2], [0, 0, -2])
    with pytest.raises(SeriesError, match="ImagePositionPatient or ImageOrientationPatient is missing"):
        reader.read(write_stack(tmp_path / "d", [0.0], ImagePositionPatient=None))


def test_a_series_of_several_phases_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_stack(tmp_path / "phases", [0.0, 0.0, 2.0, 2.0])
    write_stack(tmp_path / "one", [0.0, 2.0], series="1.2.3.9")
    (item,) = find_items(tmp_path)
    assert LoadImageCTd("image")(item)["image"].shape[-1] == 2
    assert "slices lie at one place: 1 of 2 series" in caplog.text
