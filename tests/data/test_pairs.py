"""Every layout of paired data, from slices made here, with everything that can be wrong with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ctclip.data.layouts import hashed
from ctclip.data.pairs import find_pairs, read_pair
from ctclip.data.predictions import Predictions
from ctclip.errors import ConfigError, DataError, SeriesError
from ctclip.units import PADDING_HU
from tests.dicom.fake import SAGITTAL, SHAPE, fake_derivation, fake_slice, tilted, write

Z = [0.0, 1.0, 2.0, 3.0]


def _scan(folder: Path, positions: list[float], level: int, series: str = "1.2.3.2", **overrides: object) -> Path:
    """A series whose pixels are its level plus ten times the position, under names that mean nothing."""
    names = np.random.default_rng(int(series.split(".")[-1])).permutation(len(positions))
    for number, (z, name) in enumerate(zip(positions, names, strict=True), start=1):
        pixels = np.full(SHAPE, int(1024 + level + 10 * z), np.int16)
        write(fake_slice(z, number, series=series, pixels=pixels, **overrides), folder / f"IM{name:04d}.IMA")
    return folder


def _pair_of_series(low: Path, full: Path, **overrides: object) -> None:
    _scan(low, Z, 0)
    _scan(full, Z, 100, series="1.2.3.9", **overrides)


LAYOUTS = {
    "mayo2016": ("L506/quarter_1mm", "L506/full_1mm"),
    "mayo2016 unpacked": ("3mm B30/quarter_3mm/L506/quarter_3mm", "3mm B30/full_3mm/L506/full_3mm"),
    "mayo2016 archive": ("3mm B30/QD_3mm/L506/quarter_3mm", "3mm B30/FD_3mm/L506/full_3mm"),
    "tcia": ("L506/12-23-2021/1.000000-Low Dose Images-39", "L506/12-23-2021/1.000000-Full dose images-71"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_matched_by_position_whatever_the_files_are_called(layout: str, tmp_path: Path) -> None:
    low, full = LAYOUTS[layout]
    _pair_of_series(tmp_path / low, tmp_path / full)
    for named in ("auto", layout.split()[0]):
        (pair,), problems = find_pairs(tmp_path, named)
        assert problems == []
        assert pair.patient == hashed("L506")
        scan = read_pair(pair)
        np.testing.assert_array_equal(scan.low_hu[:, 0, 0], [0, 10, 20, 30])
        np.testing.assert_array_equal(scan.full_hu - scan.low_hu, 100)


def test_a_patient_is_told_apart_but_not_named(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    ((pair,), _) = find_pairs(tmp_path)
    digest = hashlib.sha256(b"L506").hexdigest()
    assert (pair.patient, pair.name) == (digest[:16], f"{digest[:6]}/1")


def test_a_patient_has_the_same_name_in_every_thickness(tmp_path: Path) -> None:
    for thickness in ("1mm", "3mm"):
        _pair_of_series(tmp_path / f"L506/quarter_{thickness}", tmp_path / f"L506/full_{thickness}")
    _pair_of_series(tmp_path / "L067/quarter_1mm", tmp_path / "L067/full_1mm")
    pairs, _ = find_pairs(tmp_path)
    assert len(pairs) == 3
    assert len({pair.patient for pair in pairs}) == 2
    assert len({pair.name for pair in pairs}) == 3


def test_slices_without_a_partner_are_left_out_and_reported(tmp_path: Path) -> None:
    _scan(tmp_path / "L506/quarter_1mm", [0.0, 1.0, 2.0], 0)
    _scan(tmp_path / "L506/full_1mm", [1.0, 2.02, 3.0, 4.0], 100, series="1.2.3.9")
    (pair,), problems = find_pairs(tmp_path)
    assert len(pair.low) == len(pair.full) == 2
    assert problems == [f"pair {pair.name}: 1 low-dose and 2 full-dose slices have no partner; left out"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"ConvolutionKernel": "D45f"}, "ConvolutionKernel Br38f/3 and D45f"),
        ({"SliceThickness": 5.0}, "SliceThickness 2.0 and 5.0"),
        ({"PixelSpacing": [0.6, 0.6]}, "PixelSpacing 0.5/0.5 and 0.6/0.6"),
        ({"PixelSpacing": [0.5, 0.502]}, "PixelSpacing 0.5/0.5 and 0.5/0.502"),
        ({"SliceThickness": None}, "SliceThickness 2.0 and not stated"),
        ({"PatientID": "other"}, "two patients"),
    ],
)
def test_what_cannot_be_compared_is_excluded_and_reported(overrides: dict, words: str, tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L067/quarter_1mm", tmp_path / "L067/full_1mm", **overrides)
    with pytest.raises(DataError, match=words):
        find_pairs(tmp_path)
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    (good,), (problem,) = find_pairs(tmp_path)
    assert words in problem
    assert good.patient not in problem
    assert "P-77" not in problem


def test_slices_at_one_position_are_no_partners(tmp_path: Path) -> None:
    _scan(tmp_path / "L506/quarter_1mm", [0.0, 1.0, 1.01, 2.0], 0)
    _scan(tmp_path / "L506/full_1mm", [0.0, 1.0, 2.0, 2.0], 100, series="1.2.3.9")
    (pair,), problems = find_pairs(tmp_path)
    assert pair.positions_mm == (0.0,)
    assert "3 low-dose and 3 full-dose slices" in problems[0]


@pytest.mark.parametrize(("shift_mm", "fits"), [(0.04, True), (0.07, False)])
@pytest.mark.parametrize("axis", [0, 2])
def test_half_a_tenth_of_a_millimetre_is_another_place(tmp_path: Path, axis: int, shift_mm: float, fits: bool) -> None:
    place = np.array([-10.0, -20.0, 1.0])
    _scan(tmp_path / "L506/quarter_1mm", [1.0], 0, ImagePositionPatient=place.tolist())
    place[axis] += shift_mm
    _scan(tmp_path / "L506/full_1mm", [1.0], 100, series="1.2.3.9", ImagePositionPatient=place.round(3).tolist())
    if fits:
        assert len(find_pairs(tmp_path)[0]) == 1
    else:
        with pytest.raises(DataError, match="shifted in the plane|no slice position in common"):
            find_pairs(tmp_path)


def test_slices_that_are_shifted_in_their_plane_are_no_pair(tmp_path: Path) -> None:
    _scan(tmp_path / "L506/quarter_1mm", [1.0], 0)
    _scan(tmp_path / "L506/full_1mm", [1.0], 100, series="1.2.3.9", ImagePositionPatient=[-9.0, -20.0, 1.0])
    with pytest.raises(DataError, match="shifted in the plane"):
        find_pairs(tmp_path)


def test_slices_that_are_tilted_against_each_other_are_no_pair(tmp_path: Path) -> None:
    for folder, series, degrees in (("quarter_1mm", "1.2.3.2", 0), ("full_1mm", "1.2.3.9", 2)):
        place: dict[str, Any] = {"ImagePositionPatient": [0.0, 0.0, 0.0], "orientation": tilted(degrees)}
        _scan(tmp_path / "L506" / folder, [0.0], 0, series=series, **place)
    with pytest.raises(DataError, match="ImageOrientationPatient"):
        find_pairs(tmp_path)


def test_another_frame_of_reference_is_reported(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm", FrameOfReferenceUID="1.2.3.44")
    (pair,), problems = find_pairs(tmp_path)
    assert problems == [f"pair {pair.name}: FrameOfReferenceUID differs; paired by position all the same"]


def test_slices_of_another_size_in_the_same_series_are_counted(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    write(fake_slice(9.0, 9, pixels=np.ones((8, 8), np.int16)), tmp_path / "L506/quarter_1mm/scout")
    (pair,), problems = find_pairs(tmp_path)
    assert len(pair.low) == 4
    assert "1 low-dose and 0 full-dose slices differ from most in size or orientation" in problems[0]


def test_positions_that_occur_twice_are_said_so(tmp_path: Path) -> None:
    for dose, series in (("quarter", "1.2.3.2"), ("full", "1.2.3.9")):
        for number in range(4):
            pixels = np.full(SHAPE, 1000 + number, np.int16)
            write(
                fake_slice(float(number // 2), number, series=series, pixels=pixels),
                tmp_path / f"L506/{dose}_1mm/{number}",
            )
    with pytest.raises(DataError, match="every slice position that two series have in common occurs more than once"):
        find_pairs(tmp_path)


def test_padding_of_either_is_padding_of_both(tmp_path: Path) -> None:
    for dose, series, place in (("quarter", "1.2.3.2", 0), ("full", "1.2.3.9", 1)):
        pixels = np.full(SHAPE, 1024, np.int16)
        pixels[0, place] = -2000
        slice_ = fake_slice(0.0, 1, series=series, pixels=pixels, PixelPaddingValue=-2000)
        write(slice_, tmp_path / f"L506/{dose}_1mm/a")
    ((pair,), _) = find_pairs(tmp_path)
    scan = read_pair(pair)
    expected = np.zeros((1, *SHAPE))
    expected[0, 0, :2] = PADDING_HU
    np.testing.assert_array_equal(scan.low_hu, expected)
    np.testing.assert_array_equal(scan.full_hu, expected)
    by_ctclip = fake_derivation().description  # off by default where something is to be denoised
    result = fake_slice(
        0.0, 1, series="1.2.3.5", pixels=np.full(SHAPE, 1054, np.int16), DerivationDescription=by_ctclip
    )
    write(result, tmp_path / "results/a")
    np.testing.assert_array_equal(Predictions(tmp_path / "results").read(pair), np.where(expected, expected, 30))


def test_two_folders_for_one_scan_are_left_out(tmp_path: Path) -> None:
    for study, partners in (("a", ("71", "72")), ("b", ("71",))):
        _scan(tmp_path / f"L506/{study}/1.000000-Low Dose Images-39", Z, 0)
        for number in partners:
            _scan(tmp_path / f"L506/{study}/1.000000-Full dose images-{number}", Z, 100, series=f"1.2.3.{number}")
    _scan(tmp_path / "L506/c/1.000000-Full dose images-73", Z, 100)
    _scan(tmp_path / "L506/c/1.000000-Low Dose Projections-74", Z, 100)
    pairs, problems = find_pairs(tmp_path)
    assert len(pairs) == 1
    assert "1 low-dose and 2 full-dose folders stand for one scan" in problems[0]
    assert problems[1] == "left out without a low-dose folder beside them: 1"


def test_two_layouts_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    for low, full in (LAYOUTS["mayo2016"], LAYOUTS["tcia"]):
        _pair_of_series(tmp_path / low, tmp_path / full)
    with pytest.raises(DataError, match="mayo2016 and tcia; give a folder with one"):
        find_pairs(tmp_path)
    assert len(find_pairs(tmp_path, "tcia")[0]) == 1


def test_empty_folders_and_two_series_are_reported(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    for name in ("quarter_1mm", "full_1mm"):
        (tmp_path / "L067" / name).mkdir(parents=True)
    _pair_of_series(tmp_path / "L096/quarter_1mm", tmp_path / "L096/full_1mm")
    _scan(tmp_path / "L096/full_1mm/more", Z, 0, series="1.2.3.10")
    (pair,), problems = find_pairs(tmp_path)
    assert pair.patient == hashed("L506")
    assert [": ".join(problem.split(": ")[1:3]) for problem in problems] == [
        "low dose: The input folder is empty",
        "full dose: expected one axial CT series in each folder of a pair, found 2; low_series and full_series in a "
        "list choose one, and pairs of volumes need a list",
    ]


def test_a_folder_without_partner_is_reported(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    _scan(tmp_path / "L067/quarter_1mm", Z, 0)
    pairs, problems = find_pairs(tmp_path)
    assert len(pairs) == 1
    assert problems == ["left out without a full-dose folder beside them: 1"]


def _volume(path: Path, value: float, shape: tuple[int, int, int] = (4, 5, 3), spacing: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.float32 if np.isnan(value) else np.int16
    nib.save(nib.Nifti1Image(np.full(shape, value, dtype), np.diag([spacing, spacing, 2, 1])), path)
    return path


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_list_names_folders_and_volumes(kind: str, tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "a", tmp_path / "b")
    _volume(tmp_path / "v/low.nii.gz", -70)
    _volume(tmp_path / "v/full.nii.gz", -50)
    entries = [{"low": "a", "full": "b", "patient": "x"}, {"low": "v/low.nii.gz", "full": "v/full.nii.gz"}]
    listing = tmp_path / f"pairs.{kind}"
    if kind == "json":
        listing.write_text(json.dumps(entries))
    else:
        listing.write_text("low,full,patient\na,b,x\nv/low.nii.gz,v/full.nii.gz,\n")
    pairs, problems = find_pairs(listing)
    assert (len(pairs), problems) == (2, [])
    differences = {float((scan.full_hu - scan.low_hu).mean()) for scan in map(read_pair, pairs)}
    assert differences == {100.0, 20.0}


def _list_of(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_list_entries_are_patients_of_their_own_unless_they_name_one(tmp_path: Path) -> None:
    for name in "abcd":
        _volume(tmp_path / f"{name}.nii", -50)
    entries = [{"low": "a.nii", "full": "b.nii"}, {"low": "c.nii", "full": "d.nii"}]
    pairs, _ = find_pairs(_list_of(tmp_path / "pairs.json", *entries))
    assert len({pair.patient for pair in pairs}) == 2
    for patient in ("x", 0):
        pairs, _ = find_pairs(_list_of(tmp_path / "pairs.json", *[{**each, "patient": patient} for each in entries]))
        assert [pair.patient for pair in pairs] == [hashed(str(patient))] * 2


@pytest.mark.parametrize("unnamed", [{}, {"patient": ""}])
def test_two_low_doses_of_one_full_dose_are_one_patient(tmp_path: Path, unnamed: dict[str, Any]) -> None:
    """A split by patient would else hold out what it trains on: training takes the full dose alone."""
    for name in ("quarter", "tenth", "full"):
        _volume(tmp_path / f"{name}.nii", -50)
    entries = [{"low": f"{name}.nii", "full": "full.nii", **unnamed} for name in ("quarter", "tenth")]
    pairs, _ = find_pairs(_list_of(tmp_path / "pairs.json", *entries))
    assert [pair.patient for pair in pairs] == [hashed("full.nii")] * 2


def test_a_pair_that_is_listed_twice_counts_once_and_is_reported(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "a", tmp_path / "b")
    _scan(tmp_path / "c", Z, 50, series="1.2.3.7")
    for name in ("low", "full"):
        _volume(tmp_path / f"v/{name}.nii", -50)
    (tmp_path / "link.nii").symlink_to(tmp_path / "v/low.nii")
    once = [{"low": "a", "full": "b"}, {"low": "c", "full": "b"}, {"low": "v/low.nii", "full": "v/full.nii"}]
    again = [
        {"low": "a", "full": "v/../b", "low_series": "1.2.3.2"},
        {"low": "link.nii", "full": "v/full.nii", "patient": "other"},
    ]
    pairs, problems = find_pairs(_list_of(tmp_path / "pairs.json", *once, *again))
    assert len(pairs) == 3
    assert [problem.split("/", 1)[1] for problem in problems] == [
        f"{number} left out: its two scans are those of pair {pairs[place].name}, expected each pair once; "
        "remove one entry"
        for number, place in ((4, 0), (5, 2))
    ]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_list_may_begin_with_a_byte_order_mark(kind: str, tmp_path: Path) -> None:
    """As Excel and PowerShell write it."""
    for name in ("low.nii", "full.nii"):
        _volume(tmp_path / name, -50)
    content = {"json": '[{"low": "low.nii", "full": "full.nii"}]', "csv": "low,full\nlow.nii,full.nii\n"}[kind]
    (tmp_path / f"pairs.{kind}").write_text(content, "utf-8-sig")
    assert len(find_pairs(tmp_path / f"pairs.{kind}")[0]) == 1


def test_predictions_in_a_linked_folder_are_found(tmp_path: Path) -> None:
    for name in ("low.nii", "full.nii", "store/low.nii"):
        _volume(tmp_path / name, -50)
    ((pair,), _) = find_pairs(_list_of(tmp_path / "pairs.json", {"low": "low.nii", "full": "full.nii"}))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / tmp_path.name).symlink_to(tmp_path / "store")
    assert Predictions(tmp_path / "results").read(pair).max() == -50


def test_a_volume_and_a_folder_are_no_pair(tmp_path: Path) -> None:
    _volume(tmp_path / "low.nii", -50)
    _scan(tmp_path / "full", Z, 100)
    with pytest.raises(DataError, match="low dose is a volume, full dose is none"):
        find_pairs(_list_of(tmp_path / "pairs.json", {"low": "low.nii", "full": "full"}))


def test_a_list_may_name_a_series_that_is_off_by_default_but_no_confused_one(tmp_path: Path) -> None:
    _scan(tmp_path / "low", [0.0], 0, orientation=SAGITTAL)
    _scan(tmp_path / "full", [0.0], 100, series="1.2.3.9", orientation=SAGITTAL)
    entry = {"low": "low", "full": "full", "low_series": "1.2.3.2"}
    with pytest.raises(DataError, match="expected one axial CT series in each folder of a pair, found 0"):
        find_pairs(_list_of(tmp_path / "pairs.json", entry))
    ((pair,), _) = find_pairs(_list_of(tmp_path / "pairs.json", {**entry, "full_series": "1.2.3.9"}))
    assert len(pair.full) == 1
    write(fake_slice(9.0, 9, series="1.2.3.9", StudyInstanceUID="1.2.3.66"), tmp_path / "full/of another study")
    with pytest.raises(DataError, match="with the listed SeriesInstanceUID in its folder, found 0"):
        find_pairs(_list_of(tmp_path / "pairs.json", {**entry, "full_series": "1.2.3.9"}))


@pytest.mark.parametrize(("low", "full"), [(1060, -20), (-20, 1), (-20, -1), (-20, np.nan)])
def test_volumes_that_cannot_be_hu_are_refused(tmp_path: Path, low: float, full: float) -> None:
    """Stored without their intercept, a mask, scaled, not a number."""
    _volume(tmp_path / "low.nii.gz", low)
    _volume(tmp_path / "full.nii.gz", full)
    (tmp_path / "pairs.json").write_text(json.dumps([{"low": "low.nii.gz", "full": "full.nii.gz"}]))
    ((pair,), _) = find_pairs(tmp_path / "pairs.json")
    dose = "low" if low > 0 else "full"
    with pytest.raises(DataError, match=f"^{dose} dose: (these values are not HU|.* not finite)"):
        read_pair(pair)


def test_volumes_on_two_grids_are_refused(tmp_path: Path) -> None:
    _volume(tmp_path / "low.nii.gz", 5)
    for name, settings, words in (
        ("size", {"shape": (4, 5, 4)}, r"size: \(3, 5, 4\) and \(4, 5, 4\) .*; compare scans on one grid"),
        (
            "place",
            {"spacing": 0.6},
            "spacing 0.5 x 0.5 x 2 and 0.6 x 0.6 x 2 mm; compare scans on one grid, or resample",
        ),
    ):
        _volume(tmp_path / f"{name}.nii.gz", 5, **settings)
        listing = tmp_path / f"{name}.json"
        listing.write_text(json.dumps([{"low": "low.nii.gz", "full": f"{name}.nii.gz"}]))
        ((pair,), _) = find_pairs(listing)
        with pytest.raises(DataError, match=words):
            read_pair(pair)


@pytest.mark.parametrize(("spacing", "fits"), [(0.501, True), (0.502, False)])
@pytest.mark.parametrize("shape", [(40, 5, 3), (5, 40, 3)])
def test_the_farthest_voxel_tells_whether_two_grids_are_one(
    tmp_path: Path, shape: tuple[int, int, int], spacing: float, fits: bool
) -> None:
    """40 voxels of 0.5 mm end 0.04 mm, or 0.08 mm, from those of the other grid; the tolerance is 0.05 mm."""
    _volume(tmp_path / "low.nii", -50, shape)
    _volume(tmp_path / "full.nii", -50, shape, spacing)
    ((pair,), _) = find_pairs(_list_of(tmp_path / "pairs.json", {"low": "low.nii", "full": "full.nii"}))
    if fits:
        assert read_pair(pair).low_hu.shape == shape[::-1]
    else:
        with pytest.raises(DataError, match="differ in spacing or place"):
            read_pair(pair)


def test_grids_that_begin_at_two_places_are_two(tmp_path: Path) -> None:
    _volume(tmp_path / "low.nii", -50)
    moved = np.diag([0.5, 0.5, 2, 1])
    moved[1, 3] = 0.1
    turned = np.diag([0.5, -0.5, 2, 1])  # the last of 5 rows lies 2 mm beyond the first, instead of before it
    for affine, apart_mm in ((moved, "0.1"), (turned, "4")):
        nib.save(nib.Nifti1Image(np.full((4, 5, 3), -50, np.int16), affine), tmp_path / "full.nii")
        ((pair,), _) = find_pairs(_list_of(tmp_path / "pairs.json", {"low": "low.nii", "full": "full.nii"}))
        with pytest.raises(DataError, match=f"differ in spacing or place: their places differ by up to {apart_mm} mm;"):
            read_pair(pair)


def test_a_slice_that_cannot_be_read_is_blamed_on_its_scan(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "L506/quarter_1mm", tmp_path / "L506/full_1mm")
    ((pair,), _) = find_pairs(tmp_path)
    pair.full[0].write_bytes(b"nothing")
    with pytest.raises(SeriesError, match="^full dose: "):
        read_pair(pair)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as a JSON or CSV list"),
        ('{"low": 1}', "holds no list"),
        ('[{"low": "a"}]', "entry 1: needs 'low' and 'full'"),
        ('[{"low": "nothing", "full": "nothing"}]', "entry 1: the low-dose path does not exist"),
        ('[{"low": "pairs.json", "full": "nothing"}]', "entry 1: the full-dose path does not exist"),
        ('[{"low": "", "full": "pairs.json"}]', "entry 1: needs 'low' and 'full'"),
        ('["low", "full"]', "entry 1: needs 'low' and 'full'"),
        ("[]", "lists no pairs"),
    ],
)
def test_wrong_lists_are_one_line(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(DataError, match=words):
        find_pairs(tmp_path / "pairs.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("MUELLER_low,MUELLER_full\na,b\n", "none of its 2 columns is called 'low' or 'full'; name them in the first"),
        ("low, full\na,b\n", "none of its 2 columns is called 'full'; name them in the first line, as in low,full"),
        (
            "\ufefflow;full\na;b\n",
            "found columns separated by semicolons, expected low and full; separate them by commas",
        ),
        ("low\tfull\na\tb\n", "found columns separated by tabs, expected low and full; separate them by commas"),
        ("Smith/low,Smith/full\n", "found paths in its first line, expected names of columns; begin with the line"),
        ("Smith,Jones\n", "found paths in its first line, expected names of columns; begin with the line low,full"),
        ("low,full\n,b\n", "entry 1: needs 'low' and 'full'"),
        ("low,full\n", "lists no pairs"),
        ("", "lists no pairs"),
    ],
)
def test_wrong_columns_are_named_but_never_a_patient(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "Smith").mkdir()
    (tmp_path / "pairs.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path / "pairs.csv")
    assert words in str(caught.value)
    assert "Smith" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_places_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_pairs(tmp_path / "nothing")
    with pytest.raises(DataError, match="no pairs of low and full dose"):
        find_pairs(tmp_path)
    with pytest.raises(ConfigError, match="unknown layout 'mayo'"):
        find_pairs(tmp_path, "mayo")
    with pytest.raises(DataError, match="JSON or CSV file"):
        find_pairs(tmp_path, "pairs")


def test_predictions_are_found_by_position_and_kernel(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "data/L506/quarter_1mm", tmp_path / "data/L506/full_1mm")
    ((pair,), _) = find_pairs(tmp_path / "data")
    _scan(tmp_path / "results/x", [-1.0, *Z], 50, series="1.2.3.77")
    _scan(tmp_path / "results/y", Z, 60, series="1.2.3.78", ConvolutionKernel="D45f")
    np.testing.assert_array_equal(Predictions(tmp_path / "results").read(pair)[:, 0, 0], [50, 60, 70, 80])
    _scan(tmp_path / "results/z", Z, 70, series="1.2.3.79")
    with pytest.raises(DataError, match="found 2; keep one result per scan"):
        Predictions(tmp_path / "results").read(pair)


def test_predictions_of_others_and_of_other_tools_are_not_taken(tmp_path: Path) -> None:
    _pair_of_series(tmp_path / "data/L506/quarter_1mm", tmp_path / "data/L506/full_1mm")
    ((pair,), _) = find_pairs(tmp_path / "data")
    _scan(tmp_path / "results/x", Z, 50, series="1.2.3.77", StudyInstanceUID="1.2.3.66")
    _scan(tmp_path / "results/y", Z, 50, series="1.2.3.78", FrameOfReferenceUID="1.2.3.66")
    _scan(tmp_path / "results/z", Z, 50, series="1.2.3.79", PatientID="other")
    _scan(tmp_path / "results/part", Z[1:], 50, series="1.2.3.80")
    with pytest.raises(DataError, match=r"found 0; .* 3 of 4 slices"):
        Predictions(tmp_path / "results").read(pair)
    _scan(tmp_path / "results/again", Z[1:], 60, series="1.2.3.80")
    with pytest.raises(DataError, match="predicted slices repeat a SOPInstanceUID"):
        Predictions(tmp_path / "results")
    _scan(tmp_path / "twice/one", Z, 50, series="1.2.3.81")
    _scan(tmp_path / "twice/copy", Z, 50, series="1.2.3.81")
    with pytest.raises(DataError, match="predicted slices repeat a SOPInstanceUID"):
        Predictions(tmp_path / "twice")


def test_predicted_volumes_of_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for case, value in (("a", -50), ("b", -60)):
        _volume(tmp_path / f"d/{case}/low.nii.gz", value)
        _volume(tmp_path / f"d/{case}/full.nii.gz", -70)
    entries = [{"low": f"{case}/low.nii.gz", "full": f"{case}/full.nii.gz"} for case in "ab"]
    (tmp_path / "d/pairs.json").write_text(json.dumps(entries))
    pairs, _ = find_pairs(tmp_path / "d/pairs.json")
    _volume(tmp_path / "results/b/low.nii.gz", 16)
    predictions = Predictions(tmp_path / "results")
    assert (predictions.read(pairs[1]) == 16).all()
    with pytest.raises(DataError, match=r"one prediction called low.nii.gz, found 0"):
        predictions.read(pairs[0])


def test_predicted_volumes_on_another_grid_are_refused(tmp_path: Path) -> None:
    _volume(tmp_path / "d/low.nii.gz", -50)
    (tmp_path / "d/pairs.json").write_text(json.dumps([{"low": "low.nii.gz", "full": "low.nii.gz"}]))
    ((pair,), _) = find_pairs(tmp_path / "d/pairs.json")
    _volume(tmp_path / "results/low.nii.gz", -60, spacing=0.6)
    with pytest.raises(DataError, match="differ in spacing or place"):
        Predictions(tmp_path / "results").read(pair)


def test_predicted_volumes_have_the_name_of_their_source(tmp_path: Path) -> None:
    _volume(tmp_path / "d/case1.nii.gz", -50)
    _volume(tmp_path / "d/full.nii.gz", -70)
    (tmp_path / "d/pairs.json").write_text(json.dumps([{"low": "case1.nii.gz", "full": "full.nii.gz"}]))
    ((pair,), _) = find_pairs(tmp_path / "d/pairs.json")
    _volume(tmp_path / "results/case1.nii.gz", 6)
    assert (Predictions(tmp_path / "results").read(pair) == 6).all()
    _volume(tmp_path / "results/case1.nii.gz", np.nan)
    with pytest.raises(DataError, match="the prediction holds values that are not finite"):
        Predictions(tmp_path / "results").read(pair)
    _volume(tmp_path / "d/case1.nii.gz", -900)
    for value in (0, 1):  # results in [0, 1] reach 0 where there is air
        _volume(tmp_path / "results/case1.nii.gz", value)
        with pytest.raises(DataError, match=f"not in HU: found {value} to {value} where the low dose has -900"):
            Predictions(tmp_path / "results").read(pair)
    (tmp_path / "results/case1.nii.gz").unlink()
    _volume(tmp_path / "results/other.nii.gz", 6)
    with pytest.raises(DataError, match="one prediction called case1.nii.gz, found 0"):
        Predictions(tmp_path / "results").read(pair)
