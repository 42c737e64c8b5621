"""What a user of the bundles relies on: resuming, the same result as the command, errors in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from PIL import Image
from typer.testing import CliRunner

from ctclip.cli.main import app
from ctclip.networks import PeerConfig, PeerDenoiser
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.weights import save_checkpoint
from tests.bundles.conftest import ALL_BUNDLES, BUNDLES, CT_BUNDLES, WIDTH, command_line, data_of, small

COMPACT = BUNDLES / "ct_compact_denoising"
TWO_CHANNELS = {"network_config#in_channels": 2}
MISSPELT = {"network_config#encoder_wdith": 32}
MAY_DIFFER = {"_desc_", "bundle_root", "network_config", "network_def", "pretrained", "encoder_weights", "model_name"}


@pytest.fixture
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a DnCNN, which OpenVINO does not run."""
    path = tmp_path_factory.mktemp("peer") / "dncnn.pt"
    save_checkpoint(PeerDenoiser(PeerConfig("DnCNN", 8, 3)), path, hu_window=None)
    return path


def _workflow(kind: str, bundle: str, files: list[str], **overrides: Any) -> ConfigWorkflow:
    """What ``python -m monai.bundle run`` makes, in this process, which has imported everything."""
    root = BUNDLES / bundle
    configs = [str(root / "configs" / f"{name}.json") for name in files]
    places = {"bundle_root": str(root), "device": "cpu"}
    return ConfigWorkflow(configs, workflow_type=kind, **{**places, **overrides})


def _run(workflow: ConfigWorkflow) -> None:
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _bundle(config_file: str, folder: Path, *arguments: str, **more: Any) -> subprocess.Popen:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_ct_bundles_differ_in_the_network_only(file: str) -> None:
    compact, clip = (json.loads((BUNDLES / name / "configs" / file).read_text()) for name in CT_BUNDLES)
    for config in (compact, clip):
        for key in MAY_DIFFER:
            config.pop(key, None)
    assert compact == clip


@pytest.mark.parametrize("file", ["evaluate.json", "multi_gpu_train.json", "train_paper.json", "logging.conf"])
def test_what_ct_bundles_share_is_the_same_file(file: str) -> None:
    first, second = ((BUNDLES / name / "configs" / file).read_bytes() for name in CT_BUNDLES)
    assert first == second


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_training_on_several_gpus_imports_what_training_imports(name: str) -> None:
    one, several = (
        json.loads((BUNDLES / name / "configs" / f"{kind}.json").read_text())["imports"]
        for kind in ("train", "multi_gpu_train")
    )
    assert set(one) <= set(several)


@pytest.mark.parametrize(
    ("name", "training"),
    [*((name, "train") for name in CT_BUNDLES), ("natural_clip_denoising", "train_compact")],
)
def test_training_and_inference_build_the_same_network(name: str, training: str) -> None:
    configs = [
        json.loads((BUNDLES / name / "configs" / f"{kind}.json").read_text()) for kind in (training, "inference")
    ]
    assert configs[0]["network_config"] == configs[1]["network_config"]


@pytest.mark.parametrize("name", ["ct_compact_denoising", "natural_clip_denoising"])
def test_the_shipped_checkpoint_fits_its_bundle(name: str) -> None:
    from ctclip.networks import DenoiserConfig
    from ctclip.weights import read_checkpoint

    header, _ = read_checkpoint(BUNDLES / name / "models" / "model.pt")
    config = json.loads((BUNDLES / name / "configs" / "inference.json").read_text())["network_config"]
    assert header.config == DenoiserConfig(**config)


@pytest.mark.parametrize("peer", ["dncnn", "restormer"])
def test_peers_train_with_the_same_bundle(image_folder: Path, tmp_path: Path, peer: str) -> None:
    settings = {"dataset_dir": str(image_folder), "epochs": 1, "batches_per_epoch": 2, "patch_size": 32}
    settings |= {"network_config#width": 8, "network_config#depth": 2, "output_dir": str(tmp_path / "out")}
    files = ["train", "train_compact", f"train_{peer}"]
    _run(_workflow("train", "natural_clip_denoising", files, **settings, held_out_images=0.5))
    from ctclip.networks import PeerDenoiser
    from ctclip.weights import load_network

    network = load_network(tmp_path / "out" / "model.pt")
    assert isinstance(network, PeerDenoiser)
    assert network.config.architecture.lower() == peer


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    ct_folder: Path, tmp_path: Path, threads: Callable[[int], None]
) -> None:
    threads(1)
    files, settings = ["train", "pretrain"], small(dataset_dir=str(ct_folder), epochs=3)
    # In the second epoch, of two iterations, the training kills itself: no moment to be waited for.
    handler = "$@train#trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: os.kill(os.getpid(), 9))"
    (tmp_path / "kill.json").write_text(json.dumps({"+imports": ["$import os"], "+initialize": [handler]}))
    killed = _bundle(
        f"['configs/train.json','configs/pretrain.json','{tmp_path / 'kill.json'}']",
        COMPACT,
        *command_line(settings | {"bundle_root": str(COMPACT), "output_dir": str(tmp_path / "killed")}),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    # Meanwhile, in this process.
    _run(_workflow("train", COMPACT.name, files, **settings | {"output_dir": str(tmp_path / "whole")}))
    output, _ = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output[-3000:]
    assert torch.load(tmp_path / "killed" / "last.pt", weights_only=True)["epoch"] == 1
    _run(_workflow("train", COMPACT.name, files, **settings | {"output_dir": str(tmp_path / "killed"), "resume": True}))
    first, second = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "killed"))
    assert (first["epoch"], second["epoch"]) == (3, 3)
    # RMSE in HU; 0.05 dB are 0.6 %. On one machine with one thread the runs agree far better than that.
    assert second["best_metric"] == pytest.approx(first["best_metric"], rel=1e-5)
    for name, values in first["model"].items():
        torch.testing.assert_close(second["model"][name], values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("series", ["siemens_body_j2k_lossless", "rider_chest_ge_std_overlap"])
def test_inference_equals_the_command_on_dicom(shared_data: Path, tmp_path: Path, series: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in sorted((shared_data / "dicom" / series).rglob("*"))[:3]:
        if path.is_file():
            shutil.copy(path, source)
    places = {"dataset_dir": str(source), "output_dir": str(tmp_path / "bundle")}
    _run(_workflow("infer", "ct_compact_denoising", ["inference"], **places))
    assert (
        CliRunner().invoke(app, ["denoise", str(source), str(tmp_path / "command"), "--device", "cpu"]).exit_code == 0
    )
    ours, theirs = (sorted((tmp_path / name).rglob("*.dcm")) for name in ("bundle", "command"))
    assert len(ours) >= 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.relative_to(tmp_path / "bundle") == other.relative_to(tmp_path / "command"), "same derived UID"
        first, second = pydicom.dcmread(one), pydicom.dcmread(other)
        assert first.SOPInstanceUID == second.SOPInstanceUID
        difference = first.pixel_array.astype(int) - second.pixel_array
        assert abs(difference).max() * abs(float(first.RescaleSlope)) <= 1


def test_inference_equals_the_command_on_a_volume(tmp_path: Path, ct_folder: Path) -> None:
    # As a user starts it, from a folder that has nothing to do with the bundle.
    run = _bundle(
        str(COMPACT / "configs" / "inference.json"),
        tmp_path,
        *("--dataset_dir", str(ct_folder), "--output_dir", str(tmp_path / "bundle")),
        *("--device", "cpu"),
    )
    output, _ = run.communicate()
    assert run.returncode == 0, output[-3000:]
    for path in ct_folder.iterdir():
        target = tmp_path / path.name
        result = CliRunner().invoke(app, ["denoise", str(path), str(target), "--device", "cpu"])
        assert result.exit_code == 0
        ours, theirs, source = (nib.load(name) for name in (tmp_path / "bundle" / path.name, target, path))
        np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), atol=1)
        np.testing.assert_allclose(ours.affine, source.affine)
        assert ours.get_data_dtype() == source.get_data_dtype()
        assert np.abs(ours.get_fdata() - source.get_fdata()).max() > 1, "something was denoised"


@pytest.mark.parametrize(
    ("kind", "files", "data", "settings", "message"),
    [
        ("train", ["train"], "nowhere", {}, "no such file or folder: nowhere"),
        ("train", ["train"], "EMPTY", {}, "nothing to use in"),
        ("train", ["train"], "DATA", {"held_out_patients": 0.9}, "cannot hold out 0.9 of 2"),
        ("train", ["train"], "DATA", {"pretrained": "gone.pt"}, ".*gone.pt"),
        ("train", ["train", "pretrain"], "DATA", {"resume": True}, "nothing to resume"),
        ("infer", ["inference"], "nowhere", {}, "no such file or folder: nowhere"),
        ("infer", ["inference"], "DATA", {"model_file": "gone.pt"}, ".*gone.pt"),
        ("infer", ["inference"], "DATA", {"precision": "fp16"}, "unknown precision 'fp16'"),
        ("infer", ["inference"], "DATA", {"backend": "tensorrt"}, "backend must be one of .*, found 'tensorrt'"),
        ("train", ["train", "evaluate"], "DATA", {"precision": "fp16"}, "unknown precision 'fp16'"),
        ("train", ["train", "pretrain"], "DATA", {"precision": "fp16"}, "unknown precision 'fp16'"),
        ("train", ["train", "pretrain"], "DATA", TWO_CHANNELS, "in_channels must be 1 or 3, found 2"),
        ("train", ["train", "pretrain"], "DATA", MISSPELT, ".*'encoder_wdith'; its fields are encoder_layers"),
        ("train", ["train", "evaluate"], "DATA", MISSPELT, ".*'encoder_wdith'; its fields are encoder_layers"),
        ("infer", ["inference"], "DATA", TWO_CHANNELS, "in_channels must be 1 or 3, found 2"),
        ("infer", ["inference"], "DATA", MISSPELT, ".*'encoder_wdith'; its fields are encoder_layers"),
        *(
            (kind, files, "DATA", {"network_config": 5}, "network_config must be a mapping of .*, found 5;")
            for kind, files in (("train", ["train"]), ("train", ["train", "evaluate"]), ("infer", ["inference"]))
        ),
        ("infer", ["inference"], "DATA", {"batch_size": 0}, "batch_size must be a whole number of at least 1, found 0"),
        ("infer", ["inference"], "DATA", {"batch_size": "x"}, "batch_size must be a whole number of .*, found 'x'"),
        ("train", ["train"], "DATA", {"lesions": [3]}, r"lesions must be two whole numbers, .*, found \[3\]"),
        ("train", ["train"], "DATA", {"noise": 5}, "noise must be a random transform such as .*, found 5"),
        ("train", ["train"], "DATA", {"augmentation_gamma": -1}, "augmentation_gamma must be a finite .*, found -1"),
        ("train", ["train", "evaluate"], "DATA", {"simulated_sd_hu": 0}, "simulated_sd_hu must be .* above 0, found 0"),
        ("infer", ["inference"], "DATA", {"device": "gpu"}, "unknown device 'gpu'"),
        ("infer", ["inference"], "DATA", {"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ("train", ["train", "evaluate"], "DATA", {"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ("train", ["train", "pretrain"], "DATA", {"device": "cuda:99"}, "there is no device 'cuda:99'"),
    ],
)
def test_mistakes_end_in_one_line(
    kind: str, files: list[str], data: str, settings: dict[str, Any], message: str, tmp_path: Path, ct_folder: Path
) -> None:
    (tmp_path / "empty").mkdir()
    source = {"EMPTY": str(tmp_path / "empty"), "DATA": str(ct_folder)}.get(data, data)
    with pytest.raises(SystemExit, match=f"^ctclip: {message}[^\n]*$"):
        _run(_workflow(kind, COMPACT.name, files, dataset_dir=source, output_dir=str(tmp_path / "out"), **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"backend": "tensorrt"}, "backend must be one of .*, found 'tensorrt'"),
        ({"backend": "openvino", "model_file": "PEER"}, "backend 'openvino' is for networks on CLIP's ResNet"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"network_config": 5}, "network_config must be a mapping of the network's fields, found 5"),
    ],
)
def test_mistakes_with_natural_images_end_in_one_line(
    settings: dict[str, Any], message: str, tmp_path: Path, image_folder: Path, peer: Path
) -> None:
    if settings.get("backend") == "openvino":
        pytest.importorskip("openvino")
    places = {"dataset_dir": str(image_folder), "output_dir": str(tmp_path / "out")}
    settings = {key: str(peer) if value == "PEER" else value for key, value in settings.items()}
    with pytest.raises(SystemExit, match=f"^ctclip: {message}[^\n]*$"):
        _run(_workflow("infer", "natural_clip_denoising", ["inference"], **places, **settings))


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (["train", "train_paper"], {"epochs": 500}, "constant_steps must be below the 50000 steps .*, found 92000"),
        (["train", "train_paper"], {"constant_steps": 300000}, "constant_steps must be below the 300000 steps"),
        (["train"], {"noise": 5}, "noise must be a random transform such as .*, found 5"),
        (["train"], {"noise#sd": 0.1}, "noise cannot be made: sd needs 0 <= lower <= upper, found 0.1"),
        (["train", "train_paper"], {"noise#sd_hu": 30}, "noise has no setting 'sd_hu'; those of RandWhiteNoise are"),
        (["train", "evaluate"], {"noise#sd": [2, 1]}, r"noise cannot be made: .*, found \(2, 1\)"),
        (["train"], {"augmentation_gamma": -1}, "augmentation_gamma must be a finite number of at least 0, found -1"),
        (["train"], {"network_config": 5}, "network_config must be a mapping of the network's fields, found 5"),
        (["train", "evaluate"], {"network_config": 5}, "network_config must be a mapping of the network's .*, found 5"),
    ],
)
def test_settings_with_which_natural_images_cannot_train(
    files: list[str], settings: dict[str, Any], message: str, tmp_path: Path, image_folder: Path, clip_weights: Path
) -> None:
    places = {
        "dataset_dir": str(image_folder),
        "output_dir": str(tmp_path / "out"),
        "encoder_weights": str(clip_weights),
    }
    if "network_config" not in settings:
        places |= {"network_config#encoder_width": WIDTH, "network_config#decoder_width": WIDTH}
    with pytest.raises(SystemExit, match=f"^ctclip: {message}[^\n]*$"):
        _workflow("train", "natural_clip_denoising", files, **{**places, **settings}).initialize()


def test_peers_denoise_natural_images_on_a_cpu(tmp_path: Path, image_folder: Path, peer: Path) -> None:
    places = {"dataset_dir": str(image_folder), "output_dir": str(tmp_path)}
    _run(_workflow("infer", "natural_clip_denoising", ["inference"], **places, model_file=str(peer)))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_mistake_in_the_command_ends_in_one_line(tmp_path: Path, ct_folder: Path) -> None:
    arguments = ["--dataset_dir", str(ct_folder), "--model_file", "gone.pt", "--output_dir", str(tmp_path / "out")]
    run = _bundle("configs/inference.json", COMPACT, *arguments)
    output, _ = run.communicate()
    assert run.returncode == 1
    line = output.strip().splitlines()[-1]
    assert line.startswith("ctclip: ")
    assert "gone.pt" in line
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("slices", "settings", "message"),
    [
        (3, {}, "neighbours 2 slices apart need at least 4 slices, found 3"),
        (0, {}, r"0\.nii\.gz cannot be read as NIfTI"),
        (4, {"epochs": 0}, "epochs must be a whole number of at least 1, found 0"),
        (4, {"accumulation_steps": 0}, "accumulation_steps must be a whole number"),
        (4, {"val_interval": 3}, "val_interval 3 is more than the 2 epochs"),
        (4, {"resume": "no"}, "resume must be True or False, found 'no'"),
        (4, {"compile": "yes"}, "compile must be True or False, found 'yes'"),
        (4, {"noise#sd_hu": [50, 20]}, "noise cannot be made: sd_hu needs 0 < lower <= upper, found .50, 20.;"),
        (4, {"noise#nonsense": 2}, "noise has no setting 'nonsense'; those of RandCorrelatedNoise are prob, sd_hu"),
        (4, {"noise#prob": 2}, "noise cannot be made: prob must be a number from 0 to 1, found 2"),
        (4, {"projection_noise_sd_hu": [0, 10]}, "projection_noise_sd_hu needs 0 < lower <= upper, found .0, 10."),
        (4, {"neighbor_distance": 1.5}, "neighbor_distance must be a whole number of at least 1, found 1.5"),
        (4, {"cached_volumes": "x"}, "cached_volumes must be a whole number of at least 0, found 'x'"),
        (4, {"seed": "abc"}, "seed must be a whole number of at least 0, found 'abc'"),
        (4, {"workers": -1}, "workers must be a whole number of at least 0, found -1"),
        (4, {"learning_rate": -1}, "learning_rate must be a finite number above 0, found -1"),
        (4, {"max_gradient_norm": "x"}, "max_gradient_norm must be a finite number above 0, found 'x'"),
        (
            4,
            {"held_out_patients": "abc"},
            "the share to hold out must be a number from 0 to below 1, found 'abc'",
        ),
    ],
)
def test_data_and_settings_that_cannot_train(
    ct_folder: Path, tmp_path: Path, slices: int, settings: dict[str, Any], message: str
) -> None:
    """No slices stand for a truncated file."""
    (tmp_path / "data").mkdir()
    source, target = ct_folder / "0.nii.gz", tmp_path / "data" / "0.nii.gz"
    if slices:
        nib.save(nib.load(source).slicer[..., :slices], target)
    else:
        target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    configs = [str(COMPACT / "configs" / f"{name}.json") for name in ("train", "pretrain")]
    places = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "bundle_root": str(COMPACT)}
    workflow = ConfigWorkflow(configs, workflow_type="train", **small(**places, projection_noise=0.0, **settings))
    with pytest.raises(SystemExit, match=f"^ctclip: {message}[^\n]*$"):
        workflow.initialize()


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_an_earlier_run_is_noticed_before_the_data_are_looked_at(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    for files in (["train"], ["train", "train_paper"]):
        with pytest.raises(SystemExit, match="^ctclip: [^\n]*model.pt exists: give --resume True[^\n]*$"):
            _workflow("train", name, files, dataset_dir="nowhere", output_dir=str(tmp_path)).initialize()


@pytest.mark.parametrize("files", [["train"], ["train", "evaluate"]])
@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_a_folder_that_cannot_be_written_is_noticed_first(name: str, files: list[str], tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit, match="^ctclip: output_dir is a file, expected a folder, found [^\n]*out;[^\n]*$"):
        _workflow("train", name, files, dataset_dir="nowhere", output_dir=str(tmp_path / "out")).initialize()


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_training_by_several_processes_needs_torchrun(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="^ctclip: training by several processes needs torchrun[^\n]*$"):
        _workflow("train", name, ["train", "multi_gpu_train"]).initialize()


@pytest.mark.parametrize("name", ALL_BUNDLES)
def test_results_are_never_the_input_of_the_next_run(name: str, tmp_path: Path) -> None:
    places = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    with pytest.raises(SystemExit, match="^ctclip: the output lies inside the input, which is never modified[^\n]*$"):
        _workflow("infer", name, ["inference"], **places, overwrite=True).initialize()


@pytest.mark.parametrize("name", ["ct_compact_denoising", "natural_clip_denoising"])
def test_existing_results_are_noticed_before_the_network_runs(
    name: str, ct_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    data = data_of(name, ct_folder, image_folder)
    last = sorted(data.iterdir())[-1].name
    (tmp_path / last).touch()
    workflow = _workflow(
        "infer", name, ["inference"], dataset_dir=str(data), output_dir=str(tmp_path), evaluator="$1 / 0"
    )
    workflow.initialize()
    with pytest.raises(SystemExit, match=f"^ctclip: [^\n]*{last} exists; give --overwrite True to replace it$"):
        workflow.run()


def test_photographs_of_any_size_fill_a_patch(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 3, 3), 128, np.uint8)).save(tmp_path / "tiny.png")
    workflow = _workflow("train", "natural_clip_denoising", ["train"], patch_size=64)
    patches = workflow.parser.get_parsed_content("train#preprocessing")({"image": str(tmp_path / "tiny.png")})
    for patch in patches:
        assert torch.equal(patch["label"], torch.full((3, 64, 64), 128 / 255))


@pytest.mark.parametrize("bundle", CT_BUNDLES)
def test_a_training_volume_of_air_is_named(
    bundle: str, ct_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(ct_folder, data)
    air = np.random.RandomState(0).randint(-1020, -980, (96, 96, 6)).astype(np.int16)
    air[0, 0, 0] = -500
    nib.save(nib.Nifti1Image(air, np.diag([-0.7, -0.7, 2.0, 1])), data / "air.nii.gz")
    workflow = _workflow("train", bundle, ["train"], **small(dataset_dir=str(data), held_out_patients=0))
    with pytest.raises(SystemExit) as ended:
        workflow.parser.get_parsed_content("train#dataset")
    assert str(ended.value) == (
        "ctclip: air.nii.gz holds no body: 0 % of it lie above -500 HU, expected at least 1 %; leave it out of "
        "the training data"
    )
    output = capsys.readouterr()
    assert "Traceback" not in output.out + output.err


def test_a_mistake_that_shows_during_a_run_is_one_line_too(
    ct_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(ct_folder / "0.nii.gz")
    nib.save(image.slicer[..., :4], tmp_path / "short.nii.gz")
    nib.save(nib.Nifti1Image(image.dataobj, image.affine @ np.diag([1.1, 1, 1, 1])), tmp_path / "wide.nii.gz")
    for name in ("short", "wide"):
        pair = {"image": str(ct_folder / "0.nii.gz"), "label": str(tmp_path / f"{name}.nii.gz")}
        (tmp_path / f"{name}.json").write_text(json.dumps({"training": [pair]}))
    nib.save(nib.Nifti1Image(np.abs(image.get_fdata()), image.affine), tmp_path / "no_hu.nii.gz")
    for kind, files, data, message in (
        ("train", ["train", "evaluate"], "short.json", "volumes of one pair differ in size"),
        ("train", ["train", "evaluate"], "wide.json", "volumes of one pair differ in spacing or place: spacing"),
        ("infer", ["inference"], "no_hu.nii.gz", "no_hu.nii.gz: these values are not HU"),
    ):
        configs = [str(COMPACT / "configs" / f"{name}.json") for name in files]
        output_dir = str(tmp_path / "out")
        places = {"dataset_dir": str(tmp_path / data), "output_dir": output_dir, "bundle_root": str(COMPACT)}
        workflow = ConfigWorkflow(configs, workflow_type=kind, device="cpu", **places)
        workflow.initialize()
        with pytest.raises(SystemExit, match=f"^ctclip: {message}[^\n]*$"):
            workflow.run()
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err


@pytest.mark.parametrize(("epochs", "val_interval", "patience"), [(30, 1, 30), (30, 10, 3), (31, 10, 4), (1, 3, 1)])
@pytest.mark.parametrize("bundle", ALL_BUNDLES)
def test_early_stopping_counts_epochs(bundle: str, epochs: int, val_interval: int, patience: int) -> None:
    settings = {"early_stop_epochs": epochs, "val_interval": val_interval}
    parser = _workflow("train", bundle, ["train"], **settings, **{"early_stop#trainer": Engine(lambda *_: None)}).parser
    assert parser.get_parsed_content("early_stop").patience == patience


def test_natural_images_train_with_some_held_out_only(image_folder: Path, tmp_path: Path) -> None:
    natural = BUNDLES / "natural_clip_denoising"
    places = {"dataset_dir": str(image_folder), "output_dir": str(tmp_path), "bundle_root": str(natural)}
    settings = small(**places, held_out_images=0)
    workflow = ConfigWorkflow(str(natural / "configs/train.json"), workflow_type="train", **settings)
    with pytest.raises(SystemExit, match="^ctclip: nothing is held out, so no model would be chosen"):
        workflow.initialize()


@pytest.mark.parametrize("damaged", range(3))
def test_a_damaged_image_ends_a_training_in_one_line(image_folder: Path, tmp_path: Path, damaged: int) -> None:
    """One of the three is held out."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        content = (image_folder / f"{number}.png").read_bytes()
        (tmp_path / "data" / f"{number}.png").write_bytes(content[: len(content) // (2 if number == damaged else 1)])
    settings = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "held_out_images": 0.34}
    settings |= {"network_config#width": 8, "network_config#depth": 2, "patch_size": 32}
    files = ["train", "train_compact", "train_dncnn"]
    with pytest.raises(SystemExit, match=f"^ctclip: [^\n]*{damaged}.png[^\n]*$"):
        _workflow("train", "natural_clip_denoising", files, **settings).initialize()


def test_evaluation_gives_the_figures_of_the_evaluate_command(tmp_path: Path) -> None:
    """Of three scans of two patients: means over slices or scans are others."""
    entries = []
    for number, (patient, slices, sd_hu) in enumerate([("one", 2, 15), ("one", 3, 30), ("two", 9, 60)]):
        full = low_dose(body_phantom_hu(slices, 96), 8, seed=number).round()
        entry = {"patient": patient}
        for key, volume in (("full", full), ("low", low_dose(full, sd_hu, seed=9 + number).round())):
            entry[key] = f"{key}{number}.nii.gz"
            image = nib.Nifti1Image(volume.astype(np.int16).T, np.diag([-0.7, -0.7, 3, 1]))
            nib.save(image, tmp_path / entry[key])
        entries.append(entry)
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    training = [{"image": e["low"], "label": e["full"], "patient": e["patient"]} for e in entries]
    (tmp_path / "decathlon.json").write_text(json.dumps({"training": training}))

    places = {"dataset_dir": str(tmp_path / "decathlon.json"), "output_dir": str(tmp_path / "bundle")}
    _run(_workflow("train", COMPACT.name, ["train", "evaluate"], **places))
    by_bundle = dict(line.split(",") for line in (tmp_path / "bundle" / "metrics.csv").read_text().splitlines())
    settings = json.loads((tmp_path / "bundle" / "settings.json").read_text())
    assert (settings["window_hu"], settings["data_range_hu"]) == ([-160, 240], 400)
    assert (settings["noise"], settings["patients"], settings["volumes"]) == ("that of the pairs", 2, 3)

    options = ["--strength", "1", "--baseline", "identity", "--no-physics", "--quiet"]
    result = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "pairs.json"), "--output", str(tmp_path / "cli"), *options]
    )
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "cli" / "results.json").read_text())
    assert settings["model_sha256"] in json.dumps(document["methods"])
    by_command = {(r["method"], r["metric"]): r["mean"] for r in document["summary"] if r["window"] == "[-160,240] HU"}
    for method, suffix in (("ct-compact", ""), ("identity", "_of_input")):
        for metric, tolerance in (("psnr_db", 2e-3), ("rmse_hu", 2e-3), ("ssim", 1e-4)):
            assert float(by_bundle[metric + suffix]) == pytest.approx(by_command[method, metric], abs=tolerance)


def _patches_hu(folder: Path, volume_hu: np.ndarray, **settings: Any) -> list[dict[str, np.ndarray]]:
    """What training draws from a volume, phantoms with noise of simulated projections, back in HU."""
    data = folder / "data"
    data.mkdir()
    nib.save(nib.Nifti1Image(volume_hu.astype(np.int16).T, np.diag([-0.7, -0.7, 2.0, 1.0])), data / "0.nii.gz")
    noise = {"phantoms": 1.0, "lesions": [0, 0], "projection_noise": 1.0, "projection_noise_sd_hu": [50.0, 50.0]}
    places = {"dataset_dir": str(data), "output_dir": str(folder / "out")}
    workflow = _workflow("train", COMPACT.name, ["train"], **small(**places, **noise, **settings))
    dataset = workflow.parser.get_parsed_content("train#dataset")
    return [
        {key: values.numpy() * 4096 - 1024 for key, values in patch.items()} for _ in range(2) for patch in dataset[0]
    ]


@pytest.mark.parametrize("patch_size", [64, 160])
def test_a_body_narrower_than_the_patch_leaves_no_hole_in_its_noise(tmp_path: Path, patch_size: int) -> None:
    volume_hu = np.full((4, 96, 96), -1000.0)
    volume_hu[:, 36:60, 42:54] = 40  # with its margin less than half of the larger patch: the noise is repeated
    for patch in _patches_hu(tmp_path, volume_hu, patch_size=patch_size):
        assert patch["image"].shape == patch["label"].shape == (1, patch_size, patch_size)
        assert patch["image"][patch["label"] > -500].min(initial=0) > -900


def test_training_of_three_slices_gives_each_of_them_noise_of_its_own(tmp_path: Path) -> None:
    for patch in _patches_hu(tmp_path, body_phantom_hu(4, 96), **{"network_config#in_channels": 3}):
        noise = (patch["image"] - patch["label"]).reshape(3, -1)
        assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.5


def test_models_of_three_slices_are_selected_on_neighboring_slices(tmp_path: Path) -> None:
    def items(channels: int) -> list[dict[str, torch.Tensor]]:
        places = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path), "network_config#in_channels": channels}
        return list(_workflow("train", COMPACT.name, ["train"], **places).parser.get_parsed_content("validate#dataset"))

    for one, three in zip(items(1), items(3), strict=True):
        assert torch.equal(three["image"][1:2], one["image"])
        assert torch.equal(three["label"], one["label"])
        noise = (three["image"] - three["label"])[:, 108:148, 108:148].reshape(3, -1)
        assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.3
