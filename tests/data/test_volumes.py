"""Volume files: what comes back is what was there, in its own order of axes."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.errors import DataError

SPACING_MM = (0.7, 0.8, 2.5)
HU = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 60
"""Columns to the left, rows to the back, slices to the head."""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_slices_are_axial_whatever_the_order_of_the_axes(tmp_path: Path, axes: tuple[int, ...], suffix: str) -> None:
    lps = np.eye(3)[:, axes] * np.take(SPACING_MM, axes)
    source = tmp_path / f"in{suffix}"
    if suffix == ".nii.gz":
        affine = np.diag([-1.0, -1, 1, 1]) @ np.block([[lps, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
        nib.save(nib.Nifti1Image(HU.transpose(axes), affine), source)
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(HU.transpose(axes).T))
        image.SetSpacing([SPACING_MM[axis] for axis in axes])
        image.SetDirection(np.eye(3)[:, axes].ravel().tolist())
        sitk.WriteImage(image, str(source))

    volume = read_volume(source)
    assert volume.hu.shape[0] == 6
    for number, slice_hu in enumerate(volume.hu):
        assert set(slice_hu.ravel()) == set(HU[:, :, number].ravel().astype(float))
    np.testing.assert_allclose(np.abs(volume.affine[:3, 2]), [0, 0, 2.5], atol=1e-6)

    write_volume(tmp_path / f"out{suffix}", replace(volume, hu=volume.hu + 1))
    if suffix == ".nii.gz":
        before, after = nib.load(source), nib.load(tmp_path / f"out{suffix}")
        np.testing.assert_array_equal(after.get_fdata(), before.get_fdata() + 1)
        np.testing.assert_allclose(after.affine, before.affine)
    else:
        before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / f"out{suffix}"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before) + 1)
        np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(after.GetSpacing(), before.GetSpacing())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_the_place_in_the_patient_is_that_of_the_same_image_as_nifti(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(HU.T))
    image.SetSpacing(SPACING_MM)
    image.SetOrigin((10.0, -20.0, 30.0))
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    image.SetDirection(turned.ravel().tolist())
    for name in (f"in{suffix}", "in.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    volume, nifti = (read_volume(tmp_path / name) for name in (f"in{suffix}", "in.nii.gz"))
    np.testing.assert_array_equal(volume.hu, nifti.hu)
    np.testing.assert_allclose(volume.affine, nifti.affine, atol=1e-5)
    np.testing.assert_allclose(volume.affine[:3, 3], [-10, 20, 30])
    write_volume(tmp_path / f"out{suffix}", volume)
    written = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    np.testing.assert_allclose(written.GetDirection(), turned.ravel(), atol=1e-6)
    np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin())


def test_a_sheared_grid_is_refused_by_formats_that_cannot_hold_it(tmp_path: Path) -> None:
    sheared = np.diag([-0.7, -0.7, 2.5, 1.0])
    sheared[1, 2] = 0.05  # a tilt of one degree
    nib.save(nib.Nifti1Image(HU, sheared), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    with pytest.raises(DataError, match="the grid is sheared"):
        write_volume(tmp_path / "out.nrrd", volume)
    assert not (tmp_path / "out.nrrd").exists()


@pytest.mark.parametrize("suffix", [".nii", ".mha"])
def test_integers_are_rounded_and_clipped_and_never_wrapped(tmp_path: Path, suffix: str) -> None:
    nib.save(nib.Nifti1Image(HU, np.eye(4)), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    volume.hu[0, 0, :4] = 40000, -40000, 1.6, -1.6
    write_volume(tmp_path / f"out{suffix}", volume)
    assert read_volume(tmp_path / f"out{suffix}").hu[0, 0, :4].tolist() == [32767, -32768, 2, -2]


def test_slices_that_run_to_the_feet_are_axial_too(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(HU, np.diag([-0.7, -0.8, -2.5, 1])), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    np.testing.assert_array_equal(volume.hu.T, HU)
    assert volume.affine[2, 2] == -2.5


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_colours_of_one_slice_are_not_taken_for_columns(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 9, 3), np.int16), isVector=True), tmp_path / f"rgb{suffix}")
    with pytest.raises(DataError, match="has 3 values per pixel, expected one"):
        read_volume(tmp_path / f"rgb{suffix}")


def test_one_slice_stays_one_slice(tmp_path: Path) -> None:
    coronal = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(HU[:, :, :1], coronal), tmp_path / "one.nii.gz")
    assert read_volume(tmp_path / "one.nii.gz").hu.shape == (1, 5, 4)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_version_units_and_codes_of_a_nifti_header_stay(tmp_path: Path, kind: type) -> None:
    image = kind(HU, np.diag([0.7, 0.7, 2.5, 1]))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=3)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    write_volume(tmp_path / "out.nii", replace(volume, hu=volume.hu + 0.4))
    written = nib.load(tmp_path / "out.nii")
    assert type(written) is kind
    assert (written.header["sform_code"], written.header["qform_code"]) == (1, 3)
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.get_data_dtype() == np.int16
    np.testing.assert_array_equal(written.get_fdata(), HU)


def test_scaled_integers_come_back_as_float_without_the_scale(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, np.eye(4))
    image.header.set_slope_inter(2, -10)
    nib.save(image, tmp_path / "in.nii")
    stored = nib.load(tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    np.testing.assert_array_equal(volume.hu.T, stored.get_fdata())
    write_volume(tmp_path / "out.nii", volume)
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii").get_fdata(), stored.get_fdata())


def test_a_series_of_one_volume_is_a_volume_and_colours_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(HU[..., None], np.eye(4)), tmp_path / "4d.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "4d.nii").hu.T, HU)
    nib.save(nib.Nifti1Image(np.stack([HU, HU], axis=-1), np.eye(4)), tmp_path / "two.nii")
    with pytest.raises(DataError, match="expected a 2D or 3D volume"):
        read_volume(tmp_path / "two.nii")
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for values in (colours, HU.astype(np.complex64)):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "other.nii")
        with pytest.raises(DataError, match="colours or complex numbers"):
            read_volume(tmp_path / "other.nii")


def test_damage_that_only_the_checksum_shows_is_refused(tmp_path: Path) -> None:
    hu = np.random.RandomState(0).randint(-1000, 1000, (32, 32, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "whole.nii")
    content = bytearray((tmp_path / "whole.nii").read_bytes())
    checksum_and_size = gzip.compress(content)[-8:]
    content[400] ^= 64
    (tmp_path / "damaged.nii.gz").write_bytes(gzip.compress(content)[:-8] + checksum_and_size)
    with pytest.raises(DataError, match=r"damaged\.nii\.gz cannot be read as NIfTI: CRC check failed"):
        read_volume(tmp_path / "damaged.nii.gz")


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(HU, np.eye(4)), tmp_path / "wrong.nii")
    content = bytearray((tmp_path / "wrong.nii").read_bytes())
    struct.pack_into("<h", content, 42, -4)
    (tmp_path / "wrong.nii").write_bytes(content)
    with pytest.raises(DataError, match=r"wrong\.nii cannot be read as NIfTI"):
        read_volume(tmp_path / "wrong.nii")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_series_of_one_volume_keeps_its_place_and_is_denoised_in_axial_slices(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(HU.transpose(1, 2, 0).T))  # y, z, x: sagittal planes
    image.SetSpacing((0.8, 2.5, 0.7))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection(np.eye(3)[:, [1, 2, 0]].ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"3d{suffix}"))
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"4d{suffix}"))
    volume, expected = read_volume(tmp_path / f"4d{suffix}"), read_volume(tmp_path / f"3d{suffix}")
    assert volume.axes == expected.axes == (0, 2, 1)
    np.testing.assert_array_equal(volume.hu, expected.hu)
    np.testing.assert_allclose(volume.affine, expected.affine)
    np.testing.assert_allclose(volume.affine[:, 3], [-10, 20, 30, 1])
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), [0.8, 0.7, 2.5])


@pytest.mark.parametrize("row", [[np.nan] * 4, [0.0] * 4, [1.0, 0, 0, np.inf]])
def test_an_affine_that_is_no_grid_is_refused(tmp_path: Path, row: list[float]) -> None:
    image = nib.Nifti1Image(HU, np.eye(4))
    image.header["srow_x"] = row
    image.header["sform_code"] = 1
    (tmp_path / "in.nii").write_bytes(image.header.binaryblock + bytes(4) + HU.tobytes(order="F"))
    with pytest.raises(DataError, match=r"in\.nii has an affine that is no grid: .* correct its header$"):
        read_volume(tmp_path / "in.nii")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".nrrd", "it is damaged, cut short"),
        (".mha", "it is damaged, cut short"),
        (".nii", "Expected 240 bytes, got 140"),
    ],
)
def test_half_a_file_is_said_to_be_cut_short(tmp_path: Path, suffix: str, message: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(tmp_path / f"in{suffix}"))
    content = (tmp_path / f"in{suffix}").read_bytes()
    (tmp_path / f"in{suffix}").write_bytes(content[: len(content) - 100])
    with pytest.raises(DataError, match=rf"^in{suffix} cannot be read as .*: {message}"):
        read_volume(tmp_path / f"in{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32])
def test_the_data_type_of_the_file_stays(tmp_path: Path, suffix: str, dtype: type) -> None:
    image = sitk.GetImageFromArray((HU + 100).astype(dtype))
    sitk.WriteImage(image, str(tmp_path / f"in{suffix}"))
    write_volume(tmp_path / f"out{suffix}", read_volume(tmp_path / f"in{suffix}"))
    written = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert written.GetPixelID() == image.GetPixelID()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), HU + 100)


def test_the_largest_integers_are_not_wrapped(tmp_path: Path) -> None:
    """No float32 lies between 2^31 - 129 and 2^31."""
    hu = np.array([[[3e9, -3e9]]], np.float32)
    for dtype in (np.int32, np.int64):
        write_volume(tmp_path / "out.nii", Volume(hu, np.eye(4), np.dtype(dtype)))
        assert nib.load(tmp_path / "out.nii").get_fdata().ravel().tolist() == [2**31 - 1, -(2**31)]


def test_a_big_endian_file_becomes_a_volume_of_another_format(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(HU, np.eye(4), header), tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    write_volume(tmp_path / "out.mha", volume)
    np.testing.assert_array_equal(read_volume(tmp_path / "out.mha").hu, volume.hu)
    write_volume(tmp_path / "out.nii", volume)
    written = nib.load(tmp_path / "out.nii")
    assert written.get_data_dtype() == np.dtype(">i2")
    np.testing.assert_array_equal(written.get_fdata(), HU)


@pytest.mark.parametrize("hu", [HU[:, :, 0], HU[..., None], HU[:, :, :1]])
def test_a_nifti_keeps_its_shape(tmp_path: Path, hu: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(hu, np.diag([0.7, 0.8, 2.5, 1])), tmp_path / "in.nii")
    write_volume(tmp_path / "out.nii", read_volume(tmp_path / "in.nii"))
    before, after = nib.load(tmp_path / "in.nii"), nib.load(tmp_path / "out.nii")
    assert after.shape == hu.shape
    np.testing.assert_array_equal(after.get_fdata(), hu)
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.header["pixdim"], before.header["pixdim"])


def test_a_cropped_volume_has_its_own_shape(tmp_path: Path) -> None:
    hu = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    write_volume(tmp_path / "whole.nii", Volume(hu, np.diag([-1, -1, 2, 1.0]), np.dtype(np.int16)))
    whole = read_volume(tmp_path / "whole.nii")
    write_volume(tmp_path / "crop.nii", replace(whole, hu=whole.hu[1:3]))
    np.testing.assert_array_equal(read_volume(tmp_path / "crop.nii").hu, hu[1:3])


@pytest.mark.parametrize(
    ("name", "field", "elsewhere"),
    [
        ("a.mha", b"ElementDataFile = LOCAL", b"ElementDataFile = %s"),
        ("a.mha", b"ElementDataFile = LOCAL", b"Comment = ElementDataFile = LOCAL\nElementDataFile = %s"),
        ("a.mha", b"ElementDataFile = LOCAL", b"Comment = x\n" * 100_000 + b" ElementDataFile : %s"),
        ("a.nrrd", b"encoding: raw", b"encoding: raw\ndata file: %s"),
        ("a.nrrd", b"encoding: raw", b"encoding: raw\rdata file: %s"),
        ("a.nrrd", b"encoding: raw", b"encoding: raw\nDATAFILE: %s"),
        ("a.nrrd", b"encoding: raw", b"encoding: raw\n" + b"# x\n" * 300_000 + b"data file: %s"),
    ],
)
def test_a_header_that_names_another_file_is_refused(name: str, field: bytes, elsewhere: bytes, tmp_path: Path) -> None:
    """It could name any file of the machine."""
    image, path, other = sitk.GetImageFromArray(np.full((2, 3, 4), -7, np.int16)), tmp_path / name, tmp_path / "other"
    sitk.WriteImage(image, str(path))
    assert (read_volume(path).hu == -7).all()
    other.write_bytes(sitk.GetArrayViewFromImage(image).tobytes())
    path.write_bytes(path.read_bytes().replace(field, elsewhere % str(other).encode()))
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == -7).all(), "SimpleITK reads the other file"
    with pytest.raises(DataError, match=f"{name} names another file for its values, expected them inside"):
        read_volume(path)


def test_a_key_or_values_that_look_like_such_a_field_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    values = np.frombuffer(b"data file: nowhere at all".ljust(48), np.int16).reshape(2, 3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    path.write_bytes(path.read_bytes().replace(b"encoding: raw", b"encoding: raw\nsource_data file:=x"))
    assert (read_volume(path).hu == values).all()
