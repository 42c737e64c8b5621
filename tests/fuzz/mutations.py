"""Mutated DICOM files, the same for the same seed."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from ctclip.dicom.lenient import quiet_pydicom
from tests.dicom.fake import fake_slice
from tests.dicom.fake_enhanced import enhanced

HEADER_VALUES: dict[str, list[object]] = {
    "Rows": [0, 1, 65535, None],
    "Columns": [0, 1, 65535, None],
    "NumberOfFrames": ["0", "-1", "2147483647", "x", None],
    "BitsAllocated": [0, 1, 7, 8, 12, 32, 64, 65535, None],
    "BitsStored": [0, 17, 65535, None],
    "HighBit": [0, 31, 65535],
    "PixelRepresentation": [2, 65535, None],
    "SamplesPerPixel": [0, 3, 65535, None],
    "PhotometricInterpretation": ["RGB", "PALETTE COLOR", "", None],
    "RescaleSlope": ["0", "1e308", "-1e308", "1e-320", None],
    "RescaleIntercept": ["1e308", "-8192", None],
    "ImagePositionPatient": [["1e308", "0", "0"], ["0"], None],
    "ImageOrientationPatient": [["0"] * 6, ["1e200"] * 6, ["1", "0"], None],
    "PixelSpacing": [["0", "0"], ["-1", "1"], ["1e-300", "1"], None],
    "SeriesInstanceUID": ["../../../etc/passwd", "1." * 40, "", "\0", None],
    "SOPInstanceUID": ["/etc/passwd", "1.2\n3", "", None],
    "StudyInstanceUID": ["..", None],
    "SeriesNumber": ["99999999999", "-1", None],
    "InstanceNumber": ["-2147483648", None],
    "PixelPaddingValue": [0, 65535],
    "SpecificCharacterSet": ["ISO_IR 192", "nonsense", ["", "ISO 2022 IR 87"]],
    "PatientName": ["\x1b$B" * 20, "A" * 70000],
    "ImageType": ["", ["A"] * 500, None],
    "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.3", None],
}
"""Values that a header must not hold, or that mean something else."""


def bases() -> list[bytes]:
    """Valid files: explicit, implicit, deflated, big endian, run-length encoded, JPEG 2000, Enhanced, and a zip."""
    pixels = np.random.default_rng(0).integers(0, 2000, (40, 48)).astype(np.int16)
    plain = fake_slice(pixels=pixels)
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    files = [as_bytes(plain, syntax) for syntax in syntaxes]
    swapped = fake_slice(pixels=pixels)
    swapped["PixelData"].value = pixels.astype(">i2").tobytes()
    files.append(as_bytes(swapped, ExplicitVRBigEndian))
    files.append(as_bytes(enhanced([pixels, pixels + 1], (0.0, 2.0), (-1024.0, -1000.0)), ExplicitVRLittleEndian))
    files.append(_zipped(files[0], files[4]))
    for syntax in (RLELossless, JPEG2000Lossless):
        packed = pydicom.dcmread(io.BytesIO(files[0]))
        packed.compress(syntax, generate_instance_uid=False)
        files.append(as_bytes(packed, syntax))
    return files


def as_bytes(dataset: FileDataset, syntax: pydicom.uid.UID) -> bytes:
    """A data set as a file; whatever it holds is written."""
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        buffer,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=False,
    )
    return buffer.getvalue()


def _zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"../{number}", content)
    return buffer.getvalue()


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One to four mutations of a file's bytes or of its header."""
    if chance.random() < 0.3 and not content.startswith(b"PK"):
        with quiet_pydicom():
            content = _with_other_header(content, chance)
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_BYTE_MUTATIONS)(data, chance)
    return bytes(data)


def _with_other_header(content: bytes, chance: random.Random) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    syntax = dataset.file_meta.TransferSyntaxUID
    for keyword in chance.sample(sorted(HEADER_VALUES), chance.randint(1, 3)):
        value = chance.choice(HEADER_VALUES[keyword])
        try:
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
            as_bytes(dataset, syntax)
        except Exception:
            # What pydicom does not write, the mutations of bytes make.
            dataset = pydicom.dcmread(io.BytesIO(content))
    return as_bytes(dataset, syntax)


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _header_byte(data: bytearray, chance: random.Random) -> None:
    if len(data) > 1400:
        data[chance.randrange(128, 1400)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _length(data: bytearray, chance: random.Random) -> None:
    """A length or another number becomes an extreme one."""
    if len(data) > 140:
        at = chance.randrange(132, len(data) - 4)
        value = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, chance.randrange(1 << 32)))
        data[at : at + 4] = struct.pack("<I", value)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    if data:
        at = chance.randrange(len(data))
        del data[at : at + chance.randint(1, 40)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    if data:
        at = chance.randrange(len(data))
        data[at:at] = data[at : at + chance.randint(1, 200)] * chance.randint(1, 5)


def _noise(data: bytearray, chance: random.Random) -> None:
    if data:
        at = chance.randrange(len(data))
        data[at : at + 16] = chance.randbytes(16)


_BYTE_MUTATIONS = (_flip, _flip, _header_byte, _header_byte, _length, _length, _cut, _remove, _repeat, _noise)
