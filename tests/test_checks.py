from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest
from ignite.engine import Engine

from ctclip.checks import (
    bundle_root,
    cosine_steps,
    or_exit,
    or_nothing,
    require_batch_size,
    require_held_out,
    require_training_plan,
    run_or_exit,
)
from ctclip.errors import AlreadyDoneError, ConfigError, DataError
from ctclip.transforms import RandWhiteNoise


def _fails(message: str) -> list:
    raise DataError(message)


def _wrapped() -> None:
    try:
        _fails("no such folder: x")
    except DataError as error:
        raise RuntimeError("applying transform") from error


def test_own_errors_become_one_line_also_when_monai_wrapped_them() -> None:
    for function, args in ((_fails, ["no such folder: x"]), (_wrapped, [])):
        with pytest.raises(SystemExit, match="^ctclip: no such folder: x$"):
            or_exit(function, *args)
    with pytest.raises(ZeroDivisionError):
        or_exit(lambda: 1 / 0)
    assert or_exit(max, 1, 2) == 2


def test_own_errors_are_found_behind_others_that_were_raised_while_they_were_handled() -> None:
    def fails_twice() -> None:
        try:
            _fails("no such folder: x")
        except DataError:
            raise RuntimeError("while cleaning up")  # noqa: B904

    with pytest.raises(SystemExit, match="^ctclip: no such folder: x$"):
        or_exit(fails_twice)


def test_an_engine_logs_no_error_that_ends_it_and_logs_again_afterwards(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(engine: Engine, batch: object) -> None:
        engine.logger.warning("before the error")
        logging.getLogger("StatsHandler").error("with its traceback")
        _fails("no such folder: x")

    engine = Engine(step)
    monkeypatch.setattr(engine, "run", partial(engine.run, [0]))  # MONAI's engines know their data
    with caplog.at_level("WARNING"), pytest.raises(SystemExit, match="^ctclip: no such folder: x$"):
        run_or_exit(engine)
    assert [record.message for record in caplog.records] == ["before the error"]
    for each in (engine.logger, logging.getLogger("StatsHandler")):
        each.error("after it")
    assert [record.message for record in caplog.records] == ["before the error", "after it", "after it"]


def test_nothing_left_to_do_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def done() -> None:
        raise AlreadyDoneError("already finished")

    with pytest.raises(SystemExit) as ended:
        or_exit(done)
    assert ended.value.code == 0
    assert capsys.readouterr().err == "ctclip: already finished\n"


def test_missing_data_may_be_an_empty_list() -> None:
    assert or_nothing(_fails, "gone") == []
    assert or_nothing(sorted, [2, 1]) == [1, 2]
    with pytest.raises(TypeError):
        or_nothing(sorted, [2, "not a number"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, found 0; give --epochs"),
        ({"accumulation_steps": 0}, "accumulation_steps must be"),
        ({"batches_per_epoch": "many"}, "batches_per_epoch must be a whole number of at least 1, found 'many'"),
        ({"epochs": True}, "epochs must be a whole number of at least 1, found True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, found -1"),
        ({"seed": "abc"}, "seed must be a whole number of at least 0, found 'abc'"),
        ({"workers": -1}, "workers must be a whole number of at least 0, found -1"),
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
        ({"resume": "no"}, "resume must be True or False, found 'no'; give --resume True, or leave it out"),
        ({"val_interval": 4}, "val_interval 4 is more than the 3 epochs: no model would be chosen"),
    ],
)
def test_trainings_that_would_give_no_model(change: dict, message: str) -> None:
    plan = {"epochs": 3, "val_interval": 3, "accumulation_steps": 1, "batches_per_epoch": 5}
    plan |= {"resume": False, "seed": 0, "workers": 0, "learning_rate": 1e-3, "max_gradient_norm": 1}
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


@pytest.mark.parametrize("size", [0, -1, 1.5, "many", True])
def test_batches_that_cannot_be(size: object) -> None:
    require_batch_size(1)
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1, found .*; give --batch"):
        require_batch_size(size)


def test_a_bundle_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", logger="ctclip.checks"):
        root = Path(bundle_root("ct_compact_denoising"))
    assert f"bundle_root is {root}, the installed bundle" in caplog.text
    assert (root / "configs" / "inference.json").is_file()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text('{"name": "ct_compact_denoising"}')
    assert bundle_root("ct_compact_denoising") == ".", "a copy in the current folder goes first"
    assert bundle_root("ct_clip_denoising") != ".", "another bundle is not taken for it"


@pytest.mark.parametrize("content", ["{", '["ct_compact_denoising"]', "\xff"])
def test_metadata_that_are_none_are_those_of_no_bundle(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(content, encoding="latin-1")
    assert bundle_root("ct_compact_denoising") != "."
    assert "metadata.json is no bundle's metadata" in caplog.text
