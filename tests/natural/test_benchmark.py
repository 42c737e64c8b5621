"""Image sets, cells of the benchmark and what is written, on small images."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageCms
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.data.images import holds_images_only, is_photograph
from ctclip.errors import ConfigError, DataError, WeightsError
from ctclip.natural.adaptive import AdaptiveDenoiser
from ctclip.natural.benchmark import Cell, CellResult, photograph_quality, psnr, run_cells
from ctclip.natural.files import denoise_image_file, image_jobs, write_like
from ctclip.natural.methods import ImageMethod, MethodSpec, _bm3d, make_method
from ctclip.natural.noise import Noise
from ctclip.natural.published import PUBLISHED
from ctclip.natural.report import markdown, write_curves, write_panels
from ctclip.natural.sets import ImageSet, find_sets, read_image
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.report.figures import save_png
from ctclip.weights import save_checkpoint

ORIENTATION = 0x0112
"""The EXIF tag."""

PHOTOMETRIC = 262
"""The tag of TIFF."""

IDENTITY = MethodSpec(name="identity", is_model=False)


def _save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.round(image * 255).astype(np.uint8)
    Image.fromarray(values if values.shape[-1] == 3 else values[..., 0]).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path, picture: np.ndarray) -> Path:
    """A folder "data" with the sets "Small" (two pictures) and "Grey"."""
    data = tmp_path / "data"
    _save(picture[:96, :128], data / "Small" / "a.png")
    _save(picture[96:192, :128], data / "Small" / "b.png")
    _save(picture[:96, :128, :1], data / "Grey_v2" / "g.png")
    return data


@pytest.fixture(scope="session")
def rgb_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random RGB network."""
    path = tmp_path_factory.mktemp("rgb") / "tiny.pt"
    config = DenoiserConfig((1, 1, 1), 4, 4, in_channels=3, out_channels=3, residual=True)
    save_checkpoint(DenseFeatureDenoiser(config), path, hu_window=None)
    return path


def test_quality_against_closed_forms(picture: np.ndarray) -> None:
    psnr_db, ssim = photograph_quality(picture + 0.01, picture)
    assert psnr_db == pytest.approx(40)
    assert 0.99 < ssim < 1
    assert photograph_quality(picture, picture) == (float("inf"), pytest.approx(1))
    # 0.4 / 255 is rounded away.
    assert (
        photograph_quality(np.round(picture * 255) / 255 + 0.4 / 255, np.round(picture * 255) / 255, rounded=True)[0]
        > 200
    )


def test_equal_values_of_8_bits_have_an_infinite_psnr(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert photograph_quality(image, image, rounded=True) == (np.inf, 1)
    assert photograph_quality(image + 0.4 / 255, image, rounded=True) == (np.inf, 1)


def test_values_outside_the_range_are_clipped_before_they_are_judged() -> None:
    assert photograph_quality(np.full((32, 32, 3), 1.7), np.ones((32, 32, 3)))[0] == float("inf")


def test_the_identity_has_the_psnr_of_its_noise(images: Path, tmp_path: Path) -> None:
    (found,), _ = find_sets(images, ["Small"])
    (result,) = run_cells([Cell(IDENTITY, found, Noise("gaussian", 25))], tmp_path / "cells")
    assert result.psnr_db == result.input_psnr_db
    # 20 log10(255 / 25) = 20.17 dB, a little more because values are clipped.
    assert np.mean(result.psnr_db) == pytest.approx(20.3, abs=0.3)


def test_a_finished_cell_is_not_measured_again(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), _ = find_sets(images, ["Small"])
    cells = [Cell(IDENTITY, found, Noise("gaussian", level)) for level in (15, 25)]
    first = run_cells(cells[:1], tmp_path / "cells")
    measured: list[Cell] = []
    from ctclip.natural import benchmark

    real = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", lambda cell: measured.append(cell) or real(cell))
    again = run_cells(cells, tmp_path / "cells")
    assert again[0] == first[0]
    assert measured == cells[1:]
    _save(np.zeros((96, 128, 3)), images / "Small" / "a.png")  # another content is another cell
    run_cells(cells[:1], tmp_path / "cells")
    assert len(measured) == 2


def test_cells_of_another_protocol_are_measured_again(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small,), _ = find_sets(images, ["Small"])
    cell = Cell(MethodSpec(name="identity", is_model=False), small, Noise("gaussian", 25))
    before = cell.key()
    assert cell.key() == before
    monkeypatch.setattr("ctclip.natural.benchmark.PROTOCOL", 3)
    assert cell.key() != before


def test_what_cannot_be_measured_shows_before_anything_is_measured(
    images: Path, tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(_: Cell) -> None:
        raise AssertionError("nothing is to be measured")

    def run(method: MethodSpec, small: ImageSet) -> None:
        run_cells([Cell(method, small, Noise("gaussian", 25))], tmp_path / "cells")

    monkeypatch.setattr("ctclip.natural.benchmark.measure", measured)
    _save(picture[:20, :64], images / "Small" / "small.png")
    (small,), _ = find_sets(images, ["Small"])
    with pytest.raises(DataError, match=r"small\.png of Small has 20 x 64 pixels, expected 32 at least"):
        run(MethodSpec(name="bm3d", is_model=False), small)
    _save(picture[:10, :64], images / "Small" / "small.png")
    with pytest.raises(DataError, match=r"small\.png of Small has 10 x 64 pixels, expected 11 at least"):
        run(IDENTITY, small)
    (images / "Small" / "small.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"small\.png cannot be read"):
        run(IDENTITY, small)
    pair = _real_pair(tmp_path / "pair", picture[:32, :32], picture[:32, :48])
    with pytest.raises(DataError, match="expected equal sizes"):
        run_cells([Cell(IDENTITY, pair, None)], tmp_path / "cells")
    pair = _real_pair(tmp_path / "equal", picture[:32, :32], picture[:32, :32])
    with pytest.raises(DataError, match=r"a_mean\.png equals its noisy partner in every pixel, expected noise"):
        run_cells([Cell(IDENTITY, pair, None)], tmp_path / "cells")
    assert not (tmp_path / "cells").exists()


def test_bm3d_is_told_of_the_noise_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    fake = types.ModuleType("bm3d")

    def keep(image: np.ndarray, sd: float) -> np.ndarray:
        told.append(sd)
        return image

    fake.bm3d = fake.bm3d_rgb = keep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bm3d", fake)
    flat = np.full((1024, 1024, 3), 0.5)
    _bm3d(Noise("gaussian", 20).add_to(flat))
    _bm3d(Noise("gaussian", 20).add_to(flat[..., :1]))
    assert np.array(told) * 255 == pytest.approx([20, 20], rel=0.015)


def _real_pair(folder: Path, clean: np.ndarray, noisy: np.ndarray) -> ImageSet:
    """The set of one image with real noise, on disk."""
    _save(clean, folder / "CC" / "a_mean.png")
    _save(noisy, folder / "CC" / "a_real.png")
    ((found,), _) = find_sets(folder, ["CC"], real=True)
    return found


def test_another_noisy_image_is_another_cell(tmp_path: Path, picture: np.ndarray) -> None:
    clean = picture[:64, :64]
    for grey_values in (2, 4):
        pair = _real_pair(tmp_path / "data", clean, clean + grey_values / 255)
        (result,) = run_cells([Cell(IDENTITY, pair, None)], tmp_path / "cells")
        assert result.psnr_db == pytest.approx([20 * np.log10(255 / grey_values)], abs=0.01)


def test_the_psnr_of_the_input_is_that_of_the_noisy_image_whatever_the_method(images: Path, tmp_path: Path) -> None:
    (found,), _ = find_sets(images, ["Small"])
    noise = Noise("gaussian", 25)
    (result,) = run_cells([Cell(MethodSpec(name="median", is_model=False), found, noise)], tmp_path / "cells")
    expected = [psnr(noise.add_to(clean), clean) for clean in map(read_image, found.clean)]
    assert result.input_psnr_db == pytest.approx(expected)
    assert min(result.psnr_db) > max(result.input_psnr_db) + 1


@pytest.mark.usefixtures("_no_methods_kept")
def test_results_on_real_noise_are_rounded_to_8_bits(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = picture[:64, :64]
    pair = _real_pair(tmp_path / "data", clean, clean + 2 / 255)
    (whole,) = run_cells([Cell(IDENTITY, pair, None)], tmp_path / "1")
    make_method.cache_clear()
    monkeypatch.setattr("ctclip.natural.methods._identity", lambda image: image + 0.4 / 255)
    (between,) = run_cells([Cell(IDENTITY, pair, None)], tmp_path / "2")
    assert (between.psnr_db, between.ssim) == (whole.psnr_db, whole.ssim)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_the_infinite_psnr_of_equal_images_is_null_in_files_and_comes_back(tmp_path: Path) -> None:
    _save(np.zeros((32, 32, 3)), tmp_path / "data" / "Black" / "a.png")
    command = ["benchmark", "natural", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--sets"]
    command += ["Black", "--noise", "speckle:.02", "--model", "none"]
    for _ in range(2):  # the second time from the cells that are kept
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert "| inf / 1.000 |" in (tmp_path / "out" / "results.md").read_text()
        files = [tmp_path / "out" / "results.json", *(tmp_path / "out" / "cells").iterdir()]
        documents = [json.loads(path.read_text(), parse_constant=_no_constant) for path in files]
        assert documents[0]["cells"][0]["psnr_db"] == documents[1]["psnr_db"] == [None]


@pytest.mark.usefixtures("_no_methods_kept")
def test_a_method_whose_result_is_not_finite_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctclip.natural.methods._identity", lambda image: image * np.nan)
    (found,), _ = find_sets(images, ["Small"])
    with pytest.raises(DataError, match="identity gives values that are not finite numbers under gaussian:25 noise"):
        run_cells([Cell(IDENTITY, found, Noise("gaussian", 25))], tmp_path / "cells")
    assert not list((tmp_path / "cells").iterdir())


def test_batches_and_processes_give_the_same_numbers(images: Path, rgb_model: Path, tmp_path: Path) -> None:
    (found,), _ = find_sets(images, ["Small"])
    spec = MethodSpec(name=str(rgb_model), is_model=True, adapt=True, device="cpu")
    alone = run_cells([Cell(spec, found, Noise("gaussian", 50))], tmp_path / "1")
    together = run_cells([Cell(spec, found, Noise("gaussian", 50), batch_size=2)], tmp_path / "2", workers=2)
    np.testing.assert_allclose(alone[0].psnr_db, together[0].psnr_db, atol=1e-4)


def test_sets_are_found_by_name_or_its_start_and_missing_ones_are_reported(images: Path) -> None:
    found, missing = find_sets(images, ["small", "Grey", "Urban100"])
    assert [each.name for each in found] == ["Small", "Grey_v2"]
    assert len(missing) == 1
    assert "Urban100" in missing[0]
    assert "https://" in missing[0]
    with pytest.raises(DataError, match="no such folder"):
        find_sets(images / "nowhere", ["Small"])


def test_a_name_is_that_of_a_folder_in_the_data_and_not_of_one_here(
    images: Path, tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(picture[:16, :16], tmp_path / "here" / "Small" / "other.png")
    _save(picture[:16, :16], tmp_path / "here" / "Elsewhere" / "other.png")
    monkeypatch.chdir(tmp_path / "here")
    for name, files in (
        ("Small", ["a.png", "b.png"]),
        ("./Small", ["other.png"]),
        (str(tmp_path / "here"), ["other.png"] * 2),
    ):
        (found,), _ = find_sets(images, [name])
        assert [path.name for path in found.clean] == files
    found, missing = find_sets(images, ["Elsewhere", "no/where"])
    assert found == []
    assert [line.split(":")[0] for line in missing] == ["Elsewhere", "no/where"]


def test_the_current_folder_and_the_one_above_are_paths_and_hidden_folders_are_no_sets(
    images: Path, tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".cache", "..odd"):
        _save(picture[:16, :16], images / name / "hidden.png")
    for name in ("x_noisy.png", "x_gt.png"):
        _save(picture[:16, :16], tmp_path / "above" / "here" / name)
    monkeypatch.chdir(tmp_path / "above" / "here")
    for real in (False, True):
        found, missing = find_sets(images, [".", "..", "./"], real=real)
        assert [each.name for each in found] == ["here", "above", "here"]
        assert {path.name for each in found for path in each.noisy or each.clean} >= {"x_noisy.png"}
        assert missing == []
    found, missing = find_sets(images, [".cache", ".c", "..o", str(images / ".cache")])
    assert [path.name for each in found for path in each.clean] == ["hidden.png"]
    assert [line.split(":")[0] for line in missing] == [".cache", ".c", "..o"]


def test_spread_takes_evenly(images: Path) -> None:
    many = ImageSet("many", tuple(Path(str(index)) for index in range(11)))
    assert [path.name for path in many.spread(3).clean] == ["0", "5", "10"]
    assert many.spread(None) is many
    pairs = ImageSet("pairs", many.clean, tuple(Path(f"noisy{index}") for index in range(11)))
    assert [path.name for path in pairs.spread(3).noisy] == ["noisy0", "noisy5", "noisy10"]


@pytest.mark.parametrize(
    ("noisy", "clean"),
    [
        ("5dmark3_1_Real.png", "5dmark3_1_mean.png"),
        ("Canon_real.JPG", "Canon_mean.JPG"),
        ("0001_NOISY_SRGB_010.PNG", "0001_GT_SRGB_010.PNG"),
        ("noisy/1.png", "clean/1.png"),
        ("input/1.png", "groundtruth/1.jpg"),
    ],
)
def test_pairs_of_real_noise_by_their_usual_names(tmp_path: Path, picture: np.ndarray, noisy: str, clean: str) -> None:
    _save(picture[:64, :64], tmp_path / "set" / clean)
    _save(picture[:64, :64], tmp_path / "set" / noisy)
    (found,), _ = find_sets(tmp_path, ["set"], real=True)
    assert [path.name for path in found.noisy] == [Path(noisy).name]
    assert [path.name for path in found.clean] == [Path(clean).name]
    _save(picture, tmp_path / "other" / "x.png")
    with pytest.raises(DataError, match="no pairs"):
        find_sets(tmp_path, ["other"], real=True)


def test_a_noisy_image_is_paired_once_however_many_clean_ones_there_are(
    tmp_path: Path, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_noisy.png", "a_gt.png", "a_clean.png", "b_noisy.png"):
        _save(picture[:16, :16], tmp_path / "set" / name)
    (found,), _ = find_sets(tmp_path, ["set"], real=True)
    assert [(noisy.name, clean.name) for noisy, clean in zip(found.noisy, found.clean, strict=True)] == [
        ("a_noisy.png", "a_gt.png")
    ]
    assert caplog.messages == ["set: left out, without a partner of their own: a_clean.png, b_noisy.png"]


def test_a_clean_image_is_paired_once_with_the_noisy_one_of_its_format(
    tmp_path: Path, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_gt.png", "a_noisy.bmp", "a_noisy.png", "b_gt.png", "b_noisy.jpg"):
        _save(picture[:16, :16], tmp_path / "set" / name)
    (found,), _ = find_sets(tmp_path, ["set"], real=True)
    assert [(noisy.name, clean.name) for noisy, clean in zip(found.noisy, found.clean, strict=True)] == [
        ("a_noisy.png", "a_gt.png"),
        ("b_noisy.jpg", "b_gt.png"),
    ]
    assert caplog.messages == ["set: left out, without a partner of their own: a_noisy.bmp"]
    for index in range(7):
        _save(picture[:16, :16], tmp_path / "set" / f"c{index}.png")
    caplog.clear()
    find_sets(tmp_path, ["set"], real=True)
    assert caplog.messages[0].endswith("a_noisy.bmp, c0.png, c1.png, c2.png, c3.png and 3 more")


def test_images_are_read_with_their_depth_and_channels(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51], [255, 102]], np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((2, 3, 4), 255, np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "deep.tif")
    np.testing.assert_allclose(read_image(tmp_path / "grey.png")[..., 0], [[0, 0.2], [1, 0.4]])
    assert read_image(tmp_path / "alpha.png").shape == (2, 3, 3)
    np.testing.assert_allclose(read_image(tmp_path / "deep.tif")[..., 0], [[0, 1]])
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        read_image(tmp_path / "broken.png")


@pytest.mark.parametrize("mode", ["F", "CMYK", "LAB"])
def test_pixels_of_another_kind_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "other.tif")
    with pytest.raises(DataError, match=rf"other\.tif has pixels of the kind {mode}; expected grey or RGB"):
        read_image(tmp_path / "other.tif")


def test_grey_beyond_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match="values from 0 to 70000"):
        read_image(tmp_path / "wide.tif")
    Image.fromarray(np.array([[-5, 255]], np.int32)).save(tmp_path / "negative.tif")
    with pytest.raises(DataError, match="values from -5 to 255"):
        read_image(tmp_path / "negative.tif")


@pytest.mark.parametrize(
    "error", [Image.DecompressionBombError("too many pixels"), SyntaxError("broken PNG file"), OSError("truncated")]
)
def test_an_image_that_cannot_be_decoded_is_one_line(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object) -> None:
        raise error

    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(DataError, match=rf"a\.png cannot be read as an image \({type(error).__name__}\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_16_bits_are_refused_rather_than_halved(tmp_path: Path, suffix: str) -> None:
    deep = sitk.GetImageFromArray(np.full((4, 3, 3), 40000, np.uint16), isVector=True)
    sitk.WriteImage(deep, tmp_path / f"deep{suffix}")
    with pytest.raises(DataError, match=r"colours of 16 bits; expected grey or RGB with 8 bits"):
        read_image(tmp_path / f"deep{suffix}")


def test_a_stack_of_pages_is_refused_and_a_thumbnail_is_not(tmp_path: Path) -> None:
    page, thumbnail = Image.new("L", (8, 6), 51), Image.new("L", (4, 3))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "one.tif", save_all=True, append_images=[thumbnail])
    with pytest.raises(DataError, match=r"stack\.tif holds several images of one size, expected one per file"):
        read_image(tmp_path / "stack.tif")
    np.testing.assert_allclose(read_image(tmp_path / "one.tif"), np.full((6, 8, 1), 0.2))


@pytest.mark.parametrize(("largest", "bits"), [(1023, 10), (4095, 12), (300, 9)])
def test_values_that_use_a_part_of_16_bits_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, largest: int, bits: int
) -> None:
    Image.fromarray(np.array([[0, largest]], np.uint16)).save(tmp_path / "dark.png")
    Image.fromarray(np.array([[0, 40000]], np.uint16)).save(tmp_path / "full.png")
    Image.fromarray(np.array([[0, 0]], np.uint16)).save(tmp_path / "black.png")
    for name in ("dark.png", "full.png", "black.png", "dark.png"):
        read_image(tmp_path / name)
    assert caplog.messages == [
        f"dark.png: values up to {largest} of 65535, as of {bits} bits, so that its noise counts as weak and mostly "
        f"stays: stretch it first, for example by {2 ** (16 - bits)}"
    ]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_an_animation_is_refused(tmp_path: Path, kind: str) -> None:
    frame, other = Image.new("L", (8, 6), 51), Image.new("L", (8, 6), 102)
    frame.save(tmp_path / "moving.png", kind, save_all=True, append_images=[other])
    frame.save(tmp_path / "still.png", kind)
    with pytest.raises(DataError, match=r"moving\.png holds several images of one size, expected one per file"):
        read_image(tmp_path / "moving.png")
    assert read_image(tmp_path / "still.png").shape[:2] == (6, 8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_file_in_which_white_is_0_is_no_negative(tmp_path: Path, dtype: type, compression: str) -> None:
    largest = int(np.iinfo(dtype).max)
    stored = np.array([[0, largest], [largest // 5, largest]], dtype)
    given = largest - stored if dtype is np.uint8 else stored  # Pillow inverts 8 bits when it writes, too
    Image.fromarray(given).save(tmp_path / "in.tif", compression=compression, tiffinfo={PHOTOMETRIC: 0})
    with Image.open(tmp_path / "in.tif") as image:
        assert image.tag_v2[PHOTOMETRIC] == 0
    shown = [[1, 0], [0.8, 0]]
    np.testing.assert_allclose(read_image(tmp_path / "in.tif")[..., 0], shown)
    method = ImageMethod("nothing", "", "", lambda images: images)
    denoise_image_file(tmp_path / "in.tif", tmp_path / "out.tif", method, strength=1)
    with Image.open(tmp_path / "out.tif") as image:
        assert image.tag_v2[PHOTOMETRIC] == 1
        np.testing.assert_array_equal(np.asarray(image), np.round(np.multiply(shown, largest)))


def test_a_ct_model_is_refused() -> None:
    with pytest.raises(WeightsError, match="is a model for CT"):
        make_method(MethodSpec(name="ct-compact", is_model=True))
    with pytest.raises(ConfigError, match="unknown baseline"):
        make_method(MethodSpec(name="nothing", is_model=False))


def test_a_grey_network_is_adapted_as_one(tmp_path: Path) -> None:
    config = DenoiserConfig((1, 1, 1), 4, 4, residual=True)
    save_checkpoint(DenseFeatureDenoiser(config), tmp_path / "grey.pt", hu_window=None)
    method = make_method(
        MethodSpec(name=str(tmp_path / "grey.pt"), is_model=True, adapt=True, device="cpu", backend="eager")
    )
    assert isinstance(method.denoise, AdaptiveDenoiser)
    assert method.denoise.in_channels == 1
    assert method.description.endswith("at every brightness, grey")  # cells measured otherwise are not taken for it


@pytest.fixture
def _no_methods_kept() -> Iterator[None]:
    make_method.cache_clear()
    yield
    make_method.cache_clear()


@pytest.mark.usefixtures("_no_methods_kept")
def test_an_image_that_does_not_fit_is_one_line_and_the_next_one_is_done(
    images: Path, rgb_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(image: torch.Tensor) -> torch.Tensor:
        if image.shape[-2:] == (96, 128):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        return image

    monkeypatch.setattr("ctclip.prepared.optimized_network", lambda *_, **__: network)
    _save(np.zeros((8, 9, 3)), images / "Small" / "c.png")
    command = ["denoise", str(images / "Small"), str(tmp_path / "out"), "--model", str(rgb_model), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, type(result.exception)) == (3, SystemExit)
    assert result.stderr.splitlines() == [
        f"ctclip: {name}: out of memory on cpu: 96 x 128 pixels do not fit; make it smaller"
        for name in ("a.png", "b.png")
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.png"]


def test_the_command_writes_tables_curves_and_panels(images: Path, rgb_model: Path, tmp_path: Path) -> None:
    command = ["benchmark", "natural", "--data", str(images), "--output", str(tmp_path / "out"), "--sets"]
    command += ["Small,Grey", "--noise", "gaussian:15,50 saltpepper:.02", "--model", str(rgb_model)]
    result = CliRunner().invoke(app, [*command, "--adapt", "both", "--baseline", "identity,median", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(document["cells"]) == 2 * 3 * 4
    assert set(document["methods"]) == {"identity", "median", "tiny", "tiny, adapted"}
    assert str(tmp_path) not in json.dumps(document)
    table = (tmp_path / "out" / "results.md").read_text()
    assert "| noise | identity | median | tiny | tiny, adapted |" in table
    assert "## Small (2 images)" in table
    rows = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3 * 4
    for name in ("curves.png", "panels.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 100


def test_pictures_have_a_panel_per_image_and_ticks_at_the_levels(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: dict[str, Figure] = {}
    monkeypatch.setattr("ctclip.natural.report.save_png", lambda figure, path: figures.update({path.name: figure}))
    command = ["benchmark", "natural", "--data", str(images), "--output", str(tmp_path / "out"), "--sets", "Small"]
    command += ["--noise", "gaussian:15,50", "--model", "none", "--baseline", "identity,median", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    # the noisy image is what the identity gives: it is not shown twice
    assert [axis.get_title() for axis in figures["panels.png"].axes] == ["clean", "Gaussian 50", "median"]
    assert figures["curves.png"].axes[0].get_xticks().tolist() == [15, 50]


def test_curves_and_panels_of_any_name(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Figure] = {}

    def save(figure: Figure, path: Path) -> None:
        save_png(figure, path)
        figures[path.name] = figure

    monkeypatch.setattr("ctclip.natural.report.save_png", save)
    name = r"a$\odd$|b"
    results = [
        CellResult("_first", name, "gaussian", 15.0, (30.0,), (0.9,), (20.0,)),
        CellResult(name, name, "gaussian", 15.0, (31.0,), (0.9,), (20.0,)),
        CellResult("alone", "other", "gaussian", 15.0, (29.0,), (0.9,), (20.0,)),
    ]
    write_curves(results, tmp_path / "curves.png")
    legend = figures["curves.png"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["_first", name, "alone"]
    colors = {line.get_color() for axis in figures["curves.png"].axes for line in axis.lines}
    assert {line.get_color() for line in legend.get_lines()} == colors == {"C0", "C1", "C2"}
    assert r"| noise | _first | a$\odd$\|b |" in markdown(results[:2])

    image = _save(picture[:64, :64], tmp_path / "a.png")
    method = MethodSpec(name="median", is_model=False, shown_as=name)
    write_panels([Cell(method, ImageSet("Small", (image,)), Noise("gaussian", 15.0))], tmp_path / "panels.png")
    assert [axis.get_title() for axis in figures["panels.png"].axes] == ["clean", "Gaussian 15", name]


def test_real_noise_is_a_column_of_its_own(tmp_path: Path, picture: np.ndarray) -> None:
    _save(picture[:64, :64], tmp_path / "data" / "CC" / "a_mean.png")
    _save(picture[:64, :64] + 2 / 255, tmp_path / "data" / "CC" / "a_real.png")
    command = [
        "benchmark",
        "natural",
        "--data",
        str(tmp_path / "data"),
        "--output",
        str(tmp_path / "out"),
        "--sets",
        "",
    ]
    result = CliRunner().invoke(app, [*command, "--real", "CC", "--model", "none"])
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "out" / "results.json").read_text())["cells"][0]
    assert row["family"] == "real"
    assert row["psnr_db"][0] == pytest.approx(20 * np.log10(255 / 2), abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "gauss:15"], "unknown noise 'gauss'"),
        (["--baseline", "nlm"], "unknown baseline 'nlm'"),
        (["--model", "ct-compact"], "is a model for CT"),
        (["--sets", "Nowhere"], "nothing to measure"),
        (["--adapt", "maybe"], "--adapt must be"),
        (["--sets", "", "--real", "CC", "--noise", "gaussian:15"], "no effect on pairs with real noise: --noise"),
        (["--noise", "saltpepper:2"], "at most 1"),
    ],
)
def test_wrong_input_is_one_line(images: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    command = ["benchmark", "natural", "--data", str(images), "--output", str(tmp_path / "out"), "--sets", "Small"]
    if "--model" not in arguments:
        arguments = [*arguments, "--model", "none"]
    result = CliRunner().invoke(app, command + arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "missing", "exit_code"),
    [
        (["--sets", "Small,Nope"], ["Nope"], 3),
        (["--sets", "Small, Nope"], ["Nope"], 3),
        (["--sets", "Small, Grey"], [], 0),
        (["--sets", "Small", "--real", "CC"], ["CC"], 3),
        (["--sets", "Small"], [], 0),
        ([], ["Kodak24", "McMaster", "Urban100"], 0),
    ],
)
def test_a_set_that_is_missing_is_named_and_one_that_was_asked_for_counts(
    images: Path, tmp_path: Path, picture: np.ndarray, options: list[str], missing: list[str], exit_code: int
) -> None:
    _save(picture[:32, :32], images / "CBSD68" / "a.png")
    command = ["benchmark", "natural", "--data", str(images), "--output", str(tmp_path / "out"), "--model", "none"]
    result = CliRunner().invoke(app, [*command, "--noise", "gaussian:25", "--quiet", *options])
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert [line.split(":")[2].strip() for line in result.stderr.splitlines()] == missing
    assert (tmp_path / "out" / "results.md").is_file()


@pytest.mark.parametrize("options", [["--sets", "A/test,B/test"], ["--sets", "A/test", "--real", "B/test"]])
def test_two_sets_of_one_name_are_refused(
    tmp_path: Path, picture: np.ndarray, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A/test/x.png", "B/test/x_gt.png", "B/test/x_noisy.png"):
        _save(picture[:32, :32], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "natural", "--data", ".", "--output", "out", "--model", "none", "--noise", "gaussian:25"]
    result = CliRunner().invoke(app, command + options)
    assert result.exit_code == 2
    assert "two image sets are called 'test': rename one of the folders or leave one out" in result.output
    assert not (tmp_path / "out").exists()


def test_published_numbers_are_those_of_their_sources() -> None:
    assert PUBLISHED["CBSD68", "gaussian", 15]["CBM3D"] == 33.52
    assert PUBLISHED["CBSD68", "gaussian", 50]["IDF"] == 25.73
    assert PUBLISHED["CBSD68", "saltpepper", 0.02]["IDF"] == 33.38
    assert PUBLISHED["CBSD68", "speckle", 0.04]["IDF"] == 29.18


@pytest.mark.parametrize(("name", "depth"), [("n.png", np.uint8), ("n.tif", np.uint16)])
def test_photographs_keep_their_format(
    tmp_path: Path, picture: np.ndarray, rgb_model: Path, name: str, depth: type
) -> None:
    values = np.round(np.clip(Noise("gaussian", 25).add_to(picture[..., :1])[..., 0], 0, 1) * np.iinfo(depth).max)
    source = tmp_path / "in" / name
    source.parent.mkdir()
    Image.fromarray(values.astype(depth)).save(source)
    before = source.read_bytes()
    command = ["denoise", str(source.parent), str(tmp_path / "out"), "--model", str(rgb_model), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--strength", "0"])
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / name)), values.astype(depth))
    assert source.read_bytes() == before
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "give --overwrite" in again.output


@pytest.mark.parametrize("source", ["in", "in/a.GIF"])
def test_pictures_of_other_formats_are_answered_with_those_that_are_read(tmp_path: Path, source: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (4, 3)).save(tmp_path / "in" / "a.GIF")
    (tmp_path / "in" / "notes.pdf").write_text("no picture")
    result = CliRunner().invoke(app, ["denoise", str(tmp_path / source), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith("ctclip: no axial CT series in the input")
    assert result.stderr.endswith("; pictures are read from .png, .jpg, .jpeg, .bmp, .tif, .tiff, not from .gif\n")


def test_a_folder_that_may_hold_dicom_is_not_one_of_photographs(tmp_path: Path) -> None:
    assert not holds_images_only(tmp_path)
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    (tmp_path / ".DS_Store").write_text("of a Mac")
    assert holds_images_only(tmp_path)
    (tmp_path / "IM0001").write_text("perhaps DICOM")
    assert not holds_images_only(tmp_path)


def test_an_export_below_a_picture_or_under_names_of_pictures_is_not_one_of_photographs(tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "logo.jpg")
    for hidden in ("Thumbs.db", ".cache/index"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("of a system")
    (tmp_path / "more").mkdir()
    Image.new("L", (4, 3)).save(tmp_path / "more" / "b.png")
    (tmp_path / "more" / "notes.txt").write_text("about them")
    assert holds_images_only(tmp_path)
    (tmp_path / "more" / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert not holds_images_only(tmp_path)
    (tmp_path / "more" / "IM0001").unlink()
    (tmp_path / "1.jpg").write_bytes(bytes(128) + b"DICM")
    assert not is_photograph(tmp_path / "1.jpg")
    assert not holds_images_only(tmp_path)


def test_where_photographs_go_and_where_they_must_not(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "folder.png").mkdir(parents=True)
    for name in ("b.png", "a.jpg"):
        Image.new("L", (4, 3)).save(source / name)
    (source / "._a.jpg").write_text("of a Mac")
    assert image_jobs(source, out) == [(source / "a.jpg", out / "a.jpg"), (source / "b.png", out / "b.png")]
    assert image_jobs(source / "b.png", out) == [(source / "b.png", out / "b.png")]
    assert image_jobs(source / "b.png", out / "c.png") == [(source / "b.png", out / "c.png")]
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").symlink_to(source / "a.jpg")
    inside, itself = "the output lies inside the input", "the output is the input"
    for given, target, message in (
        (source, source, inside),
        (source, source / "out", inside),
        (source, tmp_path / "link" / "out", inside),
        (source / "b.png", source / "b.png", itself),
        (source / "b.png", source, itself),
        (source / "b.png", tmp_path / "link", itself),
        (tmp_path / "link" / "b.png", source / "b.png", itself),
        (source, tmp_path / "other", itself),
    ):
        with pytest.raises(ConfigError, match=f"{message}, which is never modified"):
            image_jobs(given, target, overwrite=True)
    with pytest.raises(ConfigError, match="so the output must be one too"):
        image_jobs(source, tmp_path / "c.png")


def test_what_cannot_become_a_file_is_refused_before_anything_is_denoised(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    Image.new("L", (4, 3)).save(source / "a.png")
    (tmp_path / "notes").write_text("a file")
    for given, target, message in (
        (source, "notes", "the output is a file, expected a folder"),
        (source / "a.png", "notes", "the output is a file, expected a folder"),
        (source, "notes/below/it", "the output lies below a file, expected a folder"),
        (source / "a.png", "notes/b.png", "the output lies below a file, expected a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            image_jobs(given, tmp_path / target, overwrite=True)
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"a\.png is a folder, expected a file"):
        image_jobs(source, tmp_path / "out", overwrite=True)
    assert image_jobs(source, tmp_path / "out" / "a.png") == [(source / "a.png", tmp_path / "out" / "a.png" / "a.png")]


def test_a_photograph_without_enough_memory_does_not_stop_the_others(
    images: Path, rgb_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> np.ndarray:
        if path.name == "a.png":
            raise MemoryError
        return read_image(path)

    monkeypatch.setattr("ctclip.natural.files.read_image", read)
    command = ["denoise", str(images / "Small"), str(tmp_path / "out"), "--model", str(rgb_model), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--quiet"])
    assert result.exit_code == 3
    assert result.stderr == "ctclip: a.png: out of memory; make it smaller, or try another machine\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_results_beyond_the_range_are_clipped_and_the_change_is_in_grey_values(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 51, np.uint8)).save(tmp_path / "in.png")
    for value, strength, grey in ((1.7, 1, 255), (-0.7, 1, 0), (0.6, 0.5, 102), (1.7, 0.5, 153)):
        method = ImageMethod("constant", "", "", lambda images, value=value: np.full_like(images, value))
        changed = denoise_image_file(tmp_path / "in.png", tmp_path / "out.png", method, strength=strength)
        assert np.unique(np.asarray(Image.open(tmp_path / "out.png"))).tolist() == [grey]
        assert changed == pytest.approx(abs(grey - 51), abs=1e-3)


@pytest.mark.parametrize(("dtype", "name"), [(np.uint8, "in.jpg"), (np.uint8, "in.png"), (np.uint16, "in.tif")])
def test_a_turned_photograph_is_denoised_and_written_upright(dtype: type, name: str, tmp_path: Path) -> None:
    stored = np.zeros((8, 24), dtype)
    stored[:, :8] = np.iinfo(dtype).max  # bright on the left as stored, at the top as shown
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise
    compression = {"compression": "tiff_lzw"} if name.endswith("tif") else {}
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **compression)
    upright = read_image(tmp_path / name)[..., 0]
    np.testing.assert_allclose(upright, np.repeat([1, 0, 0], 8)[:, np.newaxis] * np.ones((1, 8)), atol=0.02)
    method = ImageMethod("nothing", "", "", lambda images: images)
    target = (tmp_path / "out.png").with_suffix(Path(name).suffix)
    denoise_image_file(tmp_path / name, target, method, strength=1)
    with Image.open(target) as written:
        assert ORIENTATION not in written.getexif() or written.getexif()[ORIENTATION] == 1, "no viewer turns it again"
        assert written.size == (8, 24)
    np.testing.assert_allclose(read_image(target)[..., 0], upright, atol=0.02)


def test_a_turned_tiff_file_that_pillow_would_mix_up_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.zeros((8, 24), np.uint8)).save(tmp_path / "a.tif", exif=exif)
    with Image.open(tmp_path / "a.tif") as image:
        if image.size == (24, 8):
            pytest.skip("this Pillow does not turn it")
    with pytest.raises(DataError, match="turned TIFF file without compression"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_becomes_upright(orientation: int, tmp_path: Path) -> None:
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6)
    stored = {  # by where EXIF says that the first row and the first column are
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[..., 0] * 255, upright, atol=1e-4)


@pytest.mark.parametrize("exif", [b"broken", b"Exif\0\0II*\0\x08"])
def test_a_photograph_with_broken_exif_data_is_taken_as_it_is(
    exif: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(np.full((4, 6), 51, np.uint8)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), np.full((4, 6, 1), 0.2))
    assert "a.png: its EXIF data cannot be read" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_colour_profile_is_kept(suffix: str, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.full((4, 6, 3), 51, np.uint8)).save(tmp_path / "in.png", icc_profile=profile)
    write_like(tmp_path / "in.png", tmp_path / f"out{suffix}", np.full((4, 6, 3), 0.5))
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.info["icc_profile"] == profile


def test_16_bits_do_not_become_8(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(tmp_path / "in.png")
    with pytest.raises(DataError, match=r"\.jpg holds 8 bits, the image has 16"):
        write_like(tmp_path / "in.png", tmp_path / "out.jpg", np.full((4, 6, 1), 0.5))

    def denoise(_: np.ndarray) -> np.ndarray:
        raise AssertionError("refused before it is denoised")

    with pytest.raises(DataError, match=r"\.bmp holds 8 bits, the image has 16"):
        denoise_image_file(tmp_path / "in.png", tmp_path / "out.bmp", ImageMethod("", "", "", denoise), strength=1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_ssim_needs_its_window() -> None:
    assert photograph_quality(np.ones((11, 11, 1)), np.ones((11, 11, 1)))[1] == 1
    with pytest.raises(DataError, match="5 x 20 is too small for SSIM; expected 11"):
        photograph_quality(np.ones((5, 20, 3)), np.ones((5, 20, 3)))


def test_one_damaged_photograph_does_not_stop_the_others(tmp_path: Path, picture: np.ndarray, rgb_model: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    good = np.round(picture[:64, :64] * 255).astype(np.uint8)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(good).save(source / name)
    (source / "b.png").write_bytes((source / "b.png").read_bytes()[:-500])
    command = ["denoise", str(source), str(tmp_path / "out"), "--model", str(rgb_model), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3
    assert result.stderr == "ctclip: b.png: cannot be read as an image (UnidentifiedImageError)\n"
    assert [line.split(":")[0] for line in result.stdout.splitlines()][1:3] == ["a.png", "c.png"]
    quiet = CliRunner().invoke(app, [*command, "--overwrite", "--quiet"])
    assert (quiet.stdout, quiet.stderr) == ("", result.stderr)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    for name in ("a.png", "c.png"):
        (source / name).unlink()
    assert CliRunner().invoke(app, [*command[:2], str(tmp_path / "none"), *command[3:]]).exit_code == 1
