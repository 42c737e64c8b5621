from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest
from ignite.engine import Engine

from ctclip.checks import (
    bundle_root,
    or_exit,
    or_nothing,
    require_batch_size,
    require_result_folder,
    require_writable,
    run_or_exit,
)
from ctclip.errors import AlreadyDoneError, ConfigError, DataError


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


@pytest.mark.parametrize("size", [0, -1, 1.5, "many", True])
def test_batches_that_cannot_be(size: object) -> None:
    require_batch_size(1)
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1, found .*; give --batch"):
        require_batch_size(size)


def test_results_are_never_written_into_the_data(tmp_path: Path) -> None:
    """As by ``ctclip denoise``: the next run with --overwrite would denoise its own results."""
    data = tmp_path / "data"
    data.mkdir()
    require_result_folder(data, tmp_path / "out", overwrite=False)
    require_result_folder(tmp_path / "nowhere", tmp_path / "out", overwrite=True)
    for output in (data, data / "out", tmp_path / "other" / ".." / "data" / "out"):
        with pytest.raises(ConfigError, match="the output lies inside the input, which is never modified"):
            require_result_folder(str(data), str(output), overwrite=True)
    with pytest.raises(ConfigError, match="overwrite must be True or False, found 'yes'; give --overwrite True"):
        require_result_folder(data, tmp_path / "out", overwrite="yes")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    require_writable(str(tmp_path / "new" / "out"))
    assert not list((tmp_path / "new" / "out").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output_dir is a file, expected a folder, found .*file; give another"):
        require_writable(tmp_path / "file")
    with pytest.raises(ConfigError, match="output_dir lies below a file, expected a folder"):
        require_writable(tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match="output_dir /proc/x cannot be written: .*; give another --output_dir"):
        require_writable("/proc/x")


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
