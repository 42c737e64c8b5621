"""Enhanced multi-frame CT: frames become slices, and the derived slices name the frame that they came from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, RLELossless
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.dicom import derive_slice, derived_series_numbers, opened_export, read_slice
from ctclip.dicom import enhanced as enhanced_module
from ctclip.errors import SeriesError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.pipeline.strict import require_undamaged
from ctclip.verification import check_series
from ctclip.weights import save_checkpoint
from tests.dicom.fake import NOW, SERIES, fake_derivation, fake_slice, write
from tests.dicom.fake_enhanced import ENHANCED_UID, enhanced

HEIGHTS, INTERCEPTS = (4.0, 0.0, 2.0), (-1024.0, -1000.0, -8192.0)


@pytest.fixture
def frames() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 900, (32, 40)).astype(np.int16) for _ in range(3)]


@pytest.fixture
def source(tmp_path: Path, frames: list[np.ndarray]) -> Path:
    """A folder with one Enhanced object, whose frames are not in the order of their positions."""
    write(enhanced(frames, HEIGHTS, INTERCEPTS), tmp_path / "in" / "multi")
    return tmp_path / "in"


def test_frames_become_slices_with_their_own_rescale_in_the_order_of_their_positions(
    source: Path, frames: list[np.ndarray]
) -> None:
    with opened_export(source) as found:
        (series,) = found.series
        assert series.skip_reason is None
        assert [item.position_mm for item in series.slices] == [0.0, 2.0, 4.0]
        slices = [read_slice(item.path) for item in series.slices]
        temporary = series.slices[0].path.parent
    for ct, index in zip(slices, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(ct.hu, frames[index].astype(np.float32) + INTERCEPTS[index])
        header = ct.header
        assert header.SOPClassUID == CTImageStorage
        assert (header.KVP, header.ConvolutionKernel, header.SliceThickness) == (120, "Br38f", 2)
        assert (header.ExposureTime, header.XRayTubeCurrent, header.AcquisitionNumber) == (500, 100, 3)
        assert list(header.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert header.InstanceNumber == index + 1
        assert "NumberOfFrames" not in header
        assert "PerFrameFunctionalGroupsSequence" not in header
    assert not temporary.exists(), "frames are removed afterwards"


def test_compressed_frames_give_the_same(source: Path, frames: list[np.ndarray], tmp_path: Path) -> None:
    packed = enhanced(frames, HEIGHTS, INTERCEPTS)
    encoded = []
    for frame in frames:
        single = enhanced([frame], HEIGHTS[:1], INTERCEPTS[:1])
        del single.NumberOfFrames
        single.compress(RLELossless, generate_instance_uid=False)
        encoded.append(next(pydicom.encaps.generate_frames(single.PixelData, number_of_frames=1)))
    packed.PixelData = encapsulate(encoded)
    packed["PixelData"].VR = "OB"
    packed["PixelData"].is_undefined_length = True
    packed.file_meta.TransferSyntaxUID = RLELossless
    write(packed, tmp_path / "packed" / "multi")
    with opened_export(source) as plain, opened_export(tmp_path / "packed") as compressed:
        pairs = zip(plain.series[0].slices, compressed.series[0].slices, strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(read_slice(one.path).hu, read_slice(other.path).hu)


def test_frames_of_8_bits_and_an_odd_number_of_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7)).astype(np.uint8)
    ds = enhanced(pixels, HEIGHTS, INTERCEPTS)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels.tobytes() + b"\0"
    write(ds, tmp_path / "in" / "multi")
    with opened_export(tmp_path / "in") as found:
        slices = [read_slice(item.path).stored for item in found.series[0].slices]
    np.testing.assert_array_equal(slices, pixels[[1, 2, 0]])


def test_the_derived_series_names_object_and_frame_and_passes_the_check(source: Path, tmp_path: Path) -> None:
    save_checkpoint(DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1, residual=True)), tmp_path / "tiny.pt")
    command = ["denoise", str(source), str(tmp_path / "out"), "--model", str(tmp_path / "tiny.pt"), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (series,) = (tmp_path / "out").iterdir()
    derived = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    references = [ds.SourceImageSequence[0] for ds in derived]
    assert [item.ReferencedSOPClassUID for item in references] == [EnhancedCTImageStorage] * 3
    assert [item.ReferencedSOPInstanceUID for item in references] == [ENHANCED_UID] * 3
    assert [item.ReferencedFrameNumber for item in references] == [2, 3, 1]
    assert len({ds.SOPInstanceUID for ds in derived}) == 3
    broken = [finding for finding in check_series(series, source) if not finding.passed]
    assert broken == []
    if shutil.which("dciodvfy"):
        report = subprocess.run(["dciodvfy", str(next(series.iterdir()))], capture_output=True, text=True, check=False)
        assert "Error" not in report.stderr + report.stdout


def test_frames_that_do_not_fit_the_header_are_a_reason(source: Path, frames: list[np.ndarray]) -> None:
    lying = enhanced(frames, HEIGHTS, INTERCEPTS)
    for stated in (2_000_000_000, 2, 4):
        lying.NumberOfFrames = stated
        write(lying, source / "multi")
        with opened_export(source) as found:
            assert found.series == ()
            (reason,) = found.skip_summary()
            assert f"{stated} frames and describes 3" in reason
    short = enhanced(frames, HEIGHTS, INTERCEPTS)
    short.PixelData = short.PixelData[:-100]
    write(short, source / "multi")
    with opened_export(source) as found:
        (reason,) = found.skip_summary()
        assert "bytes of pixels" in reason


def test_a_localizer_frame_among_axial_ones_is_skipped(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    shared = ds.SharedFunctionalGroupsSequence[0]
    del shared.CTImageFrameTypeSequence
    for frame, third in zip(ds.PerFrameFunctionalGroupsSequence, ("LOCALIZER", "VOLUME", "VOLUME"), strict=True):
        frame.CTImageFrameTypeSequence = [Dataset()]
        frame.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", third, "NONE"]
    write(ds, source / "multi")
    with opened_export(source) as found:
        assert [item.instance_number for item in found.series[0].slices] == [2, 3]
        assert found.skip_summary() == {"localizer": 1}


def test_frames_that_are_no_hu_are_skipped(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PixelValueTransformationSequence[0].RescaleType = "MGML"
    write(ds, source / "multi")
    with opened_export(source) as found:
        assert found.skip_summary() == {"RescaleType MGML: not HU": 3}


def test_an_error_names_object_and_frame(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    del ds.PerFrameFunctionalGroupsSequence[1].PixelValueTransformationSequence
    write(ds, source / "multi")
    with opened_export(source) as found:
        broken = found.series[0].slices[0]
        with pytest.raises(SeriesError, match=rf"^Slice {ENHANCED_UID}, frame 2 \("):
            read_slice(broken.path)


def test_an_object_that_breaks_half_way_leaves_no_frame(
    source: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = enhanced_module._single_frame

    def fail_at_the_second(ds: Dataset, index: int, pixel_data: bytes) -> Dataset:
        if index == 1:
            raise ValueError("a value that cannot be copied")
        return made(ds, index, pixel_data)

    monkeypatch.setattr(enhanced_module, "_single_frame", fail_at_the_second)
    with opened_export(source) as found:
        assert found.series == ()
        (reason,) = found.skip_summary()
        assert reason.startswith("Enhanced CT cannot be read (ValueError)")


def test_one_broken_object_is_left_out_as_perhaps_lost_slices_and_the_others_are_taken(
    source: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.9.9", "1.2.9.9.1"
    broken = write(ds, source / "broken")
    write(ds, source / "broken")
    made = enhanced_module._single_frame

    def fail_at_the_second(ds: Dataset, index: int, pixel_data: bytes) -> Dataset:
        if index == 1 and ds.SeriesInstanceUID == "1.2.9.9":
            raise ValueError("a value that cannot be copied")
        return made(ds, index, pixel_data)

    monkeypatch.setattr(enhanced_module, "_single_frame", fail_at_the_second)
    with opened_export(source) as found:
        assert [(series.uid, series.slice_count) for series in found.series] == [(SERIES, 3)]
        assert [(item.path, item.damaged) for item in found.skipped] == [(broken, True)]
        with pytest.raises(SeriesError, match="nothing was written: 1 files may be lost slices"):
            require_undamaged(found)


def test_series_numbers_of_single_images_are_taken_too(source: Path) -> None:
    write(fake_slice(series="1.2.9.9", SeriesNumber=1004), source / "single")
    with opened_export(source) as found:
        assert {used.number for used in found.series_numbers} == {4, 1004}
        assert derived_series_numbers(found)[SERIES] == 1005


def test_single_and_multi_frame_images_under_one_series_uid(source: Path) -> None:
    write(fake_slice(), source / "single")
    with opened_export(source) as found:
        assert [(series.slice_count, series.selectable) for series in found.series] == [(1, False), (3, False)]
        assert all("under one SeriesInstanceUID" in str(series.skip_reason) for series in found.series)


def test_localizer_frames_are_skipped(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    write(ds, source / "multi")
    with opened_export(source) as found:
        assert found.series == ()
        assert found.skip_summary() == {"localizer": 3}


def test_the_technique_is_that_of_the_first_of_two_sources(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    second = Dataset()
    second.KVP, second.XRayTubeCurrentInmA, second.ExposureInmAs, second.FilterType = 140.0, 11.0, 7.0, "FLAT"
    ds.SharedFunctionalGroupsSequence[0].CTAdditionalXRaySourceSequence = [second]
    write(ds, source / "multi")
    with opened_export(source) as found:
        header = read_slice(found.series[0].slices[0].path).header
    assert (header.KVP, header.XRayTubeCurrent) == (120, 100)
    assert "Exposure" not in header
    assert "FilterType" not in header


def test_technique_and_display_of_a_frame_stand_where_a_ct_image_has_them(
    source: Path, frames: list[np.ndarray]
) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    shared = ds.SharedFunctionalGroupsSequence[0]
    acquisition, display, kept = Dataset(), Dataset(), Dataset()
    acquisition.GantryDetectorTilt, acquisition.TableHeight, acquisition.RotationDirection = -12.5, 140.0, "CC"
    display.WindowCenter, display.WindowWidth = 40, 400
    kept.ImageComments = "kept by a conversion"
    shared.CTAcquisitionDetailsSequence, shared.FrameVOILUTSequence = [acquisition], [display]
    shared.UnassignedSharedConvertedAttributesSequence = [kept]
    shared.CTExposureSequence[0].ExposureInmAs = 7.6
    ds.DimensionOrganizationType, ds.DimensionIndexSequence = "3D", [Dataset()]
    ds.PerFrameFunctionalGroupsSequence[1].FrameVOILUTSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence[1].FrameVOILUTSequence[0].WindowCenter = -600
    write(ds, source / "multi")
    with opened_export(source) as found:
        headers = {item.instance_number: read_slice(item.path).header for item in found.series[0].slices}
    for header in headers.values():
        assert (header.GantryDetectorTilt, header.TableHeight, header.RotationDirection) == (-12.5, 140, "CC")
        assert (header.Exposure, header.ImageComments, header.WindowWidth) == (8, "kept by a conversion", 400)
        assert header.PatientPosition == "HFS", "what is at the top stays there"
        assert not [element for element in header if element.keyword.startswith("Dimension")]
    assert [headers[number].WindowCenter for number in (1, 2, 3)] == [40, -600, 40], "a frame's own value goes first"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("20200102030405.25+0100", ("20200102030405.25+0100", "20200102", "030405.25")),
        ("202001020304", ("202001020304", "20200102", "0304")),
        ("2020", (None, "20200101", "101113")),
        ("", (None, "20200101", "101113")),
    ],
)
def test_a_frame_has_its_own_time(
    source: Path, frames: list[np.ndarray], stated: str, expected: tuple[str | None, ...]
) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    ds.PerFrameFunctionalGroupsSequence[1].FrameContentSequence[0].FrameAcquisitionDateTime = stated
    write(ds, source / "multi")
    with opened_export(source) as found:
        header = read_slice(found.series[0].slices[0].path).header
    keywords = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
    assert tuple(header.get(keyword) for keyword in keywords) == expected


def test_a_frame_has_its_own_phase_and_irradiation_event(source: Path, frames: list[np.ndarray]) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence, start=1):
        cardiac, event = Dataset(), Dataset()
        cardiac.NominalPercentageOfCardiacPhase, event.IrradiationEventUID = 10.0 * number, f"1.2.3.8.{number}"
        frame.CardiacSynchronizationSequence, frame.IrradiationEventIdentificationSequence = [cardiac], [event]
        frame.FrameContentSequence[0].TemporalPositionIndex = number
    write(ds, source / "multi")
    with opened_export(source) as found:
        slices = [read_slice(item.path) for item in found.series[0].slices]
    for ct, number in zip(slices, (2, 3, 1), strict=True):
        derived = derive_slice(ct, ct.stored, fake_derivation(), series_number=1004, now=NOW)
        assert derived.NominalPercentageOfCardiacPhase == 10 * number
        assert derived.TemporalPositionIndex == number
        assert derived.IrradiationEventUID == f"1.2.3.8.{number}"


@pytest.mark.parametrize(
    ("frame_type", "technique", "image_type", "reason"),
    [
        (["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"], "NONE", ["ORIGINAL", "PRIMARY", "AXIAL", "PERFUSION"], None),
        (["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"], "NONE", ["DERIVED", "PRIMARY", "AXIAL", "MAXIMUM"], "MAXIMUM"),
        (["DERIVED", "PRIMARY", "VOLUME", "NONE"], "MIN_IP", ["DERIVED", "PRIMARY", "AXIAL", "MIN_IP"], "MIN_IP"),
    ],
)
def test_frames_keep_the_words_for_projections_and_maps(
    source: Path,
    frames: list[np.ndarray],
    frame_type: list[str],
    technique: str,
    image_type: list[str],
    reason: str | None,
) -> None:
    ds = enhanced(frames, HEIGHTS, INTERCEPTS)
    stated = ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
    stated.FrameType, stated.VolumeBasedCalculationTechnique = frame_type, technique
    write(ds, source / "multi")
    with opened_export(source) as found:
        (series,) = found.series
        assert list(read_slice(series.slices[0].path).header.ImageType) == image_type
    assert series.skip_reason == (reason and f"no plain slices (ImageType {reason}): 3 of 3 slices")


def _write_concatenation(folder: Path, frames: list[np.ndarray]) -> None:
    for part in range(2):
        ds = enhanced(frames, [10.0 * part + height for height in HEIGHTS], INTERCEPTS)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ENHANCED_UID}.{part}"
        ds.ConcatenationUID, ds.SOPInstanceUIDOfConcatenationSource = "1.2.3.8", "1.2.3.9"
        ds.InConcatenationNumber, ds.InConcatenationTotalNumber, ds.ConcatenationFrameOffsetNumber = (
            part + 1,
            2,
            3 * part,
        )
        write(ds, folder / str(part))


@pytest.mark.parametrize("damage", ["cut", "NumberOfFrames"])
@pytest.mark.parametrize("part", [0, 1])
def test_a_part_of_a_concatenation_that_cannot_be_read_fails_the_series(
    tmp_path: Path, frames: list[np.ndarray], part: int, damage: str
) -> None:
    _write_concatenation(tmp_path / "in", frames)
    path = tmp_path / "in" / str(part)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        ds = pydicom.dcmread(path)
        ds.NumberOfFrames = 4
        write(ds, path)
    with opened_export(tmp_path / "in") as found:
        (series,) = found.series
        assert [(item.path, item.damaged) for item in found.skipped] == [(path, True)]
    assert series.slice_count == 3, "of 6"
    assert series.failure.startswith("1 of its files cannot be read, the first: Enhanced CT ")


def test_a_copy_of_an_object_that_is_cut_off_is_a_duplicate(source: Path) -> None:
    for name in ("a", "z"):
        (source / name).write_bytes((source / "multi").read_bytes()[:-100])
    with opened_export(source) as found:
        assert [(series.slice_count, series.failure) for series in found.series] == [(3, "")]
        assert found.skip_summary() == {"duplicate SOPInstanceUID": 2}
        assert not any(item.damaged for item in found.skipped)


def test_parts_of_a_concatenation_become_one_row_of_numbers(tmp_path: Path, frames: list[np.ndarray]) -> None:
    _write_concatenation(tmp_path / "in", frames)
    with opened_export(tmp_path / "in") as found:
        headers = [read_slice(item.path).header for item in found.series[0].slices]
    assert sorted(header.InstanceNumber for header in headers) == [1, 2, 3, 4, 5, 6]
    assert not [element for element in headers[0] if "Concatenation" in element.keyword]
