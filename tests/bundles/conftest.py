"""Copies of the bundles that are complete and small enough to run, and data to run them on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.weights import save_checkpoint

BUNDLES = Path(__file__).parents[2] / "bundles"
CT_BUNDLES = ["ct_compact_denoising", "ct_clip_denoising"]
ALL_BUNDLES = [*CT_BUNDLES, "natural_clip_denoising"]

WIDTH = 8
"""Channels of the networks that are trained in tests."""


@pytest.fixture(scope="session")
def complete_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All bundles. Those that ship no weights get random ones, as a user's training would leave them there."""
    root = tmp_path_factory.mktemp("bundles")
    for name in ALL_BUNDLES:
        shutil.copytree(BUNDLES / name, root / name, ignore=shutil.ignore_patterns("output"))
        model = root / name / "models" / "model.pt"
        if not model.exists():
            model.parent.mkdir()
            parser = ConfigParser()
            parser.read_config(root / name / "configs" / "inference.json")
            network = DenseFeatureDenoiser(parser.get("network_config"))
            window = None if name.startswith("natural") else (-1024.0, 3072.0)
            save_checkpoint(network, model, hu_window=window)
    return root


@pytest.fixture(scope="session")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two noisy phantoms as NIfTI, one per patient."""
    folder = tmp_path_factory.mktemp("ct")
    for index in range(2):
        hu = low_dose(body_phantom_hu(6, 96), 15, seed=index)
        nib.save(
            nib.Nifti1Image(np.rint(hu.T).astype(np.int16), np.diag([-0.7, -0.7, 2.0, 1])), folder / f"{index}.nii.gz"
        )
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four smooth RGB images as PNG."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(4):
        small = np.random.RandomState(index).randint(0, 255, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with the names that CLIP's image tower has, at the width of the tests."""
    torch.manual_seed(0)
    tower = ModifiedResNet([3, 4, 6, 1], output_dim=8, heads=1, image_size=32, width=WIDTH)
    path = tmp_path_factory.mktemp("weights") / "tower.pt"
    torch.save({f"visual.{name}": values for name, values in tower.state_dict().items()}, path)
    return path


def small(**more: Any) -> dict[str, Any]:
    """Overrides that make a training take seconds."""
    return {
        "network_config#encoder_width": WIDTH,
        "network_config#decoder_width": WIDTH,
        "epochs": 2,
        "batches_per_epoch": 2,
        "patch_size": 64,
        "precision": "fp32",
        "device": "$torch.device('cpu')",
        **more,
    }


def command_line(overrides: dict[str, Any]) -> list[str]:
    """Overrides as arguments of ``python -m monai.bundle run``."""
    return [part for key, value in overrides.items() for part in (f"--{key}", str(value))]


def data_of(name: str, ct_folder: Path, image_folder: Path) -> Path:
    """What a bundle trains on and denoises."""
    return ct_folder if name in CT_BUNDLES else image_folder


def train_settings(
    name: str, ct_folder: Path, image_folder: Path, clip_weights: Path, output_dir: Path
) -> dict[str, Any]:
    """Overrides with which a bundle trains from a network or a tower that is here."""
    settings = small(dataset_dir=str(data_of(name, ct_folder, image_folder)), output_dir=str(output_dir))
    if name != "ct_compact_denoising":
        return settings | {"encoder_weights": str(clip_weights)}
    pretrained = clip_weights.with_name("pretrained.pt")
    compact = json.loads((BUNDLES / name / "configs/train.json").read_text())["network_config"]
    config = DenoiserConfig(**compact | {"encoder_width": 8, "decoder_width": 8})
    save_checkpoint(DenseFeatureDenoiser(config), pretrained)
    return settings | {"pretrained": str(pretrained)}
