"""Which files become which series, in which order, and what is said about the rest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from ctclip.dicom import NoiseInsertion, Series, is_dicom_file, scan
from ctclip.errors import SeriesError

from .fake import (
    AXIAL,
    PATIENT,
    SAGITTAL,
    fake_derivation,
    fake_pixels,
    fake_slice,
    tilted,
    write,
    write_bare,
    write_native,
    write_stack,
)

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def only_series(folder: Path) -> Series:
    found = scan(folder)
    assert len(found.series) == 1
    return found.series[0]


class TestOrder:
    """Order comes from the position alone."""

    def test_instance_numbers_and_names_do_not_matter(self, tmp_path: Path) -> None:
        for name, number, z in [("a", 3, 30.0), ("b", 1, 10.0), ("c", 4, 0.0), ("d", 2, 20.0)]:
            write(fake_slice(z, number), tmp_path / name)
        series = only_series(tmp_path)
        assert [item.position_mm for item in series.slices] == [0.0, 10.0, 20.0, 30.0]
        assert [item.instance_number for item in series.slices] == [4, 1, 2, 3]

    def test_missing_instance_number(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [4.0, 2.0, 0.0], InstanceNumber=None)
        series = only_series(tmp_path)
        assert [item.position_mm for item in series.slices] == [0.0, 2.0, 4.0]
        assert series.slices[0].instance_number is None

    def test_equal_positions_are_sorted_by_number_then_uid(self, tmp_path: Path) -> None:
        write(fake_slice(1.0, 10), tmp_path / "a")
        write(fake_slice(1.0, 9), tmp_path / "b")
        write(fake_slice(0.0, 5), tmp_path / "c")
        series = only_series(tmp_path)
        assert [item.instance_number for item in series.slices] == [5, 9, 10], "numbers, not texts"
        assert any("duplicate positions: 1" in text for text in series.warnings)

    def test_position_is_measured_along_the_normal(self, tmp_path: Path) -> None:
        for number, x in enumerate([30.0, 10.0, 20.0], start=1):
            slice_ = fake_slice(0, number, orientation=SAGITTAL, ImagePositionPatient=[x, 5.0, 7.0])
            write(slice_, tmp_path / str(number))
        # row x column = (0, 1, 0) x (0, 0, -1) = (-1, 0, 0)
        assert [item.position_mm for item in only_series(tmp_path).slices] == [-30.0, -20.0, -10.0]

    def test_cosines_that_are_a_little_short_do_not_scale_positions(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0.0, 2.0, 4.0], orientation=(0.98, 0, 0, 0, 0.98, 0))
        assert [item.position_mm for item in only_series(tmp_path).slices] == [0.0, 2.0, 4.0]

    def test_names_of_files_and_folders_do_not_change_the_result(self, tmp_path: Path) -> None:
        for folder, names in (("one", "abc"), ("two", "zyx")):
            for number, name in enumerate(names, start=1):
                write(fake_slice(number * 2.0, number), tmp_path / folder / name)
        one, two = scan(tmp_path / "one"), scan(tmp_path / "two")
        assert [s.sop_instance_uid for s in one.series[0].slices] == [s.sop_instance_uid for s in two.series[0].slices]


class TestSeparation:
    """Series are never merged, stacks never mixed."""

    def test_two_series_in_one_flat_folder(self, tmp_path: Path) -> None:
        write_stack(tmp_path / "x", [0, 1, 2], series="1.2.9.1", SeriesNumber=7)
        for number in (1, 2):
            write(fake_slice(number, number, series="1.2.9.2", SeriesNumber=3), tmp_path / "x" / f"other{number}")
        found = scan(tmp_path)
        assert [(s.uid, s.series_number, s.slice_count) for s in found.series] == [("1.2.9.2", 3, 2), ("1.2.9.1", 7, 3)]
        assert {used.number for used in found.series_numbers} == {3, 7}

    @pytest.mark.parametrize(
        "different",
        [
            pytest.param({"PixelSpacing": [0.7, 0.7]}, id="pixel spacing"),
            pytest.param({"PixelSpacing": [0.5, 0.502]}, id="pixel spacing of columns"),
            pytest.param({"PixelSpacing": None}, id="no pixel spacing"),
            pytest.param({"pixels": fake_pixels(shape=(10, 16))}, id="rows"),
            pytest.param({"pixels": fake_pixels(shape=(12, 20))}, id="columns"),
            pytest.param({"FrameOfReferenceUID": "1.2.3.99"}, id="frame of reference"),
            pytest.param({"orientation": tilted(5)}, id="orientation"),
        ],
    )
    def test_other_geometry_is_another_stack(self, tmp_path: Path, different: dict[str, object]) -> None:
        write_stack(tmp_path, [0, 2, 4])
        write(fake_slice(-2, 4, **different), tmp_path / "other")
        series = only_series(tmp_path)
        assert [len(stack) for stack in series.stacks] == [3, 1], "the largest first"
        assert any(text.startswith("2 geometry groups") for text in series.warnings)
        assert series.skip_reason is None

    def test_rounded_cosines_are_one_stack(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1, orientation=(1, 0, 0, 0, 0.9998, -0.0200)), tmp_path / "a")
        write(fake_slice(2, 2, orientation=(1, 0, 0, 0, 0.99980, -0.01996)), tmp_path / "b")
        assert len(only_series(tmp_path).stacks) == 1

    def test_missing_series_uid_keeps_other_traits_apart(self, tmp_path: Path) -> None:
        write_stack(tmp_path / "soft", [0, 1], SeriesInstanceUID="")
        for number in (8, 9):
            sharp = fake_slice(number, number, SeriesInstanceUID="", ConvolutionKernel="Br64")
            write(sharp, tmp_path / "sharp" / str(number))
        found = scan(tmp_path)
        assert [s.slice_count for s in found.series] == [2, 2]
        assert all(s.uid.startswith("2.25.") for s in found.series)
        assert all("no SeriesInstanceUID" in s.warnings[0] for s in found.series)


class TestGeometry:
    """Unusual geometry is reported; only reformats are left out by default."""

    def test_even_axial_series_has_no_warnings(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 0.8, 1.6, 2.4])
        series = only_series(tmp_path)
        assert (series.warnings, series.skip_reason, series.selectable) == ((), None, True)
        assert (series.slices[0].rows, series.slices[0].columns, series.study_uid) == (12, 16, "1.2.3.1")

    @pytest.mark.parametrize("degrees", [-30.0, 18.5, 30.0])
    def test_tilted_gantry_is_axial(self, tmp_path: Path, degrees: float) -> None:
        write_stack(tmp_path, [0, 2, 4], orientation=tilted(degrees))
        series = only_series(tmp_path)
        assert series.skip_reason is None
        assert series.warnings == (f"gantry tilt of {abs(degrees):.1f} degrees",)

    @pytest.mark.parametrize(("degrees", "expected"), [(0.4, ()), (0.6, ("gantry tilt of 0.6 degrees",))])
    def test_tilt_from_half_a_degree_on_is_reported(
        self, tmp_path: Path, degrees: float, expected: tuple[str, ...]
    ) -> None:
        write_stack(tmp_path, [0, 2, 4], orientation=tilted(degrees))
        assert only_series(tmp_path).warnings == expected

    def test_sagittal_reformat_is_skipped_but_selectable(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 0, 0], orientation=SAGITTAL)
        series = only_series(tmp_path)
        assert series.skip_reason == "not axial (reformat): 3 of 3 slices"
        assert series.selectable

    def test_one_reformat_among_axial_slices(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2, 4])
        write(fake_slice(0, 9, orientation=SAGITTAL), tmp_path / "other")
        assert only_series(tmp_path).skip_reason == "not axial (reformat): 1 of 4 slices"

    @pytest.mark.parametrize(
        ("heights", "expected"),
        [
            ([0, 2, 4, 8, 10], "missing slices: 1 (step 2.00 mm, largest 4.00 mm)"),
            ([0, 2, 4, 10, 12, 14], "missing slices: 2 (step 2.00 mm, largest 6.00 mm)"),
            ([0, 4.22, 8.44, 15.82, 23.2], "uneven step: 4.22 to 7.38 mm"),
            ([0, 2, 4, 5, 7], "uneven step: 1.00 to 2.00 mm"),
            ([0, 2, 4, 6.2, 8.4], "uneven step: 2.00 to 2.20 mm"),
            ([0, 2, 2.005, 4], "duplicate positions: 1 slices lie where another one lies"),
        ],
    )
    def test_steps(self, tmp_path: Path, heights: list[float], expected: str) -> None:
        write_stack(tmp_path, heights)
        assert only_series(tmp_path).warnings == (expected,)

    @pytest.mark.parametrize("lacking", ["ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns"])
    def test_slice_without_a_place_stays_in_the_series(self, tmp_path: Path, lacking: str) -> None:
        """Dropping it would leave a hole that nobody notices; it fails the series, and is not said to be missing."""
        write_stack(tmp_path, [0, 2, 6, 8])
        write(fake_slice(4, 5, **{lacking: None}), tmp_path / "broken")
        series = only_series(tmp_path)
        assert [len(stack) for stack in series.stacks] == [4, 1]
        assert (series.skip_reason, series.warnings) == (None, ())
        assert series.failure.startswith("damaged headers: 1 of 5 slices have no usable image size, position")

    def test_damaged_slices_come_last_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        for number in (13, 11, 12):
            write(fake_slice(0, number, ImagePositionPatient=None), tmp_path / str(20 - number))
        write_stack(tmp_path / "whole", [0, 2])
        series = only_series(tmp_path)
        assert [[item.instance_number for item in stack] for stack in series.stacks] == [[1, 2], [11, 12, 13]]

    def test_series_without_any_position_cannot_be_selected(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2], ImageOrientationPatient=None)
        series = only_series(tmp_path)
        assert series.skip_reason == "no usable image size, position or orientation"
        assert not series.selectable


class TestSkippedFiles:
    """Everything that is no CT slice is listed with a reason and does not disturb the series."""

    @pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
    @pytest.mark.parametrize(
        ("overrides", "reason"),
        [
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "not monochrome"),
            ({"SOPClassUID": SECONDARY_CAPTURE}, "Secondary Capture"),
            ({"SOPClassUID": ENHANCED_CT, "NumberOfFrames": 5}, "Enhanced multi-frame CT: to be split into frames"),
            ({"SOPClassUID": LEGACY_ENHANCED_CT}, "Enhanced multi-frame CT: to be split into frames"),
            ({"SOPClassUID": "1.2.3.4.5"}, "no CT image (unknown SOP class)"),
            ({"NumberOfFrames": 2}, "multi-frame image: not supported yet"),
            ({"Modality": "SEG"}, "Modality SEG"),
            ({"Modality": "MR"}, "Modality MR"),
            ({"Modality": PATIENT}, "Modality unknown"),
            ({"Modality": None, "SOPClassUID": BASIC_TEXT_SR}, "no CT image (Basic Text SR Storage)"),
            ({"SOPClassUID": None, "Modality": None}, None),
            ({"PhotometricInterpretation": "MONOCHROME1"}, None),
            ({"ImageType": ["ORIGINAL", "LOCALIZER", "AXIAL", "LOCALIZER"]}, None),
        ],
    )
    def test_unsuitable_file_in_a_ct_series(
        self, tmp_path: Path, overrides: dict[str, object], reason: str | None
    ) -> None:
        write_stack(tmp_path, [0, 2])
        write(fake_slice(4, 3, **overrides), tmp_path / "odd")
        found = scan(tmp_path)
        if reason is None:
            # SOP class from the file meta, Modality from the SOP class
            assert found.series[0].slice_count == 3
        else:
            assert found.series[0].slice_count == 2
            assert found.series[0].warnings == ()
            assert [(item.path.name, item.reason) for item in found.skipped] == [("odd", reason)]

    def test_images_that_cannot_be_told_apart(self, tmp_path: Path) -> None:
        for number in (1, 2):
            write_bare(fake_slice(number, number, SOPInstanceUID=None), tmp_path / str(number), implicit=False)
        found = scan(tmp_path)
        assert found.series == ()
        assert found.skip_summary() == {"no SOPInstanceUID": 2}
        assert all(item.damaged for item in found.skipped)

    def test_files_that_are_no_dicom(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2])
        (tmp_path / "readme.txt").write_text("Muster, Eva")
        (tmp_path / ".nomedia").touch()
        (tmp_path / "done.flag").touch()
        (tmp_path / "._IM1").write_bytes(b"\0\x05\x16\x07\0\x02\0\0" + b"\0" * 200)  # what macOS leaves
        (tmp_path / "binary").write_bytes(b"\x08\x00" * 100)
        for name in ("letter.docx", "export.ZIP"):
            (tmp_path / name).write_bytes(b"PK\3\4")
        found = scan(tmp_path)
        assert found.skip_summary() == {
            "not DICOM": 5,
            "empty, or zeros where a DICOM file starts": 1,
            "zip file in a folder: unpacked only when it is given by itself": 1,
        }
        assert not any(item.damaged for item in found.skipped), "none of them can be a slice"
        assert found.series[0].slice_count == 2

    def test_a_slice_that_is_cut_off_anywhere_is_no_hole(self, tmp_path: Path) -> None:
        """It may be lost, or stays in its series and fails it; half of a UID is no other series."""
        _, cut = write_stack(tmp_path, [0, 2])
        content = cut.read_bytes()
        for length in range(0, len(content), 7):
            cut.write_bytes(content[:length])
            found = scan(tmp_path)
            lost = [(item.path, item.damaged) for item in found.skipped]
            assert [series.slice_count for series in found.series] == [1 if lost else 2], length
            assert lost in ([], [(cut, True)]), length

    def test_where_there_is_nothing_else_earlier_results_are_meant(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2], series="1.2.9.1", DerivationDescription=fake_derivation().description)
        assert [series.uid for series in scan(tmp_path).usual] == ["1.2.9.1"]
        write_stack(tmp_path / "source", [0, 2], series="1.2.9.2")
        assert [series.uid for series in scan(tmp_path).usual] == ["1.2.9.2"]

    @pytest.mark.parametrize("kept", [0, 128, 132, 300])
    def test_a_slice_of_zeros_may_be_lost(self, tmp_path: Path, kept: int) -> None:
        path = write_stack(tmp_path, [0, 2])[0]
        path.write_bytes(path.read_bytes()[:kept] + b"\0" * 1024)
        assert [(item.path, item.damaged) for item in scan(tmp_path).skipped] == [(path, True)]

    @pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
    @pytest.mark.parametrize(
        ("overrides", "left_out"),
        [
            ({"Modality": "OT"}, ("Modality OT",)),
            ({"RescaleType": "HU_MOD"}, ("RescaleType HU_MOD: not HU",)),
            ({"NumberOfFrames": 2}, ("multi-frame image: not supported yet",)),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, ()),
            ({"SOPClassUID": SECONDARY_CAPTURE}, ()),
            ({"SOPClassUID": BASIC_TEXT_SR, "Modality": "SR"}, ()),
            ({"Modality": "OT", "SeriesInstanceUID": "1.2.9.9"}, ()),
        ],
    )
    def test_a_ct_image_that_is_skipped_may_be_a_slice_of_the_series_that_it_names(
        self, tmp_path: Path, overrides: dict[str, object], left_out: tuple[str, ...]
    ) -> None:
        write_stack(tmp_path, [0, 2])
        write(fake_slice(4, 3, **overrides), tmp_path / "odd")
        assert only_series(tmp_path).left_out == left_out
        (skipped,) = scan(tmp_path).skipped
        assert not skipped.damaged

    def test_unreadable_header(self, tmp_path: Path) -> None:
        path = write(fake_slice(), tmp_path / "a")
        content = path.read_bytes()
        start = content.index(b"\x08\x00\x16\x00UI")
        path.write_bytes(content[:start] + b"\x08\x00\x16\x00ZZ\xff\xff" + content[start + 8 :])
        found = scan(tmp_path)
        assert found.series == ()
        assert [(item.reason, item.damaged) for item in found.skipped] == [("unreadable DICOM header", True)]

    def test_duplicate_is_skipped_whichever_way_the_folder_is_listed(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1), tmp_path / "b" / "copy")
        write(fake_slice(0, 1), tmp_path / "a" / "first")
        found = scan(tmp_path)
        assert found.series[0].slices[0].path == tmp_path / "a" / "first"
        assert [(item.path.name, item.reason) for item in found.skipped] == [("copy", "duplicate SOPInstanceUID")]

    def test_other_pixels_under_the_same_header_are_no_duplicate(self, tmp_path: Path) -> None:
        """A tool that keeps the UIDs of what it has processed; nobody can tell which of the two is the scan."""
        write(fake_slice(0, 1), tmp_path / "a")
        write(fake_slice(0, 1, pixels=fake_pixels() + np.int16(1)), tmp_path / "b")
        for name in "ab":
            os.utime(tmp_path / name, (0, 0))
        found = scan(tmp_path)
        assert found.skipped == ()
        assert not found.series[0].selectable
        assert "share their SOPInstanceUID" in str(found.series[0].skip_reason)

    def test_a_copy_in_another_encoding_is_a_duplicate(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1), tmp_path / "a")
        write_native(fake_slice(0, 1), tmp_path / "b", ImplicitVRLittleEndian)
        found = scan(tmp_path)
        assert found.skip_summary() == {"duplicate SOPInstanceUID": 1}
        assert found.series[0].skip_reason is None

    @pytest.mark.parametrize("whole", ["a", "b"])
    def test_a_copy_that_is_cut_off_is_a_duplicate(self, tmp_path: Path, whole: str) -> None:
        content = write(fake_slice(0, 1), tmp_path / whole).read_bytes()
        for name in {"a", "b", "c"} - {whole}:
            (tmp_path / name).write_bytes(content[:-40])
        found = scan(tmp_path)
        assert found.skip_summary() == {"duplicate SOPInstanceUID": 2}
        assert found.series[0].skip_reason is None
        assert [item.path.name for item in found.series[0].slices] == [whole]

    def test_what_ctclip_has_denoised_is_off_by_default_and_warned_of(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2], DerivationDescription=fake_derivation().description)
        series = only_series(tmp_path)
        assert series.skip_reason == "denoised by ctclip already; name it with --series to take it all the same"
        assert series.selectable
        (warning,) = (text for text in series.warnings if "ctclip" in text)
        assert warning.startswith("denoised by ctclip already")

    @pytest.mark.parametrize(
        ("image_type", "word"),
        [
            (["DERIVED", "SECONDARY", "MIP"], "MIP"),
            (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 MIP_THIN"], "MIP"),
            (["DERIVED", "SECONDARY", "MINIP"], "MINIP"),
            (["ORIGINAL", "PRIMARY", "PERFUSION MIP"], "MIP"),
            (["DERIVED", "SECONDARY", "MAXIMUM_IP"], "MAXIMUM"),
            (["DERIVED", "SECONDARY", "Projection Image"], "PROJECTION"),
            (["DERIVED", "PRIMARY", "PERFUSION", "MTT"], "PERFUSION"),
            (["DERIVED", "SECONDARY", "OTHER", "CSA CBF"], "CBF"),
            (["DERIVED", "SECONDARY", "AXIAL", "SUBTRACTION"], "SUBTRACTION"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
    def test_projections_maps_and_differences_are_off_by_default_and_warned_of(
        self, tmp_path: Path, image_type: list[str], word: str
    ) -> None:
        write_stack(tmp_path, [0, 2], ImageType=image_type)
        write(fake_slice(4, 3), tmp_path / "plain")
        series = only_series(tmp_path)
        assert series.skip_reason == f"no plain slices (ImageType {word}): 2 of 3 slices"
        assert series.selectable
        assert series.skip_reason in series.warnings

    @pytest.mark.parametrize(
        "image_type",
        [
            ["ORIGINAL", "PRIMARY", "PERFUSION"],
            ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
            ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
            ["DERIVED", "PRIMARY", "AXIAL", "SHIMIPO"],
        ],
    )
    def test_other_image_types_are_plain_slices(self, tmp_path: Path, image_type: list[str]) -> None:
        write_stack(tmp_path, [0, 2], ImageType=image_type)
        assert (only_series(tmp_path).skip_reason, only_series(tmp_path).warnings) == (None, ())

    @pytest.mark.parametrize("earlier", ["", f" | {fake_derivation().description}"])
    def test_simulated_low_dose_is_denoised_by_default(self, tmp_path: Path, earlier: str) -> None:
        noise = NoiseInsertion("dose 0.25", "seed=0", "0.1.0").description
        write_stack(tmp_path, [0, 2], DerivationDescription=noise + earlier)
        series = only_series(tmp_path)
        assert series.skip_reason is None
        assert len(series.warnings) == bool(earlier)

    @pytest.mark.parametrize("rescale_type", ["MGML", "Z_EFF", "mg/ml Muster"])
    def test_values_that_are_no_hu_by_their_own_word(self, tmp_path: Path, rescale_type: str) -> None:
        """Spectral CT stores material density as CT images; the derived series would call it HU."""
        write_stack(tmp_path, [0, 2], RescaleType=rescale_type)
        found = scan(tmp_path)
        shown = rescale_type if "Muster" not in rescale_type else "unknown"
        assert found.series == ()
        assert found.skip_summary() == {f"RescaleType {shown}: not HU": 2}

    @pytest.mark.parametrize("rescale_type", ["HU", "hu", "US", ""])
    def test_rescale_types_of_ct(self, tmp_path: Path, rescale_type: str) -> None:
        write_stack(tmp_path, [0, 2], RescaleType=rescale_type)
        assert only_series(tmp_path).slice_count == 2

    def test_different_slices_with_one_sop_instance_uid_make_no_hole(self, tmp_path: Path) -> None:
        """Leaving one of them out as a copy would lose a slice without a word."""
        write_stack(tmp_path / "a", [0, 2, 4])
        write(fake_slice(6, 3), tmp_path / "a" / "other")
        write_stack(tmp_path / "b", [0, 2], series="1.2.9.9")
        found = scan(tmp_path)
        assert found.skipped == ()
        assert [(s.uid, s.slice_count, s.skip_reason, s.selectable) for s in found.series] == [
            ("1.2.3.2", 4, "2 slices share their SOPInstanceUID with a different slice: export again", False),
            ("1.2.9.9", 2, None, True),
        ]

    def test_one_sop_instance_uid_in_two_series(self, tmp_path: Path) -> None:
        for series in ("1.2.9.1", "1.2.9.2"):
            write(fake_slice(0, 1, series=series, SOPInstanceUID="1.2.9.7"), tmp_path / series)
        assert [s.selectable for s in scan(tmp_path).series] == [False, False]

    def test_two_studies_under_one_series_uid_are_not_merged(self, tmp_path: Path) -> None:
        write_stack(tmp_path / "a", [0, 2])
        write(fake_slice(4, 3, StudyInstanceUID="1.2.3.77"), tmp_path / "b")
        series = only_series(tmp_path)
        assert series.skip_reason == "2 studies under one SeriesInstanceUID: export again"
        assert not series.selectable

    @pytest.mark.parametrize(("ids", "several"), [(("A", "A"), False), (("A", None), False), (("A", "B"), True)])
    def test_several_patients_under_one_series_uid_are_said(
        self, tmp_path: Path, ids: tuple[str | None, ...], several: bool
    ) -> None:
        for number, patient in enumerate(ids, start=1):
            write(fake_slice(2.0 * number, number, PatientID=patient), tmp_path / f"{number}")
        expected = ("2 PatientIDs under one SeriesInstanceUID: check whose slices they are",) if several else ()
        assert only_series(tmp_path).warnings == expected

    @pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
    @pytest.mark.parametrize("text", [PATIENT, "../../etc", "1.2.3\x1b[31m"])
    def test_a_series_uid_that_is_none_is_neither_shown_nor_a_path(self, tmp_path: Path, text: str) -> None:
        write_stack(tmp_path / "a", [0, 2], SeriesInstanceUID=text)
        write(fake_slice(4, 3, SeriesInstanceUID="other text"), tmp_path / "b")
        found = scan(tmp_path)
        assert sorted(s.slice_count for s in found.series) == [1, 2]
        assert all(s.uid.startswith("2.25.") for s in found.series)
        assert all("no SeriesInstanceUID" in s.warnings[0] for s in found.series)

    def test_reasons_hold_no_patient_data(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1, Modality="MR"), tmp_path / "Muster_Eva")
        found = scan(tmp_path)
        assert all("Muster" not in item.reason for item in found.skipped)

    def test_series_numbers_of_skipped_files_are_taken(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1, SeriesNumber=4), tmp_path / "a")
        write(fake_slice(0, 1, series="1.2.9.9", SeriesNumber=1004, Modality="MR"), tmp_path / "b")
        assert {used.number for used in scan(tmp_path).series_numbers} == {4, 1004}


class TestFiles:
    """How files are found."""

    def test_nested_folders_and_odd_names(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1), tmp_path / "Müller" / "S 1" / "ohne Endung")
        write(fake_slice(1, 2), tmp_path / "I10.txt")
        assert only_series(tmp_path).slice_count == 2

    def test_folders_deeper_than_python_recurses(self, tmp_path: Path) -> None:
        deep = [tmp_path]
        for _ in range(1100):
            deep.append(deep[-1] / "d")
            deep[-1].mkdir()
        path = write(fake_slice(), deep[-1] / "slice")
        assert only_series(tmp_path).slice_count == 1
        path.unlink()
        for folder in reversed(deep[1:]):  # shutil.rmtree, with which pytest tidies up, does recurse
            folder.rmdir()

    def test_a_tree_with_real_dicomdirs(self) -> None:
        """The one that comes with pydicom: seven index files with entries, three studies, CT beside MR and CR."""
        found = scan(Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests")
        skipped = found.skip_summary()
        assert skipped["DICOMDIR (an index, not an image)"] == 8
        assert (skipped["Modality MR"], skipped["Modality CR"], skipped["localizer"]) == (17, 3, 2)
        assert [(s.series_number, s.slice_count, s.skip_reason) for s in found.series] == [
            (1, 50, "no usable image size, position or orientation"),
            (2, 4, None),
            (5, 5, None),
        ]

    def test_single_file(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2])
        assert only_series(tmp_path / "001").slice_count == 1

    def test_link_loop_is_harmless(self, tmp_path: Path) -> None:
        write_stack(tmp_path / "deep", [0, 2])
        os.symlink(tmp_path, tmp_path / "deep" / "up", target_is_directory=True)
        assert only_series(tmp_path).slice_count == 2
        assert scan(tmp_path).skipped == ()

    def test_broken_link_and_pipe(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0])
        os.symlink(tmp_path / "nowhere", tmp_path / "link")
        os.mkfifo(tmp_path / "pipe")
        found = scan(tmp_path)
        assert found.skip_summary() == {"file cannot be read": 1}
        assert found.skipped[0].damaged
        assert not is_dicom_file(tmp_path / "pipe"), "and is not waited for"
        for source in (tmp_path / "pipe", Path("/dev/null")):
            with pytest.raises(SeriesError, match="is a pipe or a device: expected a folder"):
                scan(source)

    @pytest.mark.parametrize(
        ("function", "error", "reason"),
        [
            ("os.scandir", PermissionError, "folder cannot be read"),
            ("pathlib.Path.open", PermissionError, "file cannot be read"),
            ("pydicom.dcmread", ValueError, "unreadable DICOM header"),
        ],
    )
    def test_what_cannot_be_read_may_be_lost_slices(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: type[Exception], reason: str
    ) -> None:
        write_stack(tmp_path, [0])

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(function, fail)
        (skipped,) = scan(tmp_path).skipped
        assert (skipped.reason, skipped.damaged) == (reason, True)

    @pytest.mark.parametrize("implicit", [True, False])
    def test_file_without_preamble(self, tmp_path: Path, implicit: bool) -> None:
        path = write_bare(fake_slice(), tmp_path / "bare", implicit=implicit)
        assert path.read_bytes()[:2] == b"\x08\x00"
        assert only_series(tmp_path).slice_count == 1

    def test_file_meta_without_preamble(self, tmp_path: Path) -> None:
        path = write(fake_slice(), tmp_path / "a")
        path.write_bytes(path.read_bytes()[132:])
        assert only_series(tmp_path).slice_count == 1

    def test_sop_class_and_instance_from_file_meta(self, tmp_path: Path) -> None:
        ds = fake_slice(0, 5)
        path = write(ds, tmp_path / "a")
        content = path.read_bytes()
        for tag in (b"\x08\x00\x16\x00UI", b"\x08\x00\x18\x00UI"):
            start = content.index(tag)
            length = int.from_bytes(content[start + 6 : start + 8], "little")
            content = content[: start + 6] + b"\0\0" + content[start + 8 + length :]
        path.write_bytes(content)
        assert only_series(tmp_path).slices[0].sop_instance_uid == ds.file_meta.MediaStorageSOPInstanceUID

    def test_implicit_vr(self, tmp_path: Path) -> None:
        ds = fake_slice()
        write_native(ds, tmp_path / "a", ImplicitVRLittleEndian)
        assert only_series(tmp_path).slices[0].sop_instance_uid == ds.SOPInstanceUID

    def test_nothing_is_written(self, tmp_path: Path) -> None:
        write_stack(tmp_path, [0, 2])
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        scan(tmp_path)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SeriesError, match="is empty"):
            scan(tmp_path)

    def test_missing_folder_is_not_named(self, tmp_path: Path) -> None:
        with pytest.raises(SeriesError, match="does not exist") as caught:
            scan(tmp_path / "Muster_Eva")
        assert "Muster" not in str(caught.value)

    def test_axial_constant_is_what_the_name_says(self, tmp_path: Path) -> None:
        write(fake_slice(0, 1, orientation=AXIAL), tmp_path / "a")
        write(fake_slice(0, 2, series="1.2.9.1", orientation=tilted(40)), tmp_path / "b")
        reasons = {series.uid: series.skip_reason for series in scan(tmp_path).series}
        assert reasons == {"1.2.3.2": None, "1.2.9.1": "not axial (reformat): 1 of 1 slices"}
