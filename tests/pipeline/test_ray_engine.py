"""``--engine ray``: the files of one process, from two workers, whatever happens to them."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from typer.testing import CliRunner, Result

from ctclip.atomic import PARTIAL_PREFIX
from ctclip.cli.main import app
from ctclip.dicom import Series, scan
from ctclip.errors import ConfigError
from ctclip.pipeline import DenoiserSpec, SeriesJob, SeriesResult, ray_engine
from ctclip.pipeline import series as pipeline_series
from ctclip.pipeline.ray_engine import (
    RETRIES,
    _for_all_nodes,
    _results,
    _seen_from_here,
    _share,
    _Worker,
    denoise_on_ray,
)

DATES_THAT_STAY = ("StudyDate", "StudyTime")
MARK = "ZZMARK"
OWN_LINES = ("series ", "Model ", "2.25.", "  quality: ", "1 series on Ray", "Quality reports in ")
REPOSITORY = Path(__file__).parents[2]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte, with empty dates and times in place of those of the run."""
    found = {}
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for element in list(dataset.iterall()):
            if element.VR in ("DA", "TM", "DT") and element.keyword not in DATES_THAT_STAY:
                element.value = ""
        dataset.save_as(path)
        found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


@dataclass(frozen=True)
class FaultySpec(DenoiserSpec):
    """Kills its process: the first ``deaths`` times that a network is loaded, or that a series is complete."""

    marks: str = ""
    deaths: int = 1
    after_writing: bool = False

    def load(self) -> Any:
        if self.after_writing:
            pipeline_series._check = lambda *_: self._die()
        else:
            self._die()
        return super().load()

    def _die(self) -> None:
        so_far = len(os.listdir(self.marks))
        if so_far < self.deaths:
            (Path(self.marks) / str(so_far)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers on this machine."""
    ray = pytest.importorskip("ray", reason="the package ray is not installed: pip install 'ctclip[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def chosen(export: Path) -> tuple[Series, ...]:
    return scan(export).series


@pytest.fixture
def marks(tmp_path: Path) -> str:
    (tmp_path / "marks").mkdir()
    return str(tmp_path / "marks")


@pytest.mark.usefixtures("cluster")
class TestOnTwoWorkers:
    def test_the_files_are_those_of_one_process_and_a_bad_series_fails_alone(
        self, cluster: Any, export: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        bad = export / "1" / "0002.dcm"
        bad.write_bytes(bad.read_bytes()[:-2000])
        options = ["--model", tiny_model, "--device", "cpu", "--report", tmp_path / "report.json"]
        reports = []
        for folder, engine in (("one", "local"), ("two", "ray")):
            result = _run("denoise", export, tmp_path / folder, "--engine", engine, *options)
            assert result.exit_code == 3, result.output
            assert "2 done (4 slices), 0 kept, 1 failed" in result.output
            reports.append(json.loads((tmp_path / "report.json").read_text()))
            for series in reports[-1]["series"]:
                del series["seconds"]
        assert "6/6" in result.output, "progress"
        assert reports[0] == reports[1]
        assert _content(tmp_path / "two") == _content(tmp_path / "one")
        assert cluster.is_initialized(), "a cluster that was there stays"

    def test_a_killed_worker_is_replaced_and_what_it_completed_is_kept(
        self, chosen: tuple[Series, ...], tiny_model: Path, marks: str, tmp_path: Path
    ) -> None:
        spec = FaultySpec(str(tiny_model), marks=marks, after_writing=True)
        job = SeriesJob(tmp_path / "out", 0.5, check=True)
        progress: list[SeriesResult] = []
        results = denoise_on_ray(chosen[:2], job, spec, progress.append)
        assert len(os.listdir(marks)) == 1
        assert sorted(each.status for each in results) == ["done", "kept"]
        assert [each.source for each in results] == [series.uid for series in chosen[:2]]
        assert len(progress) == 2
        assert len(list((tmp_path / "out").rglob("*.dcm"))) == 4

    def test_a_series_that_kills_every_worker_is_given_up(
        self, chosen: tuple[Series, ...], tiny_model: Path, marks: str, tmp_path: Path
    ) -> None:
        spec = FaultySpec(str(tiny_model), marks=marks, deaths=RETRIES + 1)
        (result,) = denoise_on_ray(chosen[:1], SeriesJob(tmp_path / "out", 0.5), spec, lambda _: None)
        assert result.status == "failed"
        assert f"its worker died {RETRIES + 1} times" in result.message
        assert not (tmp_path / "out").exists()


def test_a_cluster_of_its_own_says_nothing_and_learns_nothing(export: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'ctclip[ray]'")
    source = (export / "0").rename(tmp_path / MARK)
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientName = dataset.PatientID = MARK
        dataset.save_as(path)
    options = ["--engine", "ray", "--check", "--qc", "qc", "--strength", "low"]
    session = tempfile.mkdtemp(prefix="ctclip-ray-")  # below tmp_path the names of sockets would be too long
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.cli.run_ctclip", "denoise", MARK, "out", *options],
            cwd=tmp_path,  # which the workers must take over
            env={**os.environ, "COLUMNS": "200", "RAY_TMPDIR": session, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        logs = [path for path in Path(session).rglob("*") if path.is_file() and "logs" in path.parts]
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert not [line for line in done.stdout.splitlines() if not line.startswith(OWN_LINES)]
        assert logs
        assert not [path.name for path in logs if MARK.encode() in path.read_bytes()]
        assert not list(Path(session).rglob("usage_stats.json"))
    finally:
        shutil.rmtree(session)
    derived = {path.name for path in (tmp_path / "out").iterdir()}
    assert {path.stem for path in (tmp_path / "qc").iterdir()} == derived
    assert len(derived) == 1


@pytest.mark.parametrize("told", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_run_that_is_told_to_end_keeps_what_is_done_and_leaves_nothing_else(
    export: Path, tiny_model: Path, tmp_path: Path, told: signal.Signals
) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'ctclip[ray]'")
    out, session = tmp_path / "out", tempfile.mkdtemp(prefix="ctclip-ray-")
    foreign = out / f"{PARTIAL_PREFIX}01234567-2.25.1"  # of another series: none of this run's business
    foreign.mkdir(parents=True)
    own = {"CTCLIP_TEST_SECONDS_PER_SLICE": "3", "RAY_TMPDIR": session, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.cli.run_ctclip", "denoise", str(export), str(out), "--engine", "ray"),
            *("--model", str(tiny_model), "--device", "cpu", "--backend", "eager"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **own},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(told, signal.SIG_DFL),  # tests in the background ignore SIGINT
    )

    def one_is_done_and_another_begun() -> bool:
        partial = set(out.glob(f"{PARTIAL_PREFIX}*")) - {foreign}
        return bool(partial) and any(out.glob("2.25.*"))

    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and not one_is_done_and_another_begun() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, told) if told == signal.SIGINT else process.send_signal(told)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        shutil.rmtree(session, ignore_errors=True)
    assert process.returncode == 128 + told, errors
    assert "***" not in errors, "Ray's stack trace"
    assert [path for path in out.iterdir() if path.name.startswith(".")] == [foreign]
    assert {len(list(path.iterdir())) for path in out.glob("2.25.*")} == {2}


def test_a_dead_worker_does_not_keep_the_others_from_being_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RayError(Exception):
        pass

    def get(folder: Path) -> Path:
        if folder.name == "dead":
            raise RayError
        return folder

    killed: list[str] = []
    cleaned: list[Path] = []
    ray = SimpleNamespace(
        exceptions=SimpleNamespace(RayError=RayError), wait=lambda all_, **_: (all_, []), get=get, kill=killed.append
    )
    monkeypatch.setattr(ray_engine, "clean_up", lambda finals, wait_s: cleaned.extend(finals))
    ray_engine._end_workers(ray, [(None, 0, "one", tmp_path / "dead"), (None, 0, "two", tmp_path / "2.25.1")])
    assert killed == ["one", "two"]
    assert cleaned == [tmp_path / "2.25.1"]


def test_the_command_hands_on_how_many_share_a_gpu(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def denoise(chosen: tuple[Series, ...], *_: object, workers_per_gpu: int) -> list[SeriesResult]:
        asked.append(workers_per_gpu)
        return [SeriesResult(series.uid, 2) for series in chosen]

    monkeypatch.setattr(ray_engine, "denoise_on_ray", denoise)
    command = "denoise", export, tmp_path / "out", "--model", tiny_model, "--workers-per-gpu", "6"
    assert _run(*command, "--engine", "ray").exit_code == 0
    assert asked == [6]
    alone = _run(*command)
    assert alone.exit_code == 2
    assert "no effect on one process, without --engine ray: --workers-per-gpu; leave it out" in alone.output


def test_without_the_package_it_is_one_line(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = _run("denoise", export, tmp_path / "out", "--engine", "ray", "--model", tiny_model)
    assert result.exit_code == 2
    assert "pip install 'ctclip[ray]'" in result.output
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_cannot_be_reached_is_one_line(
    export: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the package ray is not installed: pip install 'ctclip[ray]'")

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    result = _run("denoise", export, tmp_path / "out", "--engine", "ray", "--model", tiny_model)
    assert result.exit_code == 2
    assert "10.0.0.1:6379); check RAY_ADDRESS" in result.output


def test_a_worker_without_work_is_let_go(chosen: tuple[Series, ...], tmp_path: Path) -> None:
    """Else a series that waits for the place of a lost node would wait for ever."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Handle:
        def __init__(self, *_: object) -> None:
            alive.add(self)
            self.folder = self.denoise = SimpleNamespace(remote=lambda series, job: series.uid)

    def wait(running: list[Any], num_returns: int) -> Any:
        gc.collect()
        assert len(alive) == len(running)
        return running[:num_returns], running[num_returns:]

    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2}}, {"Alive": False, "Resources": {"CPU": 2}}],
        remote=lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=Handle)),
        wait=wait,
        get=lambda uid: SeriesResult(uid, 2, "kept"),
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    results = list(_results(ray, chosen, SeriesJob(tmp_path, 0.5), DenoiserSpec("m", device="cpu")))
    assert [each.source for each in results] == [series.uid for series in chosen]


@pytest.mark.parametrize(
    ("device", "nodes", "series", "expected"),
    [
        ("cpu", [{"CPU": 16}, {"CPU": 16}], 1000, ({"num_cpus": 1}, 32)),
        ("cpu", [{"CPU": 16}, {"CPU": 16}], 4, ({"num_cpus": 8}, 4)),
        ("cpu", [{"CPU": 16}, {"CPU": 4}], 1, ({"num_cpus": 16}, 1)),
        ("cpu", [{"CPU": 16}, {"CPU": 4}], 3, ({"num_cpus": 6}, 2)),
        ("cpu", [{}], 3, ({"num_cpus": 1}, 1)),
        ("cuda", [{"CPU": 16, "GPU": 4}, {"CPU": 16}], 1000, ({"num_gpus": 0.25, "num_cpus": 1}, 16)),
        ("cuda", [{"CPU": 6, "GPU": 4}], 1000, ({"num_gpus": 0.25, "num_cpus": 1}, 6)),
        ("cuda", [{"CPU": 16, "GPU": 4}], 2, ({"num_gpus": 1, "num_cpus": 1}, 2)),
        ("cuda", [{"CPU": 16, "GPU": 4}], 5, ({"num_gpus": 0.5, "num_cpus": 1}, 5)),
    ],
)
def test_the_share_of_a_worker(device: str, nodes: list[dict[str, float]], series: int, expected: object) -> None:
    assert _share(device, nodes, series, workers_per_gpu=4) == expected


def test_workers_per_gpu_are_what_is_asked_for() -> None:
    assert _share("cuda", [{"CPU": 16, "GPU": 1}], 1000, workers_per_gpu=8) == ({"num_gpus": 0.125, "num_cpus": 1}, 8)
    assert _share("cuda", [{"CPU": 16, "GPU": 1}], 1000, workers_per_gpu=1) == ({"num_gpus": 1, "num_cpus": 1}, 1)


def test_every_node_gets_the_same_device_and_precision() -> None:
    with_gpus, without = {"CPU": 8, "GPU": 2}, {"CPU": 8}
    spec = _for_all_nodes(DenoiserSpec("m"), with_gpus)
    assert (spec.device, spec.precision) == ("cuda", "bf16")
    assert _for_all_nodes(DenoiserSpec("m", device="cpu"), with_gpus).device == "cpu"
    assert _for_all_nodes(DenoiserSpec("m"), without).device == "cpu"
    assert _for_all_nodes(DenoiserSpec("m", precision="fp32"), with_gpus).precision == "fp32"
    with pytest.raises(ConfigError, match="no GPU in the Ray cluster"):
        _for_all_nodes(DenoiserSpec("m", device="cuda"), without)
    with pytest.raises(ConfigError, match="must be auto, cpu or cuda"):
        _for_all_nodes(DenoiserSpec("m", device="cuda:1"), with_gpus)


class TestANodeThat:
    """A worker in this process stands for one on another node."""

    def test_does_not_see_the_source(self, chosen: tuple[Series, ...], export: Path, tmp_path: Path) -> None:
        shutil.rmtree(export)
        message = self._message(chosen, tmp_path)
        assert "does not see its files" in message
        assert "TMPDIR" in message

    def test_has_another_version(self, chosen: tuple[Series, ...], tmp_path: Path) -> None:
        assert "expected 0.0 as here" in self._message(chosen, tmp_path, version="0.0")

    def test_lacks_the_model(self, chosen: tuple[Series, ...], tmp_path: Path) -> None:
        assert "unknown model" in self._message(chosen, tmp_path)

    def test_meets_a_bug(self, chosen: tuple[Series, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: object) -> None:
            raise KeyError(MARK)

        monkeypatch.setattr(DenoiserSpec, "load", broken)
        message = self._message(chosen, tmp_path)
        assert "KeyError in its worker (test_ray_engine.py, line" in message
        assert MARK not in message

    def test_writes_to_a_disk_of_its_own(self, tmp_path: Path) -> None:
        result = _seen_from_here(SeriesResult("1.2", 3, derived="1.2.3"), SeriesJob(tmp_path, 0.5))
        assert result.status == "failed"
        assert "a disk of its own" in result.message

    @staticmethod
    def _message(chosen: tuple[Series, ...], tmp_path: Path, version: str | None = None) -> str:
        from ctclip import __version__

        worker = _Worker(DenoiserSpec("nope"), version or __version__, Path.cwd())
        result = worker.denoise(chosen[0], SeriesJob(tmp_path / "out", 0.5))
        assert result.status == "failed"
        return result.message


def test_no_worker_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers_per_gpu must be at least 1, found 0"):
        denoise_on_ray([], SeriesJob(tmp_path, strength=1.0), DenoiserSpec("ct-compact"), print, workers_per_gpu=0)
