"""What files declare about themselves is checked before memory of that size is asked for."""

from __future__ import annotations

import io
import resource
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from ctclip.dicom import read_slice, scan
from ctclip.dicom.streams import declared_image, is_irreversible
from ctclip.errors import SeriesError
from tests.dicom.fake import fake_pixels, fake_slice, write

SHAPE = (64, 80)
SIZE_AT = 8
"""Of width and height in a JPEG 2000 codestream; the offsets of the image follow."""


def _compressed(syntax: pydicom.uid.UID = JPEG2000Lossless, **options: object) -> pydicom.Dataset:
    ds = fake_slice(pixels=fake_pixels(shape=SHAPE))
    ds.compress(syntax, generate_instance_uid=False, **options)
    return ds


def _stream(ds: pydicom.Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def test_a_jpeg2000_stream_that_declares_a_huge_image_is_refused_at_once(tmp_path: Path) -> None:
    """openjpeg would ask for 1.4 GB and more: numpy's and Python's own counters do not see that."""
    ds = _compressed()
    stream = bytearray(_stream(ds))
    struct.pack_into(">II", stream, SIZE_AT, 30_000, 30_000)
    struct.pack_into(">II", stream, SIZE_AT + 16, 30_000, 30_000)
    ds.PixelData = encapsulate([bytes(stream)])
    path = write(ds, tmp_path / "a")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SeriesError, match="the stream holds 30000 x 30000 pixels .*expected 64 x 80"):
        read_slice(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 64 << 10


def test_header_and_stream_may_not_agree_on_a_huge_image_either(tmp_path: Path) -> None:
    ds = _compressed()
    stream = bytearray(_stream(ds))
    struct.pack_into(">II", stream, SIZE_AT, 8000, 8000)
    ds.PixelData = encapsulate([bytes(stream)])
    ds.Rows = ds.Columns = 8000
    with pytest.raises(SeriesError, match="8000 x 8000 pixels from a stream of"):
        read_slice(write(ds, tmp_path / "a"))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_an_empty_slice_is_no_trap(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    ds = fake_slice(pixels=np.full((1024, 1024), 24, np.int16))
    ds.compress(syntax, generate_instance_uid=False)
    assert np.all(read_slice(write(ds, tmp_path / "a")).stored == 24)


def test_sizes_of_streams() -> None:
    stream = _stream(_compressed())
    assert declared_image(stream) == (*SHAPE, 1)
    assert declared_image(b"\0\0\0\x0cjP  \r\n\x87\n" + stream) == (*SHAPE, 1), "inside a JP2 file"
    frame = struct.pack(">2sHBHHBBBB", b"\xff\xf7", 11, 16, 512, 256, 1, 1, 17, 0)
    assert declared_image(b"\xff\xd8\xff\xe0\x00\x04ab" + frame) == (512, 256, 1)
    for nothing in (b"", b"\xff\xd8", b"\xff\xd8\xff", stream[:20], b"\0" * 64):
        assert declared_image(nothing) is None


@pytest.mark.parametrize(
    ("syntax", "options", "lossy"), [(JPEG2000, {"j2k_cr": [5]}, True), (JPEG2000Lossless, {}, False)]
)
def test_a_lossy_stream_is_known_though_its_header_does_not_say_so(
    tmp_path: Path, syntax: pydicom.uid.UID, options: dict[str, object], lossy: bool
) -> None:
    ds = _compressed(syntax, **options)
    assert "LossyImageCompression" not in ds
    assert is_irreversible(_stream(ds)) is lossy
    assert read_slice(write(ds, tmp_path / "a")).lossy is lossy


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_a_jpeg_is_lossy_though_its_header_does_not_say_so(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    encoded = io.BytesIO()
    Image.fromarray((fake_pixels(signed=False, shape=SHAPE) // 8).astype(np.uint8)).save(encoded, "JPEG")
    ds = fake_slice(pixels=fake_pixels(signed=False, shape=SHAPE), bits=8, BitsAllocated=8)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([encoded.getvalue()])
    assert read_slice(write(ds, tmp_path / "a")).lossy


def test_a_deflated_file_that_grows_out_of_proportion_is_refused(tmp_path: Path) -> None:
    ds = fake_slice(pixels=np.zeros((16, 16), np.int16))
    ds.add_new(0x00091001, "OB", b"\0" * (40 << 20))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    del ds
    tracemalloc.start()
    try:
        (skipped,) = scan(tmp_path).skipped
        assert (skipped.reason.split(" of ")[0], skipped.damaged) == ("deflated file", True)
        with pytest.raises(SeriesError, match="would grow more than 200 times"):
            read_slice(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_jpeg_ls_stream_with_another_size_is_refused(tmp_path: Path) -> None:
    frame = struct.pack(">2sHBHHBBBB", b"\xff\xf7", 11, 16, 60_000, 60_000, 1, 1, 17, 0)
    ds = _compressed(RLELossless)
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.PixelData = encapsulate([b"\xff\xd8" + frame + b"\0" * 100])
    with pytest.raises(SeriesError, match="the stream holds 60000 x 60000"):
        read_slice(write(ds, tmp_path / "a"))
