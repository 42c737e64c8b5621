"""From file to HU and back, with known answers."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ctclip.dicom import read_slice, to_stored
from ctclip.dicom.lenient import quiet_pydicom
from ctclip.errors import SeriesError

from .fake import PATIENT, SHAPE, fake_pixels, fake_slice, write, write_bare, write_native

LARGE = (64, 80)
"""JPEG 2000 encoders want at least 32 pixels a side."""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[pydicom.Dataset], object]:
    """Write a fake slice and read it back."""
    return lambda ds: read_slice(write(ds, tmp_path / "slice"))


def with_corners(value: int, *, signed: bool = True) -> np.ndarray:
    """Pixels whose corners hold one value, which the centre holds once too."""
    pixels = fake_pixels(signed=signed)
    pixels[[0, 0, -1, -1], [0, -1, 0, -1]] = value
    pixels[6, 8] = value
    return pixels


class TestHU:
    """HU = slope x stored + intercept, with the slice's own pair."""

    @pytest.mark.parametrize(
        ("slope", "intercept"),
        [(1, -1024), (1, 0), (1, -8192), (1, "-0"), (0.5, -1024.5), (2.25, -500), (1, -1024.3), (0.1, 0)],
    )
    def test_rescale(self, read: Callable, slope: float, intercept: float) -> None:
        pixels = fake_pixels()
        ct = read(fake_slice(pixels=pixels, slope=slope, intercept=intercept))
        assert np.array_equal(ct.hu, (pixels * float(slope) + float(intercept)).astype(np.float32))
        assert (ct.hu.dtype, ct.slope, ct.intercept) == (np.float32, float(slope), float(intercept))
        assert np.array_equal(ct.stored, pixels)

    def test_slope_is_applied_in_float64(self, read: Callable) -> None:
        """In float32, 30000 x 0.1 differs by 1e-4 HU; the sum must be rounded once."""
        pixels = fake_pixels()
        pixels[5, 5] = 30001
        ct = read(fake_slice(pixels=pixels, slope=0.1, intercept=-1024.3))
        assert ct.hu[5, 5] == np.float32(30001 * 0.1 - 1024.3)

    @pytest.mark.parametrize(("slope", "intercept"), [(255, -1024), (257, -1), (-257, 1)])
    def test_large_whole_slopes_are_exact(self, read: Callable, slope: int, intercept: int) -> None:
        """Up to 2^24 float32 is exact; above, 65535 x 257 - 1 would be rounded twice in float32."""
        pixels = fake_pixels(signed=False)
        pixels[5, 5] = 65535
        ct = read(fake_slice(pixels=pixels, bits=16, slope=slope, intercept=intercept))
        assert np.array_equal(ct.hu, (pixels.astype(np.int64) * slope + intercept).astype(np.float32))

    @pytest.mark.parametrize("bits", [12, 13, 14, 16])
    @pytest.mark.parametrize("signed", [True, False])
    def test_all_values_of_all_formats(self, read: Callable, bits: int, signed: bool) -> None:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        pixels = fake_pixels(signed=signed)
        pixels[3, :3] = [low, high, high - 1]
        ct = read(fake_slice(pixels=pixels, bits=bits))
        assert np.array_equal(ct.stored, pixels)
        assert ct.stored.dtype == pixels.dtype
        assert ct.hu[3, 0] == low - 1024

    def test_bits_above_bits_stored_are_cleared(self, read: Callable) -> None:
        """Old scanners kept an overlay in the unused bits."""
        pixels = fake_pixels(signed=False)
        overlay = np.zeros_like(pixels)
        overlay[4:8, 4:8] = 0xF000
        assert np.array_equal(read(fake_slice(pixels=pixels | overlay, bits=12)).stored, pixels)

    def test_sign_is_extended_from_bits_stored(self, read: Callable) -> None:
        pixels = fake_pixels() - 1000
        cleared = (pixels.view(np.uint16) & 0x0FFF).view(np.int16)
        assert pixels.min() < 0 <= cleared.min()
        assert np.array_equal(read(fake_slice(pixels=cleared, bits=12)).stored, pixels)

    def test_values_lie_in_the_lower_bits_unless_the_header_says_so(self, read: Callable) -> None:
        pixels = fake_pixels(signed=False)
        assert np.array_equal(read(fake_slice(pixels=pixels, bits=12, HighBit=None)).stored, pixels)

    def test_values_in_the_upper_bits(self, read: Callable) -> None:
        pixels = fake_pixels(signed=False)
        pixels[0] = 7
        ds = fake_slice(pixels=pixels << 4, PixelPaddingValue=7)
        ds.BitsStored = 12
        ct = read(ds)
        assert np.array_equal(ct.stored, pixels)
        assert np.array_equal(ct.padding[:1], pixels[:1] == 7)
        ds.PixelPaddingValue = 7 << 4
        assert np.array_equal(read(ds).stored, pixels), "padding is a value, not a container"

    def test_run_lengths_keep_values_in_the_upper_bits(self, read: Callable) -> None:
        pixels = fake_pixels(signed=False)
        ds = fake_slice(pixels=pixels << 4)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.BitsStored = 12
        assert np.array_equal(read(ds).stored, pixels)


class TestEncodings:
    """The same pixels, whatever the transfer syntax."""

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
    def test_native(self, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
        ct = read_slice(write_native(fake_slice(), tmp_path / "a", syntax))
        assert np.array_equal(ct.stored, fake_pixels())
        assert ct.stored.dtype.isnative
        assert ct.source_transfer_syntax == syntax

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    @pytest.mark.parametrize("frames", [b"one ", b"nan ", b"1\\1 ", b"1e999 "])
    def test_a_broken_number_of_frames_stops_no_slice(
        self, tmp_path: Path, syntax: pydicom.uid.UID, frames: bytes
    ) -> None:
        path = write_native(fake_slice(NumberOfFrames="1" * len(frames)), tmp_path / "a", syntax)
        content = path.read_bytes()
        assert content.count(b"1" * len(frames)) == 1
        path.write_bytes(content.replace(b"1" * len(frames), frames))
        assert np.array_equal(read_slice(path).stored, fake_pixels())

    def test_without_preamble_and_meta(self, tmp_path: Path) -> None:
        ct = read_slice(write_bare(fake_slice(), tmp_path / "bare", implicit=True))
        assert np.array_equal(ct.stored, fake_pixels())
        assert ct.source_transfer_syntax == ImplicitVRLittleEndian

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
    @pytest.mark.parametrize("signed", [True, False])
    def test_compressed(self, read: Callable, syntax: pydicom.uid.UID, signed: bool) -> None:
        pixels = fake_pixels(signed=signed, shape=LARGE)
        ds = fake_slice(pixels=pixels)
        ds.compress(syntax, generate_instance_uid=False)
        ct = read(ds)
        assert np.array_equal(ct.stored, pixels)
        assert ct.source_transfer_syntax == syntax

    @pytest.mark.parametrize("signed", [True, False])
    def test_jpeg2000_sign_contradicts_header(self, read: Callable, signed: bool) -> None:
        """The stream says one sign, PixelRepresentation the other: the header is right."""
        truth = fake_pixels(shape=LARGE) - (1000 if signed else 0)
        stream_pixels = truth & 0x1FFF if signed else truth
        ds = fake_slice(pixels=stream_pixels.astype(np.uint16 if signed else np.int16), bits=13)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.PixelRepresentation = int(signed)
        ds.add_new("SmallestImagePixelValue", "US", int(truth.min()) & 0xFFFF)
        ds.add_new("LargestImagePixelValue", "US", int(truth.max()))
        assert np.array_equal(read(ds).stored, truth)

    def test_jpeg2000_sign_contradicts_header_in_a_file_of_a_scanner(self) -> None:
        """It comes with pydicom: read with the stream's sign, -2000 would be 63536."""
        ct = read_slice(Path(pydicom.__file__).parent / "data" / "test_files" / "J2K_pixelrep_mismatch.dcm")
        assert (ct.hu.min(), ct.hu.max()) == (-2000, 1896)
        assert np.array_equal(ct.padding, ct.hu == -2000)

    def test_wrong_sign_is_refused_when_the_header_shows_it(self, read: Callable) -> None:
        truth = fake_pixels() - 1000
        ds = fake_slice(pixels=truth.view(np.uint16))
        ds.add_new("SmallestImagePixelValue", "US", int(truth.min()) & 0xFFFF)
        ds.add_new("LargestImagePixelValue", "US", int(truth.max()))
        with pytest.raises(SeriesError, match="PixelRepresentation 0 contradicts"):
            read(ds)

    def test_stale_extremes_are_no_error(self, read: Callable) -> None:
        ds = fake_slice(pixels=fake_pixels(signed=False), SmallestImagePixelValue=0, LargestImagePixelValue=7)
        assert np.array_equal(read(ds).stored, fake_pixels(signed=False))

    def test_one_extreme_that_fits_the_other_sign_is_no_error(self, read: Callable) -> None:
        pixels = (fake_pixels() - 1000).view(np.uint16)
        largest = int(pixels.view(np.int16).max())
        ds = fake_slice(pixels=pixels, SmallestImagePixelValue=0, LargestImagePixelValue=largest)
        assert np.array_equal(read(ds).stored, pixels)


class TestPadding:
    """Padding is found with the right sign, and guessed only where it is safe."""

    @pytest.mark.parametrize(
        ("value", "vr", "stored"),
        [
            pytest.param(-2000, "SS", -2000, id="signed"),
            pytest.param(63536, "US", -2000, id="63536 means -2000"),
            pytest.param(32768, "US", -32768, id="32768 means -32768"),
        ],
    )
    def test_tagged(self, read: Callable, value: int, vr: str, stored: int) -> None:
        pixels = with_corners(stored)
        ds = fake_slice(pixels=pixels)
        ds.add_new("PixelPaddingValue", vr, value)
        ct = read(ds)
        assert np.array_equal(ct.padding, pixels == stored)
        assert ct.padding.sum() == 5
        assert not ct.untagged_padding

    def test_negative_tag_on_unsigned_pixels(self, read: Callable) -> None:
        ds = fake_slice(pixels=with_corners(63536, signed=False))
        ds.add_new("PixelPaddingValue", "SS", -2000)
        assert read(ds).padding.sum() == 5

    @pytest.mark.parametrize(("value", "limit"), [(-2000, -1990), (-1990, -2000)])
    def test_range(self, read: Callable, value: int, limit: int) -> None:
        pixels = with_corners(-2000)
        pixels[5, 5:8] = [-1990, -1989, -2001]
        ds = fake_slice(pixels=pixels)
        ds.add_new("PixelPaddingValue", "SS", value)
        ds.add_new("PixelPaddingRangeLimit", "SS", limit)
        assert np.array_equal(read(ds).padding, (pixels >= -2000) & (pixels <= -1990))

    @pytest.mark.parametrize(("limit", "expected"), [(-1100, -1099), (-500, -1150)])
    def test_tissue_in_a_range_of_padding_is_denoised(self, read: Callable, limit: int, expected: int) -> None:
        """A value of padding below air goes to the one beside it; up to -500 HU the lung would become that value."""
        pixels = with_corners(-2000)
        ds = fake_slice(pixels=pixels, intercept=0.0)
        ds.add_new("PixelPaddingValue", "SS", -2000)
        ds.add_new("PixelPaddingRangeLimit", "SS", limit)
        ct = read(ds)
        stored = to_stored(ct, np.full_like(ct.hu, -1150))
        assert set(stored[~ct.padding].tolist()) == {expected}

    def test_padding_outside_bits_stored_is_kept(self, read: Callable) -> None:
        pixels = with_corners(63536, signed=False)
        ds = fake_slice(pixels=pixels, bits=12)
        ds.add_new("PixelPaddingValue", "US", 63536)
        ct = read(ds)
        assert np.array_equal(ct.stored, pixels)
        assert np.array_equal(to_stored(ct, np.zeros_like(ct.hu))[ct.padding], [63536] * 5)

    def test_a_range_of_padding_outside_bits_stored_is_kept(self, read: Callable) -> None:
        pixels = with_corners(63536, signed=False)
        pixels[0, 1:3] = [63546, 63540]
        ds = fake_slice(pixels=pixels, bits=12)
        ds.add_new("PixelPaddingValue", "US", 63536)
        ds.add_new("PixelPaddingRangeLimit", "US", 63546)
        ct = read(ds)
        assert np.array_equal(ct.stored, pixels)
        assert np.array_equal(ct.padding, pixels >= 63536)

    @pytest.mark.parametrize("intercept", [-1024.0, 0.0])
    def test_a_tagged_value_that_tissue_has_too_is_padding_at_the_border_only(
        self, read: Callable, intercept: float
    ) -> None:
        """Single pixels of noise with the value of the tag would become holes in what the network sees."""
        pixels = fake_pixels()
        pixels[pixels == 1000] = 999
        pixels[:3] = 1000
        pixels[6, 8] = pixels[9, 4] = 1000
        ds = fake_slice(pixels=pixels, intercept=intercept)
        ds.add_new("PixelPaddingValue", "SS", 1000)
        expected = np.zeros(SHAPE, bool)
        expected[:3] = True
        assert np.array_equal(read(ds).padding, expected)

    @pytest.mark.parametrize("at", [np.s_[:2, 4:8], np.s_[-2:, 4:8], np.s_[4:8, :2], np.s_[4:8, -2:]])
    def test_such_padding_is_found_at_every_border(self, read: Callable, at: tuple[slice, slice]) -> None:
        pixels = fake_pixels()
        pixels[pixels == 1000] = 999
        pixels[at] = 1000
        ds = fake_slice(pixels=pixels)
        ds.add_new("PixelPaddingValue", "SS", 1000)
        assert np.array_equal(read(ds).padding, pixels == 1000)

    def test_what_is_below_air_is_padding_wherever_it_lies(self, read: Callable) -> None:
        pixels = with_corners(-2000)
        pixels[4, 4] = 30
        pixels[[0, -1]] = pixels[:, [0, -1]] = 30
        ds = fake_slice(pixels=pixels)
        ds.add_new("PixelPaddingValue", "SS", -2000)
        ds.add_new("PixelPaddingRangeLimit", "SS", 30)
        padding = read(ds).padding
        assert padding[6, 8], "-3024 HU"
        assert padding[0].all(), "-994 HU at the border"
        assert not padding[4, 4], "-994 HU inside"

    def test_what_is_as_dense_as_air_is_padding_wherever_it_lies(self, read: Callable) -> None:
        pixels = fake_pixels()
        pixels[pixels == 24] = 30
        pixels[6, 8] = 24
        ds = fake_slice(pixels=pixels, intercept=-1024.0)
        ds.add_new("PixelPaddingValue", "SS", 24)
        assert np.argwhere(read(ds).padding).tolist() == [[6, 8]], "-1000 HU inside"

    def test_untagged_corners(self, read: Callable) -> None:
        """Only outside the inscribed circle: the same value in the centre is air in the patient."""
        pixels = with_corners(24)
        pixels[6, 0] = 24
        ct = read(fake_slice(pixels=pixels))
        assert np.argwhere(ct.padding).tolist() == [[0, 0], [0, 15], [6, 0], [11, 0], [11, 15]]
        assert ct.untagged_padding

    def test_corners_above_air_are_anatomy(self, read: Callable) -> None:
        ct = read(fake_slice(pixels=with_corners(25)))
        assert not ct.padding.any()
        assert not ct.untagged_padding

    def test_unequal_corners_are_no_padding(self, read: Callable) -> None:
        pixels = with_corners(24)
        pixels[0, 0] = 23
        assert not read(fake_slice(pixels=pixels)).padding.any()


class TestToStored:
    """The way back."""

    @pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.1, -1024.3), (2.25, -500), (-1, 100), (1e-3, 7)])
    def test_unchanged_hu_give_identical_pixels(self, read: Callable, slope: float, intercept: float) -> None:
        ct = read(fake_slice(slope=slope, intercept=intercept))
        back = to_stored(ct, ct.hu.copy())
        assert np.array_equal(back, ct.stored)
        assert back.dtype == ct.stored.dtype

    def test_hu_beyond_float32_precision_give_identical_pixels(self, read: Callable) -> None:
        """Neighbouring stored values share one float32 HU here; unchanged pixels must not be recomputed from it."""
        pixels = fake_pixels() + 30000
        ct = read(fake_slice(pixels=pixels, slope=0.0001, intercept=20000.0))
        assert np.unique(ct.hu).size < np.unique(pixels).size
        assert np.array_equal(to_stored(ct, ct.hu.copy()), pixels)

    @pytest.mark.parametrize(
        ("hu", "expected"), [(0.0, 1024), (0.4, 1024), (0.6, 1025), (-0.4, 1024), (-0.6, 1023), (99.7, 1124)]
    )
    def test_rounds(self, read: Callable, hu: float, expected: int) -> None:
        ct = read(fake_slice())
        assert np.all(to_stored(ct, np.full(SHAPE, hu + 1e-4)) == expected)

    @pytest.mark.parametrize(
        ("bits", "signed", "low", "high"), [(12, False, 0, 4095), (16, True, -32768, 32767), (13, True, -4096, 4095)]
    )
    def test_clips_to_bits_stored(self, read: Callable, bits: int, signed: bool, low: int, high: int) -> None:
        ct = read(fake_slice(pixels=fake_pixels(signed=signed), bits=bits))
        assert np.all(to_stored(ct, np.full(SHAPE, 1e6)) == high)
        assert np.all(to_stored(ct, np.full(SHAPE, -1e6)) == low)

    @pytest.mark.parametrize(
        ("hu", "tag", "expected"),
        [
            (-1000.4, {"PixelPaddingValue": 24}, 23),
            (-1000.0, {"PixelPaddingValue": 24}, 25),
            (-999.6, {"PixelPaddingValue": 24}, 25),
            (-999.4, {"PixelPaddingValue": 24}, 25),
            (-1000.6, {"PixelPaddingValue": 24}, 23),
            (-1002.0, {"PixelPaddingValue": 20, "PixelPaddingRangeLimit": 24}, 25),
            (-1002.1, {"PixelPaddingValue": 20, "PixelPaddingRangeLimit": 24}, 19),
            (-1024.3, {"PixelPaddingValue": 0}, 1),
            (4000.0, {"PixelPaddingValue": 4095}, 4094),
            (-1000.0, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, 24),
            (-1000.0, {}, 24),
        ],
    )
    def test_what_is_no_padding_gets_no_padding_value(
        self, read: Callable, hu: float, tag: dict[str, int], expected: int
    ) -> None:
        """Denoised air at -1000 HU would be cut out of the image by a viewer that masks the padding."""
        ct = replace(read(fake_slice(pixels=fake_pixels(signed=False), bits=12, **tag)), padding=np.zeros(SHAPE, bool))
        assert to_stored(ct, np.full(SHAPE, hu)).tolist() == np.full(SHAPE, expected).tolist()

    def test_padding_is_the_same_before_and_after(self, read: Callable) -> None:
        air = np.full(SHAPE, 24, np.uint16)
        air[:, 5:] = np.random.default_rng(0).integers(10, 24, (SHAPE[0], SHAPE[1] - 5))
        ct = read(fake_slice(pixels=air, bits=12, PixelPaddingValue=24))
        denoised = ct.hu + np.random.default_rng(1).normal(3, 3, SHAPE)
        assert np.array_equal(to_stored(ct, denoised) == 24, air == 24)

    def test_padding_comes_back(self, read: Callable) -> None:
        pixels = with_corners(-2000)
        ds = fake_slice(pixels=pixels)
        ds.add_new("PixelPaddingValue", "SS", -2000)
        ct = read(ds)
        processed = np.where(ct.padding, np.nan, 50.0)
        assert np.array_equal(to_stored(ct, processed), np.where(pixels == -2000, -2000, 1074))

    @pytest.mark.parametrize(("slope", "intercept"), [(2, -1024), (0.5, 3), (-1, 100)])
    def test_changed_hu_go_back_by_the_slices_own_slope(self, read: Callable, slope: float, intercept: float) -> None:
        ct = read(fake_slice(slope=slope, intercept=intercept))
        assert np.array_equal(to_stored(ct, ct.hu + np.float32(12 * slope)), ct.stored + 12)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, read: Callable, value: float) -> None:
        ct = read(fake_slice())
        with pytest.raises(SeriesError, match="192 processed pixels are not finite"):
            to_stored(ct, np.full(SHAPE, value))

    def test_before_and_after_are_in_hu_and_without_padding(self, read: Callable) -> None:
        pixels = with_corners(-2000)
        ds = fake_slice(pixels=pixels, slope=2.0, intercept=-1000.0)
        ds.add_new("PixelPaddingValue", "SS", -2000)
        ct = read(ds)
        before_hu, after_hu = ct.before_and_after_hu(ct.stored + 3)
        assert np.array_equal(before_hu, np.where(pixels == -2000, -2000, 2.0 * pixels - 1000))
        assert np.array_equal(after_hu, np.where(pixels == -2000, -2000, 2.0 * pixels - 994))

    def test_other_shape_is_refused(self, read: Callable) -> None:
        with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
            to_stored(read(fake_slice()), np.zeros((3, 3)))


class TestUnusableSlices:
    """One line with SOPInstanceUID, transfer syntax, cause, expectation and remedy."""

    @pytest.mark.parametrize(
        ("overrides", "cause"),
        [
            ({"RescaleSlope": None}, "RescaleSlope or RescaleIntercept is missing"),
            ({"RescaleIntercept": None}, "RescaleSlope or RescaleIntercept is missing"),
            ({"RescaleSlope": "1e300"}, "RescaleSlope 1e+300 gives impossible values"),
            ({"RescaleSlope": "-1e300"}, "RescaleSlope -1e+300 gives impossible values"),
            ({"RescaleIntercept": float("nan")}, "RescaleSlope or RescaleIntercept is missing, zero or no number"),
            ({"RescaleSlope": 0}, "RescaleSlope or RescaleIntercept is missing, zero"),
            ({"PixelData": None}, "PixelData is missing"),
            ({"PixelData": b""}, "PixelData is missing"),
            ({"Rows": 60000, "Columns": 60000}, "Rows x Columns is 60000 x 60000"),
            ({"Rows": 0}, "Rows x Columns is 0 x 16"),
            ({"Rows": 4000, "Columns": 4000}, "PixelData holds 384 bytes; expected 32000000"),
            ({"ImagePositionPatient": None}, "ImagePositionPatient or ImageOrientationPatient is missing"),
            ({"ImageOrientationPatient": [0] * 6}, "ImagePositionPatient or ImageOrientationPatient is missing"),
            ({"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "ImageOrientationPatient is missing"),
            ({"BitsStored": 16, "HighBit": 11}, "pixel description makes no sense"),
            ({"BitsStored": 17}, "pixel description makes no sense"),
            ({"BitsAllocated": 12}, "pixel description makes no sense"),
            ({"PixelRepresentation": None}, "pixel description makes no sense"),
            ({"NumberOfFrames": 2}, "2 frames"),
            ({"SamplesPerPixel": 3}, "3 samples"),
        ],
    )
    def test_header(self, read: Callable, overrides: dict[str, object], cause: str) -> None:
        ds = fake_slice(0, 9, **overrides)
        with pytest.raises(SeriesError) as caught:
            read(ds)
        message = str(caught.value)
        assert message.startswith("Slice 1.2.3.2.9 (Explicit VR Little Endian): ")
        assert cause in message
        assert "; expected " in message
        assert "\n" not in message

    def test_an_element_that_cannot_be_copied(self, tmp_path: Path) -> None:
        path = write(fake_slice(), tmp_path / "a")
        series_number = b"\x20\x00\x11\x00"
        path.write_bytes(path.read_bytes().replace(series_number + b"IS", series_number + b"ZZ"))
        with pytest.raises(SeriesError, match=r"element \(0020,0011\) has an unknown VR"):
            read_slice(path)

    @pytest.mark.parametrize("keep", [-40, -300, 700, 200, 100, 3])
    def test_truncated(self, tmp_path: Path, keep: int) -> None:
        path = write(fake_slice(), tmp_path / "Muster_Eva")
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(SeriesError) as caught:
            read_slice(path)
        assert "Muster" not in str(caught.value)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
    @pytest.mark.parametrize("cut", [10, 60])
    def test_truncated_compressed(self, tmp_path: Path, syntax: pydicom.uid.UID, cut: int) -> None:
        ds = fake_slice(pixels=fake_pixels(shape=LARGE))
        ds.compress(syntax, generate_instance_uid=False)
        path = write(ds, tmp_path / "a")
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(SeriesError, match="missing or cut off"):
            read_slice(path)

    def test_a_file_that_is_replaced_while_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(fake_slice(), tmp_path / "a")
        times = count()
        size = path.stat().st_size
        monkeypatch.setattr("os.fstat", lambda _: SimpleNamespace(st_size=size, st_mtime_ns=next(times)))
        with pytest.raises(SeriesError, match="file changed while it was read"):
            read_slice(path)

    def test_a_file_that_grows_while_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(fake_slice(), tmp_path / "a")

        class Growing:
            def __init__(self, opened: Path, mode: str) -> None:
                self._file = io.FileIO(opened, mode.replace("b", ""))
                self.fileno = self._file.fileno

            def __enter__(self) -> Growing:
                return self

            def __exit__(self, *error: object) -> None:
                self._file.close()

            def read(self) -> bytes:
                content = self._file.readall()
                path.write_bytes(content + b"more")
                return content

        monkeypatch.setattr(Path, "open", lambda opened, mode: Growing(opened, mode))
        monkeypatch.setattr(Path, "write_bytes", lambda target, content: io.FileIO(target, "w").write(content))
        with pytest.raises(SeriesError, match="file changed while it was read"):
            read_slice(path)

    def test_garbage_stream(self, read: Callable) -> None:
        ds = fake_slice(pixels=fake_pixels(shape=LARGE))
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.PixelData = encapsulate([b"\0\1" * 50])
        with pytest.raises(SeriesError, match=r"JPEG 2000 .*pixel data cannot be decoded"):
            read(ds)

    def test_declared_compressed_but_is_not(self, tmp_path: Path) -> None:
        ds = fake_slice()
        path = write(ds, tmp_path / "a")
        native = b"1.2.840.10008.1.2.1\0"
        # same length, so that the file meta stays intact
        path.write_bytes(path.read_bytes().replace(native, b"1.2.840.10008.1.2.5\0", 1))
        with pytest.raises(SeriesError, match="RLE Lossless"):
            read_slice(path)

    def test_unknown_syntax(self, tmp_path: Path) -> None:
        ds = fake_slice()
        ds.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
        ds.save_as(tmp_path / "a", implicit_vr=False, little_endian=True, enforce_file_format=True)
        with pytest.raises(SeriesError, match=r"1\.2\.840\.113619\.5\.2.*cannot be decoded"):
            read_slice(tmp_path / "a")

    def test_unreadable_files(self, tmp_path: Path) -> None:
        (tmp_path / "Muster.txt").write_text("Muster, Eva")
        for path in (tmp_path / "Muster.txt", tmp_path / "Muster.none", tmp_path):
            with pytest.raises(SeriesError) as caught:
                read_slice(path)
            assert "Muster" not in str(caught.value)

    def test_no_message_quotes_the_patient(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """pydicom's own warnings quote values: none may come through, neither as warning nor in the log."""
        ds = fake_slice(RescaleSlope=None)
        path = write(ds, tmp_path / PATIENT)
        content = path.read_bytes().replace(b"19600102", b"geb 1960")
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught_warnings:
            warnings.simplefilter("always")
            with pytest.raises(SeriesError) as caught:
                read_slice(path)
        said = [str(caught.value), *(str(warning.message) for warning in caught_warnings), caplog.text]
        assert not any("Muster" in text or "1960" in text for text in said)
        assert not caught_warnings


class TestSilence:
    """pydicom is quiet while ctclip works, and as before afterwards."""

    @staticmethod
    def switches() -> tuple[object, ...]:
        """The global switches that quiet_pydicom touches."""
        settings = pydicom.config.settings
        level = logging.getLogger("pydicom").level
        return settings.reading_validation_mode, settings.writing_validation_mode, level, list(warnings.filters)

    def test_overlapping_blocks_restore_everything(self) -> None:
        before = self.switches()
        first, second = quiet_pydicom(), quiet_pydicom()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
        second.__exit__(None, None, None)
        assert self.switches() == before

    def test_threads(self, tmp_path: Path) -> None:
        before = self.switches()
        path = write(fake_slice(), tmp_path / "a")
        with ThreadPoolExecutor(4) as pool:
            slices = list(pool.map(read_slice, [path] * 40))
        assert all(np.array_equal(ct.stored, fake_pixels()) for ct in slices)
        assert self.switches() == before


class TestHeader:
    """What is handed on."""

    def test_header_has_everything_but_the_pixels(self, read: Callable) -> None:
        ds = fake_slice()
        ct = read(ds)
        assert "PixelData" not in ct.header
        assert ct.header.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert {e.tag for e in ds} - {e.tag for e in ct.header} == {pydicom.tag.Tag("PixelData")}
        assert list(ct.header.ConvolutionKernel) == ["Br38f", "3"]

    def test_jpeg_ls_lossless_is_named(self) -> None:
        """The name that messages show comes from pydicom's dictionary."""
        assert JPEGLSLossless.name.startswith("JPEG-LS Lossless")
