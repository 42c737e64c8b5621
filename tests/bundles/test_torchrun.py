"""Training by several processes, as the bundles' READMEs start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles.conftest import command_line, train_settings


# ct_clip_denoising shares its multi_gpu_train.json with the first of them; its train.json differs in the network only.
@pytest.mark.parametrize("name", ["ct_compact_denoising", "natural_clip_denoising"])
def test_torchrun_with_two_processes(
    complete_bundles: Path, name: str, ct_folder: Path, image_folder: Path, clip_weights: Path, tmp_path: Path
) -> None:
    settings = train_settings(name, ct_folder, image_folder, clip_weights, tmp_path)
    del settings["precision"]  # found out by the config itself, as in its README's command
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
            *("-m", "monai.bundle", "run"),
            *("--config_file", "['configs/train.json','configs/multi_gpu_train.json']"),
            *command_line(settings | {"epochs": 1}),
        ],
        cwd=complete_bundles / name,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "model.pt").is_file()
    assert done.stdout.count("Key metric") == 1, "one process reports"
    if name == "ct_compact_denoising":
        assert done.stdout.count("found 2 scans of 2 patients; pairs of low and full dose among them: 0") == 1
    # events.out.tfevents.<time>.<host>.<process>.<number>
    assert len({path.name.split(".")[-2] for path in (tmp_path / "tensorboard").rglob("events*")}) == 1
