"""Photographs in MONAI's chains: read with their depth, written under their own names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctclip.errors import ConfigError, DataError
from ctclip.natural.transforms import LoadPhotographd, SavePhotographd

GREY = np.array([[0, 51, 102], [255, 204, 153]], np.uint8)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder "in" with grey images of 8 and 16 bits, two with the same stem, and one in a folder of its own."""
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "more/a.png"):
        Image.fromarray(GREY).save(folder / name)
    Image.fromarray(GREY.astype(np.uint16) * 257).save(folder / "deep.tif")
    return folder


@pytest.mark.parametrize("name", ["a.png", "deep.tif"])
def test_both_depths_are_read_as_the_same_values(sources: Path, name: str) -> None:
    image = LoadPhotographd("image")({"image": str(sources / name)})["image"]
    np.testing.assert_allclose(image, [[[0, 0.2, 0.4], [1, 0.8, 0.6]]])
    rgb = LoadPhotographd("image", rgb=True)({"image": str(sources / name)})["image"]
    assert rgb.shape == (3, 2, 3)
    assert (rgb == image).all()


def test_results_have_the_names_formats_and_depths_of_their_sources(sources: Path, tmp_path: Path) -> None:
    save = SavePhotographd("pred", "source", str(sources), str(tmp_path / "out"))
    names = ("a.png", "a.bmp", "more/a.png", "deep.tif")
    for name in names:
        source = str(sources / name)
        save({"source": source, "pred": LoadPhotographd("image")({"image": source})["image"]})
    for name in names:
        first, second = (Image.open(folder / name) for folder in (sources, tmp_path / "out"))
        assert first.format == second.format
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_nothing_is_replaced_unless_asked_for(sources: Path, tmp_path: Path) -> None:
    data = {"source": str(sources / "a.png"), "pred": np.zeros((1, 2, 3), np.float32)}
    out = str(tmp_path / "out")
    SavePhotographd("pred", "source", str(sources), out)(data)
    with pytest.raises(ConfigError, match=r"a\.png exists; give --overwrite True"):
        SavePhotographd("pred", "source", str(sources), out)({**data, "pred": np.ones((1, 2, 3))})
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).max() == 0
    SavePhotographd("pred", "source", str(sources), out, overwrite=True)({**data, "pred": np.ones((1, 2, 3))})
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).min() == 255


def test_what_cannot_become_a_file_is_refused(sources: Path, tmp_path: Path) -> None:
    data = {"source": str(sources / "a.png"), "pred": np.zeros((1, 2, 3), np.float32)}
    (tmp_path / "notes").write_text("a file")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.png").symlink_to(sources / "a.png")
    for folder, message in (
        ("notes", "the output lies below a file"),
        ("out", r"a\.png is a folder, expected a file"),
        ("linked", "the output is the input, which is never modified; choose another output_dir"),
    ):
        with pytest.raises(ConfigError, match=message):
            SavePhotographd("pred", "source", str(sources), str(tmp_path / folder), overwrite=True)(data)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (np.full((1, 2, 3), np.nan), "6 processed pixels are not finite"),
        (np.zeros((1, 2, 2)), r"has shape \(1, 2, 2\), expected 1 or 3 channels of \(2, 3\), .* of a.png; bring"),
        (np.zeros((2, 2, 3)), r"has shape \(2, 2, 3\), expected 1 or 3 channels"),
        (np.zeros((2, 3)), r"has shape \(2, 3\), expected 1 or 3 channels"),
    ],
)
def test_what_is_no_result_for_the_image_is_not_saved(
    sources: Path, tmp_path: Path, pred: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        SavePhotographd("pred", "source", str(sources), str(tmp_path / "out"))(
            {"source": str(sources / "a.png"), "pred": pred}
        )
    assert not (tmp_path / "out").exists()


def test_an_image_from_elsewhere_is_refused(sources: Path, tmp_path: Path) -> None:
    save = SavePhotographd("pred", "source", str(sources / "more"), str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"a\.png does not lie below data_root_dir, .*more; give the folder"):
        save({"source": str(sources / "a.png"), "pred": np.zeros((1, 2, 3))})


@pytest.mark.parametrize("inside", [".", "out"])
def test_the_input_is_never_written_to(sources: Path, inside: str) -> None:
    save = SavePhotographd("pred", "source", str(sources), str(sources / inside), overwrite=True)
    with pytest.raises(ConfigError, match="inside the input"):
        save({"source": str(sources / "a.png"), "pred": np.zeros((1, 2, 3))})
    np.testing.assert_array_equal(np.asarray(Image.open(sources / "a.png")), GREY)


def test_a_truncated_image_is_a_data_error(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut\.png cannot be read as an image"):
        LoadPhotographd("image")({"image": str(tmp_path / "cut.png")})
