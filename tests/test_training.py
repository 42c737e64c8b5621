from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctclip.errors import AlreadyDoneError, ConfigError, DataError
from ctclip.training import (
    OF_TORCHRUN,
    cosine_steps,
    make_noise,
    require_held_out,
    require_run,
    require_torchrun,
    require_training_plan,
)
from ctclip.transforms import RandCorrelatedNoise, RandWhiteNoise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, found 0; give --epochs"),
        ({"accumulation_steps": 0}, "accumulation_steps must be"),
        ({"batches_per_epoch": "many"}, "batches_per_epoch must be a whole number of at least 1, found 'many'"),
        ({"epochs": True}, "epochs must be a whole number of at least 1, found True"),
        ({"from_0": {"seed": -1}}, "seed must be a whole number of at least 0, found -1"),
        ({"from_0": {"seed": "abc"}}, "seed must be a whole number of at least 0, found 'abc'"),
        ({"from_0": {"workers": -1}}, "workers must be a whole number of at least 0, found -1"),
        (
            {"from_0": {"cached_volumes": -1}},
            "cached_volumes must be a whole number of at least 0, found -1; give --cach",
        ),
        ({"neighbor_distance": 0}, "neighbor_distance must be a whole number of at least 1, found 0; give --neighbor_"),
        ({"neighbor_distance": 1.5}, "neighbor_distance must be a whole number of at least 1, found 1.5"),
        ({"learning_rate": "abc"}, "learning_rate must be a finite number above 0, found 'abc'; give --learning_rate"),
        ({"learning_rate": -1}, "learning_rate must be a finite number above 0, found -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0, found nan"),
        ({"max_gradient_norm": 0}, "max_gradient_norm must be a finite number above 0, found 0"),
        ({"max_gradient_norm": float("inf")}, "max_gradient_norm must be a finite number above 0, found inf"),
        ({"shares": {"phantoms": 1.5}}, "phantoms must be a number from 0 to 1, found 1.5; give --phantoms"),
        ({"shares": {"mixup_prob": -0.1}}, "mixup_prob must be a number from 0 to 1, found -0.1"),
        ({"shares": {"phantoms": "half"}}, "phantoms must be a number from 0 to 1, found 'half'"),
        ({"shares": {"phantoms": float("nan")}}, "phantoms must be a number from 0 to 1, found nan"),
        ({"lesions": [3]}, r"lesions must be two whole numbers, 0 <= least <= greatest, found \[3\]; give --lesions"),
        ({"lesions": [5, 2]}, r"lesions must be two whole numbers, 0 <= least <= greatest, found \[5, 2\]"),
        ({"lesions": 3}, "lesions must be two whole numbers, 0 <= least <= greatest, found 3"),
        ({"noise": 5}, "noise must be a random transform .*, found 5; give a setting, .*, or another kind with its s"),
        ({"augmentation_gamma": -1}, "augmentation_gamma must be a finite number of at least 0, found -1; give --aug"),
        ({"augmentation_gamma": "x"}, "augmentation_gamma must be a finite number of at least 0, found 'x'"),
        ({"flags": {"resume": "no"}}, "resume must be True or False, found 'no'; give --resume True, or leave it out"),
        ({"flags": {"compile": "yes"}}, "compile must be True or False, found 'yes'; give --compile True, or leave it"),
        (
            {"projection_noise_sd_hu": [0, 10]},
            r"projection_noise_sd_hu needs 0 < lower <= upper, found \(0, 10\); give --projection_noise_sd_hu",
        ),
        ({"projection_noise_sd_hu": 30}, "projection_noise_sd_hu needs 0 < lower <= upper, found 30"),
        ({"val_interval": 4}, "val_interval 4 is more than the 3 epochs: no model would be chosen"),
    ],
)
def test_trainings_that_would_give_no_model(change: dict, message: str) -> None:
    plan = {"epochs": 3, "val_interval": 3, "accumulation_steps": 1, "batches_per_epoch": 5}
    plan |= {"flags": {"resume": False}, "from_0": {"seed": 0, "workers": 0}, "neighbor_distance": 2}
    plan |= {"learning_rate": 1e-3, "max_gradient_norm": 1, "projection_noise_sd_hu": [8, 110]}
    plan |= {"shares": {"phantoms": 0, "projection_noise": 1}}
    plan |= {"noise": RandWhiteNoise(), "augmentation_gamma": 0.025, "lesions": [0, 24]}
    require_training_plan(**plan)
    with pytest.raises(ConfigError, match=message):
        require_training_plan(**{**plan, **change})
    with pytest.raises(ConfigError, match="give --held_out_images above 0"):
        require_held_out([], "held_out_images")


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        (20, "constant_steps must be below the 20 steps .*, found 20: .* never fall; give --constant_steps 6, "),
        (92000, "constant_steps must be below the 20 steps .*, found 92000: .* give --constant_steps 6"),
        (0, "constant_steps must be a whole number of at least 1, found 0; give --constant_steps"),
        (2.5, "constant_steps must be a whole number of at least 1, found 2.5"),
    ],
)
def test_a_learning_rate_that_would_never_fall(constant: float, message: str) -> None:
    assert cosine_steps(epochs=3000, batches_per_epoch=100, constant_steps=92000) == 208000
    assert cosine_steps(epochs=4, batches_per_epoch=5, constant_steps=19) == 1
    with pytest.raises(ConfigError, match=message):
        cosine_steps(epochs=4, batches_per_epoch=5, constant_steps=constant)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sd_hu": 30}, "noise cannot be made: sd_hu needs 0 < lower <= upper, found 30; give another value"),
        ({"sd_hu": [50, 20]}, r"noise cannot be made: sd_hu needs 0 < lower <= upper, found \(50, 20\)"),
        ({"nonsense": 2}, "noise has no setting 'nonsense'; those of RandCorrelatedNoise are prob, sd_hu, cutoff, "),
        ({"prob": 2}, "noise cannot be made: prob must be a number from 0 to 1, found 2"),
        ({"prob": "often"}, "prob must be a number from 0 to 1, found 'often'"),
    ],
)
def test_noise_that_cannot_be(settings: dict, message: str) -> None:
    assert make_noise(RandCorrelatedNoise, prob=0.95, sd_hu=[8, 110]).prob == 0.95
    with pytest.raises(ConfigError, match=message):
        make_noise(RandCorrelatedNoise, **{"prob": 0.95, "sd_hu": [8, 110], **settings})


def test_an_earlier_run_is_noticed_before_anything_is_loaded(tmp_path: Path) -> None:
    settings = {"epochs": 5, "batches_per_epoch": 10, "learning_rate": 0.1}
    require_run(tmp_path, resume=False, **settings)
    with pytest.raises(DataError, match="nothing to resume"):
        require_run(tmp_path, resume=True, **settings)
    progress = {"epoch": 2, "iteration": 20, "finished": False, "best_metric": 1.0, "best_metric_epoch": 2}
    torch.save({**progress, "settings": {**settings, "optimizer": "AdamW"}}, tmp_path / "last.pt")
    with pytest.raises(DataError, match="last.pt exists: give --resume True to go on with that run"):
        require_run(tmp_path, resume=False, **settings)
    require_run(tmp_path, resume=True, **settings)


def test_a_finished_run_is_noticed_before_anything_is_loaded(tmp_path: Path) -> None:
    settings = {"epochs": 5, "batches_per_epoch": 10, "learning_rate": 0.1}
    progress = {"epoch": 4, "iteration": 40, "finished": True, "best_metric": 1.0, "best_metric_epoch": 2}
    torch.save({**progress, "settings": {**settings, "optimizer": "AdamW"}}, tmp_path / "last.pt")
    with pytest.raises(AlreadyDoneError, match="already finished, after epoch 4 of at most 5; nothing to do"):
        require_run(tmp_path, resume=True, **settings)
    # More epochs are another run: resuming it says so.
    require_run(tmp_path, resume=True, **{**settings, "epochs": 9})


def test_several_processes_need_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OF_TORCHRUN:
        monkeypatch.setenv(name, "1")
    require_torchrun()
    monkeypatch.delenv("RANK")
    with pytest.raises(ConfigError, match="needs torchrun, found no RANK in the environment; start it as torchrun"):
        require_torchrun()
