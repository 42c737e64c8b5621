"""Similarity of features: closed forms, and the command on photographs and on CT."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from ctclip.cli.features import _labels
from ctclip.cli.main import app
from ctclip.errors import ConfigError
from ctclip.features.encoders import encoder_of
from ctclip.features.report import FEATURES, write_report
from ctclip.features.similarity import cosine_similarity, linear_cka
from ctclip.features.sources import holds_images, noise_for_ct, read_photographs
from ctclip.features.study import Similarity
from ctclip.report.figures import save_png
from ctclip.units import MODEL_HU_WINDOW
from tests.dicom.fake import write_stack


def test_cosine_of_known_vectors() -> None:
    first = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    second = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert cosine_similarity(first, second) == pytest.approx(2**-0.5)
    assert cosine_similarity(first, 3 * first) == pytest.approx(1)


def test_cka_does_not_see_rotation_scale_or_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 20, 20, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    turned = torch.einsum("ij,jhw->ihw", rotation, features) * 4 + 7
    assert linear_cka(features, turned) == pytest.approx(1, abs=1e-6)
    assert linear_cka(features, torch.randn(6, 20, 20, generator=generator)) < 0.1
    assert linear_cka(features, torch.ones(3, 20, 20)) == 0


def test_cka_of_two_single_channels_is_the_squared_correlation() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 30, 30, generator=generator)
    y = 0.6 * x + 0.8 * torch.randn(1, 30, 30, generator=generator)
    expected = np.corrcoef(x.flatten(), y.flatten())[0, 1] ** 2
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-5)


def test_the_command_on_photographs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for index in range(2):
        image = np.kron(random.integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    command = ["features", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--encoder", "random"]
    result = CliRunner().invoke(app, [*command, "--noise", "gaussian:5,100"])
    assert result.exit_code == 0, result.output
    assert "only the middle 64 x 64 pixels are compared, for the sake of 0.png" in result.output
    document = json.loads((tmp_path / "out" / "features.json").read_text())
    rows = document["rows"]
    assert document["side_px"] == 64
    assert "the middle 64 x 64 pixels of every image" in (tmp_path / "out" / "features.md").read_text()
    assert [row["feature"] for row in rows] == ["F1", "F2", "F3", "F4"] * 2
    for weak, strong in zip(rows[:4], rows[4:], strict=True):
        assert 1 > weak["cosine"] > strong["cosine"]
        assert 1 > weak["cka"] > strong["cka"] > strong["cka_different"]
    assert "| different images |" in (tmp_path / "out" / "features.md").read_text()
    with Image.open(tmp_path / "out" / "features.png") as plot:
        assert min(plot.size) > 100


def test_the_command_on_ct(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "volumes"
    volume = next(path for path in sorted(source.rglob("*.nii.gz")))
    command = ["features", str(volume), "--output", str(tmp_path / "out"), "--encoder", "ct-compact", "--images", "2"]
    result = CliRunner().invoke(app, [*command, "--noise", "white:20,80"])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "features.json").read_text())["rows"]
    assert {row["noise"] for row in rows} == {"white, 20 HU", "white, 80 HU"}
    assert rows[0]["cosine"] > rows[4]["cosine"]


def test_photographs_of_a_relative_folder_are_those_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("in", "in/in"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (64, 64)).save(tmp_path / folder / "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(read_photographs(Path("in"), 5)) == 2


def test_photographs_in_a_linked_folder_count_and_files_of_the_system_do_not(tmp_path: Path) -> None:
    for folder in ("store", "in"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "store" / "a.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "._a.nii.gz").touch()
    assert holds_images(tmp_path / "in")
    assert list(read_photographs(tmp_path / "in", 5)) == ["more/a.png"]


def test_one_photograph_is_not_enough(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    command = ["features", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--encoder", "random"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output == (
        "ctclip: a.png is one image; expected a folder with at least 2, to compare different ones\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["DICOM", "volume"])
def test_images_beside_ct_are_refused(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "in"
    (source / "pictures").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(source / "pictures" / name)
    (source / "notes.txt").write_text("neither of both")
    assert holds_images(source)
    if kind == "DICOM":
        write_stack(source, (0, 1, 2))
    else:
        for name in ("a.nii.gz", "b.nrrd", "c.mha"):
            (source / name).touch()
    command = ["features", str(source), "--output", str(tmp_path / "out"), "--encoder", "random"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output == (
        f"ctclip: {source} holds 2 images beside 3 DICOM files or CT volumes; give a folder with one of the two\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "not finite numbers"), (np.inf, "not finite numbers"), (0.0, "these values are not HU")],
)
def test_a_volume_that_is_not_in_hu_is_refused(tmp_path: Path, value: float, message: str) -> None:
    values = np.full((64, 64, 3), 0.0 if value == 0 else -1000.0, np.float32)
    values[5, 5, 0] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    command = ["features", str(tmp_path / "a.nii.gz"), "--output", str(tmp_path / "out"), "--encoder", "random"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output.startswith("ctclip: a.nii.gz: ")
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_what_is_not_finite_is_null_in_the_file(tmp_path: Path) -> None:
    rows = [Similarity("random", "Gaussian 15", name, 0.5, 0.5, float("nan"), 0.5) for name in FEATURES]
    write_report(rows, 2, tmp_path, side_px=64)
    text = (tmp_path / "features.json").read_text()
    assert "NaN" not in text
    assert [row["cka"] for row in json.loads(text)["rows"]] == [None] * len(FEATURES)


@pytest.mark.parametrize("level", ["nan", "inf", "0", "20,nan", "-5", ""])
def test_levels_of_ct_noise_are_finite_and_above_0(level: str) -> None:
    with pytest.raises(ConfigError, match="with the SD in HU above 0, found 'white:"):
        noise_for_ct([f"white:{level}"])


@pytest.mark.parametrize("family", ["white", "correlated"])
def test_ct_noise_has_the_sd_that_it_states_everywhere(family: str) -> None:
    low, high = MODEL_HU_WINDOW
    clean = np.full((512, 512, 1), 0.5, np.float32)
    added_hu = (noise_for_ct([f"{family}:40"])[f"{family}, 40 HU"](clean) - clean)[..., 0] * (high - low)
    parts_hu = added_hu.reshape(2, 256, 2, 256).std(axis=(1, 3))
    np.testing.assert_allclose(parts_hu, 40, rtol=0.03)
    neighbours = np.corrcoef(added_hu[:, :-1].ravel(), added_hu[:, 1:].ravel())[0, 1]
    assert neighbours == pytest.approx(0.47 if family == "correlated" else 0, abs=0.03)


def test_any_name_becomes_a_table_and_a_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []

    def save(figure: Figure, path: Path) -> None:
        save_png(figure, path)
        figures.append(figure)

    monkeypatch.setattr("ctclip.features.report.save_png", save)
    names = (r"a$\odd$", "_b|c")
    rows = [Similarity(name, name, each, 0.5, 0.5, 0.5, 0.5) for name in names for each in FEATURES]
    write_report(rows, 2, tmp_path, side_px=64)
    (figure,) = figures
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [names[0], "different images", names[1]]
    assert [axis.get_title() for axis in figure.axes[:2]] == list(names)
    lines = (tmp_path / "features.md").read_text().splitlines()
    assert sum(line.startswith(r"| _b\|c |") for line in lines) == 1


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("timm:resnet50", "no weights"),
        ("RN50:", "no weights in 'RN50:'"),
        ("timm:resnet50:", "no weights"),
        ("RN50:/nowhere.pt", "not found"),
        ("VIT:x", "unknown encoder"),
    ],
)
def test_wrong_encoders_are_named(tmp_path: Path, encoder: str, message: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "in" / "a.png")
    result = CliRunner().invoke(
        app, ["features", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--encoder", encoder]
    )
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_labels_tell_encoders_apart() -> None:
    assert _labels(["a/model.pt", "b/model.pt", "random", "RN50:openai", "RN101:openai", "timm:x:w/a.pt"]) == [
        "a/model",
        "b/model",
        "random",
        "RN50:openai",
        "RN101:openai",
        "timm:x:a",
    ]


@pytest.mark.parametrize("encoders", [["random", "random"], ["x/a/model.pt", "y/a/model.pt"], ["RN50:openai"] * 2])
def test_encoders_of_one_name_are_refused_before_anything_is_loaded(tmp_path: Path, encoders: list[str]) -> None:
    options = [word for each in encoders for word in ("--encoder", each)]
    result = CliRunner().invoke(app, ["features", str(tmp_path), "--output", str(tmp_path.parent / "out"), *options])
    assert result.exit_code == 2
    assert result.output.startswith("ctclip: two encoders are called '")
    assert result.output.endswith("': rename one file or leave one out\n")


@pytest.mark.parametrize("output", ["", "out", "../link/out"])
def test_nothing_is_written_among_the_pictures(tmp_path: Path, output: str) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    result = CliRunner().invoke(app, ["features", str(source), "--output", str(source / output)])
    assert result.exit_code == 2
    assert result.output == "ctclip: the output lies inside the input, which is never modified; choose another folder\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "file is a file, expected a folder; choose another\n"),
        ("file/sub/out", "ctclip: the output lies below a file, expected a folder; choose another\n"),
        ("out", "a link inside the input leads to the output; remove the link or choose another folder\n"),
        ("out/new", "a link inside the input leads to the output; remove the link or choose another folder\n"),
    ],
)
def test_an_output_that_cannot_be_or_must_not_is_refused_before_anything_is_compared(
    tmp_path: Path, output: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(*_: object) -> None:
        raise AssertionError("nothing is to be compared")

    monkeypatch.setattr("ctclip.features.study.compare_features", compared)
    (tmp_path / "file").write_text("mine")
    for folder in ("in/below", "out"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "below" / "results").symlink_to(tmp_path / "out")
    command = ["features", str(tmp_path / "in"), "--output", str(tmp_path / output), "--encoder", "random"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert result.output.endswith(message)
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "out").iterdir())


def test_a_picture_that_is_too_small_is_named(tmp_path: Path) -> None:
    for name, side in (("a.png", 64), ("b.png", 31)):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (64, side)).save(tmp_path / "in" / name)
    command = ["features", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--encoder", "random"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output == "ctclip: b.png has 31 x 64 pixels, expected 32 at least each; leave it out\n"


def test_a_peer_has_no_encoder(tmp_path: Path) -> None:
    from ctclip.networks import PeerDenoiser
    from ctclip.weights import save_checkpoint

    save_checkpoint(PeerDenoiser({"architecture": "DnCNN", "width": 4, "depth": 3}), tmp_path / "p.pt", hu_window=None)
    with pytest.raises(ConfigError, match="has no encoder"):
        encoder_of(str(tmp_path / "p.pt"))
