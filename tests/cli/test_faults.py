"""What users' machines do: kill, fill the disk, run twice at once, give zip files and bad slices."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner, Result

from ctclip.atomic import PARTIAL_PREFIX, REPLACED_PREFIX, atomic_folder, clean_up
from ctclip.cli import main as program
from ctclip.cli.main import app
from ctclip.demo import write_ct_series
from ctclip.denoise import Denoiser
from ctclip.dicom import Series, derived_series_numbers, scan
from ctclip.dicom.archive import unpacked
from ctclip.errors import ConfigError
from ctclip.locks import hold
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.pipeline import SeriesJob, SeriesResult, denoise_series

KILLS = 20

LIKE_WORK = ["--device", "cpu", "--strength", "1"]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two series of three and two slices."""
    write_ct_series(tmp_path / "in" / "first", low_dose(body_phantom_hu(3, 64), 30))
    write_ct_series(tmp_path / "in" / "second", low_dose(body_phantom_hu(2, 64), 30))
    for path in (tmp_path / "in" / "second").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID += ".9"
        dataset.SeriesNumber = 77
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID + ".9"
        dataset.save_as(path)
    return tmp_path / "in"


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def _content(folder: Path) -> dict[str, str]:
    """Every slice below a folder without the date and time at which it was made."""
    found = {}
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for element in list(dataset.iterall()):
            if element.VR in ("DA", "TM", "DT") and element.keyword not in ("StudyDate", "StudyTime"):
                element.value = ""
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(dataset.to_json().encode()).hexdigest()
    return found


def test_resume_keeps_what_is_done_and_adds_the_rest(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    bad = export / "second" / "0001.dcm"
    whole = bad.read_bytes()
    _cut_off(bad)
    options = ["--model", tiny_model, "--device", "cpu"]
    assert _run("denoise", export, tmp_path / "out", *options).exit_code == 3
    (first,) = (tmp_path / "out").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    bad.write_bytes(whole)
    result = _run("denoise", export, tmp_path / "out", "--resume", *options)
    assert result.exit_code == 0, result.output
    assert "done by an earlier run" in result.output
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert _run("denoise", export, tmp_path / "whole", *options).exit_code == 0
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")


def test_resume_makes_a_series_again_that_was_not_complete(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    late = export / "first" / "0002.dcm"
    content = late.read_bytes()
    late.unlink()
    options = ["--model", tiny_model, "--device", "cpu", "--series"]
    uid = pydicom.dcmread(export / "first" / "0001.dcm").SeriesInstanceUID
    assert _run("denoise", export, tmp_path / "out", *options, uid).exit_code == 0
    late.write_bytes(content)
    report = tmp_path / "r.json"
    result = _run("denoise", export, tmp_path / "out", "--resume", "--report", report, *options, uid)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(report.read_text())["series"]
    assert row["status"] == "done"
    assert "an earlier run had 2 of now 3 slices; made again" in row["warnings"]
    assert _run("denoise", export, tmp_path / "whole", *options, uid).exit_code == 0
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")
    late.unlink()
    result = _run("denoise", export, tmp_path / "out", "--resume", *options, uid)
    assert result.exit_code == 1, "what is more complete than the export is not replaced unasked"
    assert "give --overwrite" in " ".join(result.output.split())
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")


@pytest.mark.parametrize(
    "told",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]],
    ids=lambda told: " ".join(number.name for number in told),
)
def test_a_run_that_is_told_to_end_leaves_nothing(
    export: Path, tiny_model: Path, tmp_path: Path, told: list[signal.Signals]
) -> None:
    archive, unpacked = Path(shutil.make_archive(str(tmp_path / "export"), "zip", export)), tmp_path / "tmp"
    unpacked.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.cli.run_ctclip", "denoise", str(archive), str(tmp_path / "out")),
            *("--model", str(tiny_model), "--device", "cpu", "--backend", "eager"),
            *("--report", str(tmp_path / "report.json")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**_environment(), "CTCLIP_TEST_SECONDS_PER_SLICE": "2", "TMPDIR": str(unpacked)},
        # tests in the background or under nohup ignore some
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in told],
    )
    deadline = time.monotonic() + 600
    while process.poll() is None and not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(unpacked.iterdir())
    for number in told:
        process.send_signal(number)
        time.sleep(0.2)
    assert process.wait(60) == 128 + told[0]
    assert not list(unpacked.iterdir())
    assert not (tmp_path / "out").exists()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["error"] == "the run was told to end"
    assert [series["status"] for series in report["series"]] == ["failed"] * 2


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place where nobody can make a folder")
def test_an_output_that_the_file_system_refuses_is_named(export: Path, tiny_model: Path) -> None:
    reason = "cannot be made (No such file or directory); choose another"
    result = _run("denoise", export, "/proc/ctclip", "--model", tiny_model, "--device", "cpu")
    assert result.exit_code == 1
    assert f"failed: the folder /proc/ctclip {reason}" in result.output
    result = _run("demo", "--output", "/proc/ctclip", "--slices", 1)
    assert result.exit_code == 2
    assert result.output == f"ctclip: the folder /proc/ctclip/noisy {reason}\n"


def test_a_run_that_is_told_to_end_has_said_and_reports_what_was_done(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoised: list[str] = []

    def one_then_the_end(series: Series, *rest: Any) -> SeriesResult:
        if denoised:
            raise KeyboardInterrupt
        denoised.append(series.uid)
        return denoise_series(series, *rest)

    monkeypatch.setattr("ctclip.pipeline.denoise_series", one_then_the_end)
    report = tmp_path / "report.json"
    result = _run("denoise", export, tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--report", report)
    assert result.exit_code == 130
    assert f"{denoised[0]}: 3 slices in" in result.output
    first, second = json.loads(report.read_text())["series"]
    assert (first["source"], first["status"]) == (denoised[0], "done")
    assert (second["status"], second["message"]) == ("failed", "the run was told to end")


def test_what_ray_makes_of_the_end_is_not_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces a SystemExit that it is the first to see by one of code 1."""

    def told_to_end() -> None:
        with suppress(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        raise SystemExit(1)

    before = {number: signal.signal(number, signal.SIG_DFL) for number in program.ENDING}
    monkeypatch.setattr(program, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(program, "app", told_to_end)
    try:
        with pytest.raises(SystemExit) as end:
            program.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert end.value.code == 128 + signal.SIGTERM


def test_a_screen_that_takes_no_line_ends_no_run(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:  # the screen may be a file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctclip.cli.export.print_result", full_disk)
    report = tmp_path / "report.json"
    result = _run("denoise", export, tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--report", report)
    assert result.exit_code == 1
    content = json.loads(report.read_text())
    assert [row["status"] for row in content["series"]] == ["done", "done"]
    assert content["error"] == "No space left on device (while reading or writing)"


def test_what_killed_workers_leave_is_removed_as_soon_as_they_have_ended(tmp_path: Path) -> None:
    final, busy = tmp_path / "2.25.1", tmp_path / "2.25.2"
    killed, running, foreign = (
        tmp_path / f"{PARTIAL_PREFIX}0123456{digit}-{name}"
        for digit, name in enumerate((final.name, busy.name, "2.25.3"))
    )
    earlier = tmp_path / f"{REPLACED_PREFIX}01234567-{final.name}"
    for folder in (killed, running, foreign, earlier):
        folder.mkdir()
    ending, other = hold(killed), hold(running)
    assert ending is not None
    assert other is not None
    timer = threading.Timer(0.5, os.close, [ending])
    timer.start()
    clean_up([final, busy], wait_s=2.0)
    timer.join()
    os.close(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([final.name, running.name, foreign.name])


def test_what_a_dying_worker_begins_is_removed_too(tmp_path: Path) -> None:
    final = tmp_path / "2.25.1"
    begun, earlier = tmp_path / f"{PARTIAL_PREFIX}01234567-2.25.1", tmp_path / f"{REPLACED_PREFIX}01234567-2.25.1"

    def die() -> None:  # between two steps of replacing an earlier result
        begun.mkdir()
        earlier.mkdir()

    timer = threading.Timer(0.05, die)
    timer.start()
    clean_up([final], wait_s=5.0)
    timer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["2.25.1"], "the earlier result has its name back"


def test_a_file_in_the_place_of_a_result_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("notes")
    with pytest.raises(ConfigError, match="series is a file, expected a folder"):
        _write(tmp_path / "series", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("series", "notes")]


def test_strict_writes_nothing_when_one_slice_is_bad(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    _cut_off(export / "second" / "0002.dcm")
    result = _run("denoise", export, tmp_path / "out", "--strict", "--model", tiny_model)
    assert result.exit_code == 1
    assert "nothing was written" in result.output
    assert not (tmp_path / "out").exists()


def test_strict_refuses_files_that_may_be_lost_slices(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    lost = export / "second" / "0002.dcm"
    content = lost.read_bytes()
    start = content.index(b"\x08\x00\x16\x00UI")
    lost.write_bytes(content[:start] + b"\x08\x00\x16\x00ZZ\xff\xff" + content[start + 8 :])
    options = ["--model", tiny_model, "--device", "cpu"]
    result = _run("denoise", export, tmp_path / "out", "--strict", *options)
    assert result.exit_code == 1
    assert "1 files may be lost slices, the first: unreadable DICOM header" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
    listed = _run("denoise", export, tmp_path / "out", *options)
    assert listed.exit_code == 0
    assert "skipped 1 file: unreadable DICOM header" in listed.output


def test_strict_refuses_a_series_whose_ct_images_are_skipped(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    odd = pydicom.dcmread(export / "second" / "0002.dcm")
    odd.RescaleType = "HU_MOD"
    odd.save_as(export / "second" / "0002.dcm")
    options = ["--model", tiny_model, "--device", "cpu"]
    result = _run("denoise", export, tmp_path / "out", "--strict", *options)
    assert result.exit_code == 1
    said = f"series {odd.SeriesInstanceUID}: 1 of its CT images are skipped, the first: RescaleType HU_MOD: not HU"
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
    assert _run("denoise", export, tmp_path / "out", *options).exit_code == 0, "without --strict it is listed"


@pytest.mark.parametrize("kind", ["empty", "zeros", "cut"])
def test_strict_refuses_a_slice_that_was_lost(export: Path, tiny_model: Path, tmp_path: Path, kind: str) -> None:
    lost = export / "second" / "0002.dcm"
    lost.write_bytes({"empty": b"", "zeros": b"\0" * 4096, "cut": lost.read_bytes()[:200]}[kind])
    (export / ".nomedia").touch()
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", export))
    for source in (export, archive):
        result = _run("denoise", source, tmp_path / "out", "--strict", "--model", tiny_model)
        assert result.exit_code == 1
        assert "nothing was written: 1 files may be lost slices" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_killed_run_leaves_nothing_half_done(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    source_before = {path: path.read_bytes() for path in sorted(export.rglob("*.dcm"))}
    undisturbed = tmp_path / "undisturbed"
    command = [sys.executable, "-m", "tests.cli.run_ctclip", "denoise", str(export)]
    options = ["--model", str(tiny_model), "--device", "cpu"]
    start = time.monotonic()
    subprocess.run([*command, str(undisturbed), *options], check=True, capture_output=True, env=_environment())
    duration = time.monotonic() - start
    expected = _content(undisturbed)
    target = tmp_path / "killed"
    killed = 0
    for attempt in range(KILLS):
        if attempt % 2 == 0 and target.exists():
            # Every other run starts anew, so that kills also hit the first series.
            for path in sorted(target.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        process = subprocess.Popen(
            [*command, str(target), "--resume", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**_environment(), "CTCLIP_TEST_SECONDS_PER_SLICE": "0.1"},
        )
        # The imports take most of the time; the kills shall hit the work.
        deadline = time.monotonic() + 4 * duration + 30
        while process.poll() is None and not list(target.glob("*")) and time.monotonic() < deadline:
            time.sleep(0.02)
            if target.exists() and chance.random() < 0.05:
                break
        time.sleep(chance.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert {path: path.read_bytes() for path in sorted(export.rglob("*.dcm"))} == source_before
        for series in target.glob("[0-9]*"):
            names = {f"{series.name}/{path.name}" for path in series.iterdir()}
            assert names == {name for name in expected if name.startswith(series.name)}, "complete or absent"
    assert killed >= KILLS // 2
    subprocess.run([*command, str(target), "--resume", *options], check=True, capture_output=True, env=_environment())
    assert _content(target) == expected
    assert not list(target.glob(f"{PARTIAL_PREFIX}*")), "what the killed runs left is gone"


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_full_disk_leaves_nothing(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: it needs no rights, and writing fails in the same way."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tests.cli.run_ctclip", "denoise", str(export), str(tmp_path / "out")),
            *("--model", str(tiny_model), "--device", "cpu"),
        ],
        env={**_environment(), "CTCLIP_TEST_MAX_FILE_BYTES": "6000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_made_is_one_line(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = _run("denoise", export, tmp_path / "file" / "out", "--model", tiny_model)
    assert result.exit_code == 2
    assert "the output lies below a file, expected a folder" in result.output
    assert "Model" not in result.output, "nothing is loaded for nothing"
    assert "Traceback" not in result.output


def _without_power() -> list[str]:
    """The start of a command for which permissions count though root runs it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and setpriv (util-linux) is not installed")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


def test_an_unreadable_file_and_a_read_only_target(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    (export / "second" / "0002.dcm").chmod(0)
    target = tmp_path / "read only"
    target.mkdir(mode=0o555)
    script = f"""
from typer.testing import CliRunner
from ctclip.cli.main import app
for target in ({str(tmp_path / "out")!r}, {str(target)!r}):
    options = ["--model", {str(tiny_model)!r}, "--device", "cpu", "-v"]
    result = CliRunner().invoke(app, ["denoise", {str(export)!r}, target, *options])
    print(result.exit_code, result.output, "Traceback" if not isinstance(result.exception, SystemExit | None) else "")
"""
    done = subprocess.run(
        [*_without_power(), sys.executable, "-c", script],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    readable, read_only = done.stdout.split("\n1 ")
    assert readable.startswith("0 "), "what cannot be read is in no series, and is listed"
    assert "skipped 1 file: file cannot be read" in readable
    assert "Permission denied" in read_only
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(len(list(series.iterdir())) for series in (tmp_path / "out").iterdir()) == [1, 3]
    assert not any(target.iterdir())


def test_a_slice_that_becomes_unreadable_fails_its_series(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctclip.pipeline import series as pipeline

    lost = export / "second" / "0002.dcm"
    read = pipeline.read_slice
    monkeypatch.setattr(pipeline, "read_slice", lambda path: (lost.unlink(missing_ok=True), read(path))[1])
    result = _run("denoise", export, tmp_path / "out", "--model", tiny_model, "--device", "cpu")
    assert result.exit_code == 3
    assert "file cannot be read (FileNotFoundError)" in " ".join(result.output.split())
    assert [len(list(series.iterdir())) for series in (tmp_path / "out").iterdir()] == [3]


def test_two_denoisers_on_one_target(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    found = scan(export)
    together = threading.Barrier(2)

    def work(target: Path) -> list[SeriesResult]:
        job = SeriesJob(target, strength=1.0, series_numbers=derived_series_numbers(found))
        denoiser = Denoiser.load(str(tiny_model), device="cpu")
        together.wait(60)
        return [denoise_series(series, job, denoiser) for series in found.series]

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(work, [tmp_path / "out"] * 2))
    for one, other in zip(*both, strict=True):
        assert sorted((one.status, other.status)) == ["done", "failed"], "the first to finish is kept"
        assert "another run" in one.message + other.message or "--overwrite" in one.message + other.message
    assert _run("denoise", export, tmp_path / "alone", *LIKE_WORK, "--model", tiny_model).exit_code == 0
    assert _content(tmp_path / "out") == _content(tmp_path / "alone")
    assert not list((tmp_path / "out").glob(f"{PARTIAL_PREFIX}*"))


def test_many_runs_on_one_folder_each_keep_their_own_until_the_end(tmp_path: Path) -> None:
    """A run that looks for what killed runs left must not find a folder that has just been made."""
    problems: list[str] = []

    def work(name: str) -> None:
        for _ in range(40):
            with atomic_folder(tmp_path / "deep" / "series", replaces=["a"]) as folder:
                (folder / "a").write_text(name)
                time.sleep(0.001)
                if not (folder / "a").exists():
                    problems.append(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert problems == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["series"]


def test_a_run_that_is_told_to_end_while_it_makes_its_folder_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(folder: Path) -> None:
        assert list(folder.parent.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr("ctclip.atomic.hold", told)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "deep" / "series", "new")
    assert not list(tmp_path.iterdir())


def test_two_runs_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    def slower() -> None:
        with atomic_folder(tmp_path / "series") as first:
            (first / "a").write_text("slower")
            with atomic_folder(tmp_path / "series") as second:
                (second / "a").write_text("faster")
                assert first.exists(), "what the other run is writing stays"

    with pytest.raises(ConfigError, match="written by another run meanwhile"):
        slower()
    assert (tmp_path / "series" / "a").read_text() == "faster"
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{PARTIAL_PREFIX}01234567-series"
    left.mkdir()
    (left / "0001.dcm").write_bytes(b"half")
    other = tmp_path / f"{PARTIAL_PREFIX}01234567-other"
    other.mkdir()
    with atomic_folder(tmp_path / "series") as folder:
        (folder / "a").write_text("whole")
    assert not left.exists()
    assert other.exists()


def _write(folder: Path, text: str, *, overwrite: bool = True) -> None:
    with atomic_folder(folder, replaces=["a"] if overwrite else None) as partial:
        (partial / "a").write_text(text)


def test_an_earlier_result_stays_when_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(source).name.startswith(PARTIAL_PREFIX):
            raise OSError(errno.EIO, "disk")
        replace(source, target)

    _write(tmp_path / "series", "earlier")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk"):
        _write(tmp_path / "series", "new")
    assert [(path.name, (path / "a").read_text()) for path in tmp_path.iterdir()] == [("series", "earlier")]


def test_an_earlier_result_comes_back_when_a_run_was_killed_while_it_replaced_it(tmp_path: Path) -> None:
    _write(tmp_path / "series", "earlier")
    (tmp_path / "series").rename(tmp_path / f"{REPLACED_PREFIX}01234567-series")  # here it is killed
    with pytest.raises(ConfigError, match="series exists; give --overwrite"):
        _write(tmp_path / "series", "new", overwrite=False)
    assert [(path.name, (path / "a").read_text()) for path in tmp_path.iterdir()] == [("series", "earlier")]


def test_a_result_that_was_replaced_by_a_killed_run_is_removed(tmp_path: Path) -> None:
    for name in ("series", f"{REPLACED_PREFIX}01234567-series"):
        _write(tmp_path / name, name)
    _write(tmp_path / "series", "new")
    assert [(path.name, (path / "a").read_text()) for path in tmp_path.iterdir()] == [("series", "new")]


def test_a_result_is_not_put_back_under_the_name_of_another(tmp_path: Path) -> None:
    earlier = tmp_path / f"{REPLACED_PREFIX}01234567-low-run"
    _write(earlier, "low-run")
    for _ in range(2):
        _write(tmp_path / "run", "run")
        assert (earlier / "a").read_text() == "low-run"


def test_an_earlier_result_comes_back_over_an_empty_folder_that_was_made_meanwhile(tmp_path: Path) -> None:
    _write(tmp_path / f"{REPLACED_PREFIX}01234567-series", "earlier")
    (tmp_path / "series").mkdir()

    def fails() -> None:
        with atomic_folder(tmp_path / "series", replaces=["a"]):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fails()
    assert [(path.name, (path / "a").read_text()) for path in tmp_path.iterdir()] == [("series", "earlier")]


def test_a_finished_series_is_kept_by_resume_though_a_killed_run_was_replacing_it(
    export: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options = [*LIKE_WORK, "--model", tiny_model]
    assert _run("denoise", export, tmp_path / "out", *options).exit_code == 0
    before = _content(tmp_path / "out")
    for series in list((tmp_path / "out").iterdir()):
        series.rename(series.with_name(f"{REPLACED_PREFIX}01234567-{series.name}"))
    again = _run("denoise", export, tmp_path / "out", "--resume", *options)
    assert again.exit_code == 0, again.output
    assert "0 done (0 slices), 2 kept" in again.output
    assert _content(tmp_path / "out") == before


def test_what_is_left_of_a_folder_whose_name_is_a_pattern_is_removed(tmp_path: Path) -> None:
    left, other = tmp_path / f"{PARTIAL_PREFIX}01234567-run[1]", tmp_path / f"{PARTIAL_PREFIX}01234567-run1"
    for folder in (left, other):
        folder.mkdir()
    with atomic_folder(tmp_path / "run[1]"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "run[1]"]


def test_a_slice_that_is_replaced_while_it_is_read_fails_its_series(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctclip.pipeline import series as pipeline

    first, last = export / "first" / "0001.dcm", export / "first" / "0003.dcm"
    read, replaced = pipeline.read_slice, threading.Event()

    def replace_then_read(path: Path) -> object:
        if path == first:
            last.write_bytes(first.read_bytes())
            replaced.set()
        if path == last:  # files are read ahead
            replaced.wait(60)
        return read(path)

    monkeypatch.setattr(pipeline, "read_slice", replace_then_read)
    result = _run("denoise", export, tmp_path / "out", "--model", tiny_model, "--device", "cpu")
    assert result.exit_code == 3
    assert "was replaced by another" in result.output
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_zip_gives_the_same_as_its_folder(export: Path, tiny_model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for number, path in enumerate(sorted(export.rglob("*.dcm"))):
            # Names that would leave the folder, and repeat: they never become paths.
            file.write(path, ("../../../evil.dcm", "/etc/evil", "same", "same ")[number % 4] + str(number // 2))
        file.writestr("readme.txt", "hello")
    options = ["--model", tiny_model, "--device", "cpu"]
    result = _run("denoise", archive, tmp_path / "from_zip", *options)
    assert result.exit_code == 0, result.output
    assert _run("denoise", export, tmp_path / "from_folder", *options).exit_code == 0
    assert _content(tmp_path / "from_zip") == _content(tmp_path / "from_folder")
    assert not list(tmp_path.parent.rglob("evil*"))
    listed = _run("inspect", archive, "--json")
    assert listed.exit_code == 0
    assert "readme" not in listed.output


@pytest.mark.parametrize("case", ["damaged", "cut off", "empty", "encrypted", "bomb"])
def test_bad_zip_files_are_one_line(case: str, tiny_model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        if case != "empty":
            file.writestr("a", b"\0" * 3_000_000 if case == "bomb" else np.random.default_rng(0).bytes(3000))
    content = bytearray(archive.read_bytes())
    if case == "damaged":
        content[100:2000] = b"x" * 1900
    if case == "cut off":
        del content[1000:]
    if case == "encrypted":
        for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            struct.pack_into("<H", content, content.index(mark) + offset, 1)
    archive.write_bytes(content)
    result = _run("denoise", archive, tmp_path / "out", "--model", tiny_model)
    assert result.exit_code == 1
    assert {"cut off": "the zip file is damaged", "bomb": "would grow"}.get(case, case) in result.output
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_while_unpacking_is_not_taken_for_a_damaged_zip(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "hello")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ctclip.dicom.archive.shutil.copyfileobj", full)
    result = _run("denoise", archive, tmp_path / "out", "--model", tiny_model)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert "damaged" not in result.output


def test_a_zip_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.dat", "w") as file:
        file.writestr("folder/a", "hello")
    with unpacked(tmp_path / "export.dat") as folder:
        assert [path.name for path in folder.iterdir()] == ["000001"]
        assert (folder / "000001").read_text() == "hello"
    assert not folder.exists()
    (tmp_path / "other.zip").write_text("hello")
    with unpacked(tmp_path / "other.zip") as source:
        assert source == tmp_path / "other.zip"


def test_a_zip_that_would_fill_the_disk_is_not_unpacked(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, size = tmp_path / "large.zip", 3_000_000
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", np.random.default_rng(0).bytes(size))
    for free, message in (
        (2_000_000, "needs 3 MB unpacked, the temporary folder has 2 MB, of which 1 GB stays free"),
        (size + 2**30 - 1, "the temporary folder has 1.1 GB, of which 1 GB stays free"),
        (size + 2**30, "not DICOM"),
    ):
        monkeypatch.setattr("ctclip.dicom.archive.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        result = _run("denoise", archive, tmp_path / "out", "--model", tiny_model)
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())
