"""Copies of the bundles that are complete and small enough to run, and data to run them on."""

from __future__ import annotations

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

from ctclip.networks import DenseFeatureDenoiser
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
