"""The checks of MONAI's model zoo that need no network, for every bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, create_workflow, verify_metadata, verify_net_in_out

from ctclip.files import file_sha256
from ctclip.weights.catalogue import MODELS
from tests.bundles.conftest import ALL_BUNDLES, BUNDLES, CT_BUNDLES, data_of, small, train_settings

pytestmark = pytest.mark.parametrize("name", ALL_BUNDLES)


@pytest.fixture
def bundle(complete_bundles: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete bundle, which is also the current folder."""
    monkeypatch.chdir(complete_bundles / name)
    return complete_bundles / name


def test_1_shipped_weights_are_the_recorded_ones(name: str) -> None:
    """Stands for the check of large files: no bundle has any, and the one model in the repository has its hash."""
    assert not list((BUNDLES / name).glob("large_files.*"))
    shipped = [model for model in MODELS.values() if model.bundle == name]
    assert len(shipped) == (name != "ct_clip_denoising")
    for model in shipped:
        assert file_sha256(model.path) == model.sha256


def test_2_and_3_required_files(bundle: Path) -> None:
    required = "LICENSE configs/metadata.json configs/inference.json configs/train.json configs/logging.conf"
    for file in f"{required} models/model.pt docs/README.md docs/data_license.txt".split():
        assert (bundle / file).is_file(), file
    models = list(BUNDLES.glob("*/models/*.pt"))
    assert len(models) == 2, "the shipped ones"
    assert all(path.stat().st_size < 25e6 for path in models)


def test_4_the_changelog_holds_the_version(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert metadata["name"] == bundle.name


def test_5_metadata_fits_the_schema(bundle: Path, shared_data: Path, tmp_path: Path) -> None:
    schema = shutil.copy(shared_data / "monai_schema" / "meta_schema_20240725.json", tmp_path)
    verify_metadata(meta_file="configs/metadata.json", filepath=schema)
    assert json.loads((bundle / "configs/metadata.json").read_text())["schema"].endswith(Path(schema).name)


def test_6_properties_of_inference_without_data(bundle: Path) -> None:
    workflow = create_workflow(config_file="configs/inference.json", workflow_type="infer")
    assert workflow.check_properties() == []


def test_6_properties_of_training(
    bundle: Path, name: str, ct_folder: Path, image_folder: Path, clip_weights: Path, tmp_path: Path
) -> None:
    workflow = _train_workflow(name, ct_folder, image_folder, clip_weights, tmp_path)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_7_network_in_and_out(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", n=3
    )


def test_8_torchscript(bundle: Path, tmp_path: Path) -> None:
    from monai.data import load_net_with_metadata

    exported = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(exported),
        ckpt_file="models/model.pt",
        meta_file="configs/metadata.json",
        config_file="configs/inference.json",
        key_in_ckpt="model",
    )
    scripted, metadata, _ = load_net_with_metadata(str(exported))
    assert metadata["name"] == bundle.name
    from ctclip.weights import load_network

    network = load_network("models/model.pt")
    image = torch.rand(1, network.config.in_channels, 40, 70)
    with torch.no_grad():
        torch.testing.assert_close(scripted(image), network(image), atol=1e-5, rtol=0)


def test_8_load_from_elsewhere(
    complete_bundles: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the README, also where the installed bundle holds no weights, or others."""
    from ctclip.weights import load_network

    monkeypatch.chdir(tmp_path)
    bundle = complete_bundles / name
    example = (bundle / "docs" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    made: dict[str, Any] = {}
    exec(example.replace("BUNDLES", str(complete_bundles)), made)
    expected = load_network(bundle / "models" / "model.pt")
    image = torch.rand(1, expected.config.in_channels, 32, 64)
    with torch.no_grad():
        assert torch.equal(made["network"](image), expected(image))


def test_9_train_evaluate_and_infer(
    bundle: Path, name: str, ct_folder: Path, image_folder: Path, clip_weights: Path, tmp_path: Path
) -> None:
    data = data_of(name, ct_folder, image_folder)
    train = _train_workflow(name, ct_folder, image_folder, clip_weights, tmp_path)
    _run(train)
    assert {path.name for path in tmp_path.iterdir()} >= {"last.pt", "model.pt", "tensorboard"}

    config = ["configs/train.json", "configs/evaluate.json"]
    evaluation = small(
        dataset_dir=str(data), output_dir=str(tmp_path / "metrics"), model_file=str(tmp_path / "model.pt")
    )
    evaluate = _workflow(config, "train", evaluation)
    _run(evaluate)
    metrics = evaluate.parser.get_parsed_content("validate#evaluator").state.metrics
    assert metrics["psnr_db_of_input"] > 0
    assert metrics["psnr_db"] > 0
    assert 0 < metrics["ssim"] <= 1
    assert (tmp_path / "metrics" / "metrics.csv").is_file()

    settings = small(
        dataset_dir=str(data), output_dir=str(tmp_path / "denoised"), model_file=str(tmp_path / "model.pt")
    )
    if name in CT_BUNDLES:
        held_out = _workflow(config, "train", evaluation | {"held_out_patients": 0.5})
        held_out.initialize()
        assert len(held_out.parser.get_parsed_content("validate#dataset")) == 1, "one of two patients"

    infer = _workflow(["configs/inference.json"], "infer", settings)
    _run(infer)
    assert len(list((tmp_path / "denoised").iterdir())) == len(list(data.iterdir()))


@pytest.mark.parametrize("configs", [["configs/train.json", "configs/train_paper.json"]])
def test_9_the_papers_recipe_trains(
    bundle: Path,
    name: str,
    configs: list[str],
    ct_folder: Path,
    image_folder: Path,
    clip_weights: Path,
    tmp_path: Path,
) -> None:
    more = {"constant_steps": 2} if name == "natural_clip_denoising" else {}
    workflow = _train_workflow(name, ct_folder, image_folder, clip_weights, tmp_path, configs, **more)
    _run(workflow)
    optimizer = workflow.parser.get_parsed_content("optimizer")
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-6, abs=1e-7), "cosine, down to 1e-6"
    assert optimizer.defaults["lr"] == 3e-4
    assert (tmp_path / "model.pt").is_file()


def test_11_style(name: str) -> None:
    assert not list((BUNDLES / name).rglob("*.py")), "components live in the package, which 'make lint' checks"


def _train_workflow(
    name: str,
    ct_folder: Path,
    image_folder: Path,
    clip_weights: Path,
    output_dir: Path,
    configs: list[str] | None = None,
    **more: Any,
) -> ConfigWorkflow:
    settings = train_settings(name, ct_folder, image_folder, clip_weights, output_dir) | more
    return _workflow(configs or ["configs/train.json"], "train", settings)


def _workflow(configs: list[str], kind: str, settings: dict[str, Any]) -> ConfigWorkflow:
    return ConfigWorkflow(configs, meta_file="configs/metadata.json", workflow_type=kind, **settings)


def _run(workflow: ConfigWorkflow) -> None:
    workflow.initialize()
    workflow.run()
    workflow.finalize()
