"""Real exports, where the shared data is at hand: the traps that nobody would think of faking."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ctclip.dicom import derive_slice, read_slice, save_slice, scan, to_stored
from ctclip.dicom.decode import pixel_format
from ctclip.dicom.pixels import padding_range
from ctclip.errors import SeriesError

from .fake import NOW, fake_derivation

FOLDERS = [
    "ge_head_tilt_varspacing",
    "philips_phantom_export",
    "rider_chest_ge_std_overlap",
    "siemens_body_j2k_lossless",
    "singles_transfer_syntax",
]
UNDECODABLE = "1.2.840.113619.2.30.1.1762373387.1450.921053510.991"
"""The slice that claims JPEG-LS but is not encapsulated."""


@pytest.fixture
def dicom(shared_data: Path) -> Path:
    """Folder of the DICOM exports."""
    return shared_data / "dicom"


def test_every_export_is_tested(dicom: Path) -> None:
    assert {path.name for path in dicom.iterdir() if path.is_dir()} == {*FOLDERS, "seg_disguised_as_ct"}


def decodable(folder: Path) -> list[Path]:
    """All slices that read_slice must accept."""
    series = scan(folder).series
    return [item.path for one in series for item in one.slices if item.sop_instance_uid != UNDECODABLE]


class TestScan:
    """Series as the data's description tells them."""

    def test_ge_head(self, dicom: Path) -> None:
        found = scan(dicom / "ge_head_tilt_varspacing")
        assert [(s.series_number, s.slice_count, s.skip_reason) for s in found.series] == [(2, 28, None)]
        assert found.series[0].warnings == ("uneven step: 1.08 to 7.00 mm", "gantry tilt of 18.5 degrees")
        assert found.skipped == ()

    def test_philips_export(self, dicom: Path) -> None:
        found = scan(dicom / "philips_phantom_export")
        assert [(s.series_number, s.slice_count, s.skip_reason) for s in found.series] == [
            (201, 10, None),
            (202, 10, None),
            (203, 10, None),
        ]
        summary = found.skip_summary()
        assert summary.pop("DICOMDIR (an index, not an image)") >= 2
        assert summary == {"Secondary Capture": 2, "localizer": 1}
        assert {used.number for used in found.series_numbers} >= {100, 201, 202, 203, 401}

    def test_rider(self, dicom: Path) -> None:
        series = scan(dicom / "rider_chest_ge_std_overlap").series
        assert [(s.slice_count, s.skip_reason, s.warnings) for s in series] == [(24, None, ())]
        heights = [item.position_mm for item in series[0].slices]
        assert np.allclose(np.diff(heights), 0.8, atol=0.01)

    def test_siemens_without_uids(self, dicom: Path) -> None:
        series = scan(dicom / "siemens_body_j2k_lossless").series
        assert [(s.slice_count, s.skip_reason, s.series_number) for s in series] == [(20, None, None)]
        assert len({item.sop_instance_uid for item in series[0].slices}) == 20
        assert any("no SeriesInstanceUID" in text for text in series[0].warnings)

    def test_label_mask(self, dicom: Path) -> None:
        found = scan(dicom / "seg_disguised_as_ct")
        assert found.series == ()
        assert found.skip_summary() == {"Modality SEG": 1}

    def test_singles(self, dicom: Path) -> None:
        found = scan(dicom / "singles_transfer_syntax")
        assert sum(s.slice_count for s in found.series) == 19
        assert found.skip_summary() == {"DICOMDIR (an index, not an image)": 1}


class TestPixels:
    """Decoding and the way back."""

    @pytest.mark.parametrize("slice_", ["CT1", "CT2"])
    def test_lossless_syntaxes_decode_to_the_uncompressed_pixels(self, dicom: Path, slice_: str) -> None:
        folder = dicom / "singles_transfer_syntax" / "wg04"
        truth = read_slice(folder / f"{slice_}_UNC")
        for name in ("RLE", "JPLL", "JLSL", "J2KR"):
            ct = read_slice(folder / f"{slice_}_{name}")
            assert np.array_equal(ct.stored, truth.stored), name
            assert np.array_equal(ct.padding, truth.padding), name

    @pytest.mark.parametrize(
        ("slice_", "name", "limit"),
        [("CT1", "JLSN", 4), ("CT2", "JLSN", 4), ("CT1", "J2KI", 402), ("CT2", "J2KI", 402)],
    )
    def test_lossy_syntaxes_stay_close(self, dicom: Path, slice_: str, name: str, limit: int) -> None:
        folder = dicom / "singles_transfer_syntax" / "wg04"
        truth, lossy = (read_slice(folder / f"{slice_}_{kind}") for kind in ("UNC", name))
        assert 0 < np.abs(lossy.stored.astype(int) - truth.stored).max() <= limit
        assert (truth.lossy, lossy.lossy) == (False, True)

    def test_wrong_transfer_syntax(self, dicom: Path) -> None:
        with pytest.raises(SeriesError, match=rf"Slice {UNDECODABLE} \(JPEG-LS Lossless.*cannot be decoded"):
            read_slice(dicom / "singles_transfer_syntax" / "other" / "20-wrong-transfer-syntax.dcm")

    def test_padding_of_rider(self, dicom: Path) -> None:
        ct = read_slice(dicom / "rider_chest_ge_std_overlap" / "1-001.dcm")
        assert ct.hu[ct.padding].max() == ct.hu[ct.padding].min() == -3024
        assert ct.hu[~ct.padding].min() > -1100
        assert not ct.untagged_padding

    def test_padding_of_the_ge_head(self, dicom: Path) -> None:
        ct = read_slice(dicom / "ge_head_tilt_varspacing" / "10.dcm")
        assert np.array_equal(ct.padding, ct.stored == -1500)

    @pytest.mark.parametrize("folder", FOLDERS)
    def test_unchanged_hu_come_back_bit_exactly(self, dicom: Path, folder: str) -> None:
        paths = decodable(dicom / folder)
        assert paths
        for path in paths:
            ct = read_slice(path)
            back = to_stored(ct, ct.hu.copy())
            assert np.array_equal(back, ct.stored)
            assert back.dtype == ct.stored.dtype


def derive_first_and_last(folder: Path, target: Path) -> list[tuple[Path, Path]]:
    """Derive the outer two slices of every series (all single files) and save them."""
    pairs = []
    for series in scan(folder).series:
        for item in {series.slices[0], series.slices[-1]}:
            if item.sop_instance_uid == UNDECODABLE:
                continue
            ct = read_slice(item.path)
            stored = to_stored(ct, ct.hu + np.float32(3.0))
            output = target / f"{len(pairs):03d}.dcm"
            save_slice(derive_slice(ct, stored, fake_derivation(), series_number=1001, now=NOW), output)
            pairs.append((item.path, output))
    return pairs


class TestDerived:
    """Saved and read again."""

    @pytest.mark.parametrize("folder", FOLDERS)
    def test_round_trip(self, dicom: Path, tmp_path: Path, folder: str) -> None:
        pairs = derive_first_and_last(dicom / folder, tmp_path)
        assert pairs
        for source, output in pairs:
            before, after = read_slice(source), read_slice(output)
            assert np.array_equal(after.stored[before.padding], before.stored[before.padding])
            inside = ~before.padding & (before.stored < before.stored.max() - 3)
            low, high = padding_range(before.header, pixel_format(before.header)) or (1, 0)
            moved = (before.stored + 3 >= low) & (before.stored + 3 <= high)  # no pixel gets a padding value
            tolerance = abs(before.slope) * (0.5 + moved[inside])
            assert np.all(np.abs(after.hu[inside] - (before.hu[inside] + 3)) <= tolerance + 1e-3)
            for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
                assert after.header.get(keyword) == before.header.get(keyword)
            assert not [element for element in after.header if element.tag.is_private]

    def test_derived_series_is_found_again(self, dicom: Path, tmp_path: Path) -> None:
        derive_first_and_last(dicom / "siemens_body_j2k_lossless", tmp_path)
        series = scan(tmp_path).series
        assert [(s.slice_count, s.selectable, s.series_number) for s in series] == [(2, True, 1001)]

    @pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
    @pytest.mark.parametrize("folder", FOLDERS)
    def test_no_new_errors_in_dciodvfy(self, dicom: Path, tmp_path: Path, folder: str) -> None:
        pairs = derive_first_and_last(dicom / folder, tmp_path)
        assert pairs
        for source, output in pairs:
            new = dciodvfy_errors(output) - dciodvfy_errors(with_sop_class(source, tmp_path / "source.dcm"))
            assert not new, f"{source.name}: {sorted(new)}"


def with_sop_class(source: Path, copy: Path) -> Path:
    """Return the source, or a copy that states its SOP class: without one the validator checks nothing."""
    ds: Dataset = pydicom.dcmread(source)
    if ds.get("SOPClassUID"):
        return source
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
    ds.save_as(copy)
    return copy


def dciodvfy_errors(path: Path) -> set[str]:
    """Return the error lines of the validator.

    A wrong UID of the source is wrong wherever it is referred to, so complaints about a UID's value lose the place.
    """
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    errors = {line.strip() for line in (done.stdout + done.stderr).splitlines() if "Error" in line}
    return {line.split(" in (0x")[0] if " for UID - " in line else line for line in errors}
