from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import set_track_meta
from monai.transforms import Compose, LoadImaged, MapTransform, Orientationd

from ctclip.data.sources import find_items
from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.demo import read_series_hu, write_ct_series
from ctclip.errors import ConfigError, DataError
from ctclip.phantom import body_phantom_hu
from ctclip.transforms import LoadImageCTd, ProjectionNoised, RequireBodyd, RequireSameGridd, SaveImageCTd
from ctclip.transforms.load import CTReader


def test_a_folder_is_answered_with_what_lists_its_slices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found a folder, .* ctclip.data.sources.find_items makes that list"):
        CTReader().read(str(tmp_path))


def test_a_volume_of_another_grid_than_its_file_is_not_saved(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16)))
    save = SaveImageCTd("pred", "source", str(tmp_path / "out"), model_name="any", model_sha256="")
    with pytest.raises(DataError, match=r"has \(3, 4, 6\) slices, rows and columns, its source \(3, 4, 5\); .*Invertd"):
        save({"pred": torch.zeros(1, 6, 4, 3), "source": str(source)})
    assert not (tmp_path / "out").exists()
    save({"pred": torch.full((1, 5, 4, 3), 7.0), "source": str(source)})
    assert (read_volume(tmp_path / "out" / "ct.nii.gz").hu == 7).all()


def test_a_result_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    """In a file of integers NaN would be 0 HU."""
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16)))
    save = SaveImageCTd("pred", "source", str(tmp_path / "out"), "any", "")
    with pytest.raises(DataError, match="^60 processed pixels are not finite"):
        save({"pred": torch.full((1, 5, 4, 3), torch.nan), "source": str(source)})
    assert not (tmp_path / "out").exists()


def test_volumes_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    empty = Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16))
    names = ["p1/ct.nii.gz", "p2/ct.nii.gz"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        write_volume(tmp_path / "in" / name, empty)
    items = [
        {"pred": torch.full((1, 5, 4, 3), float(value)), "source": str(tmp_path / "in" / name)}
        for value, name in enumerate(names)
    ]
    root, out = tmp_path / "in" / "p1" / "..", tmp_path / "out"
    save = SaveImageCTd("pred", "source", str(out), "any", "", data_root_dir=str(root))
    for item in items:
        save(item)
    assert [read_volume(out / name).hu.max() for name in names] == [0, 1]
    # Seen from the first volume the second one lies elsewhere.
    for number, place in enumerate((None, items[0]["source"])):
        out = tmp_path / f"names{number}"
        save = SaveImageCTd("pred", "source", str(out), "any", "", overwrite=True, data_root_dir=place)
        save(items[0])
        with pytest.raises(DataError, match="two volumes would be written to"):
            save(items[1])
        save(items[0])
        assert [path.name for path in out.iterdir()] == ["ct.nii.gz"]


def test_volumes_on_two_grids_are_no_pair_but_series_have_been_paired_by_position(tmp_path: Path) -> None:
    hu = body_phantom_hu(3, 64)
    for name, spacing in (("one", 1.0), ("same", 1.0), ("other", 1.1)):
        affine = np.diag([-spacing, -1.0, 2.0, 1.0])
        write_volume(tmp_path / f"{name}.nii.gz", Volume(hu, affine, np.dtype(np.int16)))
    compare = Compose([LoadImageCTd(["image", "label"]), RequireSameGridd(["image", "label"])])
    one, same, other = (str(tmp_path / f"{name}.nii.gz") for name in ("one", "same", "other"))
    assert set(compare({"image": one, "label": same})) == {"image", "label"}
    with pytest.raises(RuntimeError) as caught:
        compare({"image": one, "label": other})
    assert "differ in spacing or place" in str(caught.value.__cause__)
    write_ct_series(tmp_path / "series", hu)
    (item,) = find_items(tmp_path / "series")
    compare({"image": item["image"], "label": one})


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16)))
    item = {"pred": torch.full((1, 5, 4, 3), 7.0), "source": str(source)}
    with pytest.raises(ConfigError, match="the output is the input"):
        SaveImageCTd("pred", "source", str(tmp_path), "any", "", overwrite=True)(item)
    save = SaveImageCTd("pred", "source", str(tmp_path / "out"), "any", "")
    save(item)
    with pytest.raises(ConfigError, match="exists; give --overwrite"):
        save({**item, "pred": torch.full((1, 5, 4, 3), 8.0)})
    assert (read_volume(tmp_path / "out" / "ct.nii.gz").hu == 7).all()
    assert (read_volume(source).hu == 0).all()


def test_what_exists_is_known_before_anything_is_denoised(tmp_path: Path) -> None:
    volume = Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16))
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write_volume(tmp_path / place / "ct.nii.gz", volume)
    write_ct_series(tmp_path / "series", body_phantom_hu(2, 64)[:, :48])
    (item,) = find_items(tmp_path / "series")
    first, second = (str(tmp_path / place / "ct.nii.gz") for place in ("a", "b"))

    def save(**settings: bool) -> SaveImageCTd:
        return SaveImageCTd("pred", "source", str(tmp_path / "out"), "any", "", **settings)

    save().require_new([first, item["image"]])
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="two volumes would be written to .*ct.nii.gz"):
        save().require_new([first, second])
    save()({"pred": torch.zeros(1, 5, 4, 3), "source": first})
    save()({"pred": torch.zeros(1, 64, 48, 2), "source": item["image"]})
    for scan in (first, item["image"]):
        with pytest.raises(ConfigError, match="exists; give --overwrite True"):
            save().require_new([scan])
    save(overwrite=True).require_new([first, item["image"]])
    (series,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    (series / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds 1 files or folders that are no earlier result"):
        save(overwrite=True).require_new([item["image"]])


def test_a_series_goes_through_and_says_how_it_was_made(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "in", body_phantom_hu(3, 64)[:, :48])
    (item,) = find_items(tmp_path / "in")
    loaded = LoadImageCTd("image")(item)
    assert loaded["image"].shape == (1, 64, 48, 3)
    assert loaded["image"].meta["space"] == "RAS"
    np.testing.assert_allclose(loaded["image"].affine, CTReader().read(item["image"]).affine)
    assert not np.allclose(loaded["image"].affine, np.eye(4))
    item["pred"] = loaded["image"] + 5
    settings = {"strength": 0.25, "precision": "bf16", "backend": "compiled", "hu_window": (-1000.0, 2000.0)}
    names = set()
    for number, left_out in enumerate([None, *settings]):
        stated = {name: value for name, value in settings.items() if name != left_out}
        SaveImageCTd("pred", "image", str(tmp_path / f"out{number}"), "some-model", "ab" * 32, **stated)(item)
        (derived,) = (tmp_path / f"out{number}").iterdir()
        names.add(derived.name)
    assert len(names) == 5, "every setting makes a series of its own"
    saved = next((tmp_path / "out0").iterdir())
    before, after = read_series_hu(tmp_path / "in"), read_series_hu(saved)
    np.testing.assert_allclose((after - before)[before > -500], 5, atol=0.51)
    description = pydicom.dcmread(saved / "0001.dcm").DerivationDescription
    for part in ("some-model", "ab" * 32, "strength 0.25", "-1000 to 2000", "bf16", "compiled"):
        assert part in description
    with pytest.raises(DataError, match="the volume has 2 slices, its series 3"):
        SaveImageCTd("pred", "image", str(tmp_path / "out"), "any", "")({**item, "pred": item["pred"][..., :2]})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("precision", "auto"), ("precision", "fp16"), ("backend", "auto"), ("backend", "x"), ("hu_window", (5, 1))],
)
def test_nothing_is_stated_that_cannot_have_been(tmp_path: Path, setting: str, value: Any) -> None:
    expected = "an HU window needs" if setting == "hu_window" else f"{setting} must be one of"
    with pytest.raises(ConfigError, match=f"^{expected} .*, found {re.escape(repr(value))}"):
        SaveImageCTd("pred", "source", str(tmp_path), "any", "", **{setting: value})


def test_a_path_is_saved_as_its_name_is(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(np.full((3, 4, 5), -50.0, np.float32), np.diag([-1.0, -1, 2, 1]), np.dtype(np.int16)))
    loaded = LoadImageCTd("image")({"image": source})
    SaveImageCTd("image", "source", str(tmp_path / "out"), "any", "")({**loaded, "source": source})
    assert (read_volume(tmp_path / "out" / "ct.nii.gz").hu == -50).all()


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (5, 4, 3)])
def test_only_a_volume_with_one_channel_is_saved(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save = SaveImageCTd("pred", "source", str(tmp_path), "any", "")
    with pytest.raises(DataError, match=r"expected a volume with one channel, \(1, X, Y, Z\), found shape"):
        save({"pred": torch.zeros(shape), "source": "ct.nii.gz"})


@pytest.mark.parametrize("transform", [RequireSameGridd("image"), ProjectionNoised("image", "noise")])
def test_without_meta_data_a_line_says_so(transform: MapTransform) -> None:
    set_track_meta(False)
    try:
        with pytest.raises(DataError, match="needs the meta data of LoadImageCTd, found a Tensor; leave set_track"):
            transform({"image": torch.zeros(1, 4, 4, 2)})
    finally:
        set_track_meta(True)


def test_decoders_that_are_never_used_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    LoadImageCTd("image")
    assert not caplog.records


def test_two_volumes_of_one_source_are_not_written_to_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="writes one volume for each source, found the keys image, pred; give"):
        SaveImageCTd(["image", "pred"], "source", str(tmp_path), "any", "", overwrite=True)


def test_several_volumes_are_no_series() -> None:
    with pytest.raises(DataError, match="found a list of 2 files with volumes among them, expected one volume's file"):
        CTReader().read(["a.nii.gz", "b.nii"])


def test_the_axis_along_the_body_is_the_last_and_saved_in_its_place(tmp_path: Path) -> None:
    values = np.arange(-100, 20, dtype=np.int16).reshape(4, 5, 6)
    sagittal = np.diag([-1.0, -2.0, 3.0, 1.0])[:, [2, 0, 1, 3]]  # z, x, y
    nib.save(nib.Nifti1Image(values, sagittal), tmp_path / "ct.nii")
    nib.save(nib.Nifti1Image(values, sagittal), tmp_path / "mask.nii")
    source = str(tmp_path / "ct.nii")
    image = LoadImageCTd("image")({"image": source})["image"]
    np.testing.assert_array_equal(image[0].numpy(), values.transpose(1, 2, 0))
    np.testing.assert_allclose(image.affine, np.diag([-1, -2, 3, 1]))
    SaveImageCTd("image", "source", str(tmp_path / "out"), "any", "")({"image": image, "source": source})
    saved = nib.load(tmp_path / "out" / "ct.nii")
    np.testing.assert_array_equal(saved.get_fdata(), values)
    np.testing.assert_allclose(saved.affine, sagittal)
    mask = LoadImaged("mask", ensure_channel_first=True)({"mask": str(tmp_path / "mask.nii")})["mask"]
    assert mask.shape == (1, 4, 5, 6)
    both = Orientationd(["image", "mask"], axcodes="LPS")({"image": image, "mask": mask})
    np.testing.assert_array_equal(both["mask"].numpy(), both["image"].numpy())
    np.testing.assert_allclose(both["mask"].affine, both["image"].affine)
    np.testing.assert_array_equal(both["image"].numpy(), image.numpy(), "rows and columns as they were")


def test_a_body_is_required(tmp_path: Path) -> None:
    volume = torch.full((1, 4, 4, 3), -1000.0)
    with pytest.raises(
        DataError, match="^a volume holds no body: 0 % of it lie above -500 HU, expected at least 1 %; leave it out"
    ):
        RequireBodyd("image")({"image": volume})
    folder = tmp_path / "series"
    write_ct_series(folder, np.full((3, 32, 32), -990, dtype=np.float32))
    loaded = LoadImageCTd("image")({"image": sorted(str(path) for path in folder.iterdir())})
    with pytest.raises(DataError, match=r"^series/0001.dcm holds no body: 0 % of it lie above -500 HU"):
        RequireBodyd("image")(loaded)
    volume = torch.full((1, 10, 10, 2), -1000.0)
    volume[0, 0, 0, 0] = 100  # a bright pixel, which an average hides
    with pytest.raises(DataError, match=r"0\.5 % of it"):
        RequireBodyd("image")({"image": volume})
    volume[0, 0, :2] = -499
    assert RequireBodyd("image")({"image": volume})["image"] is volume
    assert RequireBodyd("image", above_hu=-1001)(loaded)["image"] is loaded["image"]
