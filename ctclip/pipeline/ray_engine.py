"""Many series over the CPUs and GPUs of a Ray cluster; the results are those of one process."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from ctclip import __version__
from ctclip.atomic import clean_up, missing_folders, remove_empty
from ctclip.dicom import Series
from ctclip.errors import ConfigError, CtclipError, one_line
from ctclip.memory import keep_freed_memory
from ctclip.pipeline.job import DenoiserSpec, SeriesJob, SeriesResult
from ctclip.pipeline.series import denoise_series, derived_folder
from ctclip.settings import WORKERS_PER_GPU

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser

RETRIES = 2
"""Of a series whose worker died; a bad slice fails it at once."""

ENDING_S = 10.0
"""How long a run that is told to end waits for its workers, which are killed, to be gone."""

SHARED_FOLDERS = (
    "source and target must lie on a file system that all nodes share, and so must TMPDIR, where zip files and "
    "Enhanced CT are unpacked"
)


def denoise_on_ray(
    chosen: Sequence[Series],
    job: SeriesJob,
    spec: DenoiserSpec,
    series_done: Callable[[SeriesResult], None],
    *,
    workers_per_gpu: int = WORKERS_PER_GPU,
) -> list[SeriesResult]:
    """Denoise each series in a worker of the cluster, which reads and writes the files itself.

    The cluster is the one that ``RAY_ADDRESS`` names or that runs on this machine; without any, the workers are
    processes of this machine. Every node must see source and target under the same paths and have the same ctclip.
    Device and precision are chosen once for all of them, so that nothing depends on the node that a series meets.

    Args:
        chosen: series of a scan.
        job: where to, and how.
        spec: what each worker loads, once.
        series_done: called after every series, in the order in which they finish.
        workers_per_gpu: at most; 1 or more.

    Returns:
        one result per series, in their order; a failure is a result too, also that of a worker that dies again and
        again.

    Raises:
        ConfigError: when the package ray is missing, the cluster cannot be reached, or it lacks the device, and for
            ``workers_per_gpu`` below 1.
    """
    if workers_per_gpu < 1:
        raise ConfigError(f"workers_per_gpu must be at least 1, found {workers_per_gpu}")
    found = {}
    with (
        _cluster() as ray,
        closing(_results(ray, chosen, job, _for_all_nodes(spec, ray.cluster_resources()), workers_per_gpu)) as results,
    ):
        for result in results:
            found[result.source] = result
            series_done(result)
    return [found[series.uid] for series in chosen]


@contextmanager
def _cluster() -> Iterator[Any]:
    """The module ray, connected to a cluster; the connection is ended only when it was made here."""
    # Read when Ray starts a cluster; one that is already there has its own setting.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" in os.environ:
        # An address that nobody answers at is reported after a minute instead of a quarter of an hour.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs the package ray: pip install 'ctclip[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    try:
        with _same_signal_handlers():
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"no Ray cluster ({reason}); check RAY_ADDRESS, RAY_AUTH_MODE and 'ray status'") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Put those back that Ray replaces: with its own, SIGTERM ends in a stack trace of C++ and nobody cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # of C, which Python cannot put back
                signal.signal(number, handler)


def _for_all_nodes(spec: DenoiserSpec, resources: dict[str, float]) -> DenoiserSpec:
    """The same with device and precision spelt out: "auto" would mean something else on every node."""
    import torch

    from ctclip.devices import find_precision

    if spec.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"Ray hands out the GPUs: --device must be auto, cpu or cuda, found {spec.device!r}")
    gpus = resources.get("GPU", 0) >= 1
    if spec.device == "cuda" and not gpus:
        raise ConfigError("there is no GPU in the Ray cluster; try --device cpu")
    device = "cuda" if gpus and spec.device != "cpu" else "cpu"
    return replace(spec, device=device, precision=find_precision(spec.precision, torch.device(device)))


def _share(
    device: str, nodes: Sequence[dict[str, float]], series: int, workers_per_gpu: int
) -> tuple[dict[str, float], int]:
    """What of the cluster one worker gets, as Ray's options, and how many workers there are.

    A CPU each, with a part of a GPU where there are any; more of either only when there are fewer series, as two series
    on a CPU each are done sooner than one after the other on two.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if device == "cuda":
        gpus = [int(node.get("GPU", 0)) for node in nodes]
        on_each = min(workers_per_gpu, ceil(series / sum(gpus)))
        places = sum(min(on_each * own, own_cpus) for own, own_cpus in zip(gpus, cpus, strict=True))
        return {"num_gpus": 1 / on_each, "num_cpus": 1}, max(1, min(series, places))
    each = max(1, min(max(cpus), sum(cpus) // series))
    return {"num_cpus": each}, max(1, min(series, sum(own // each for own in cpus)))


def _results(
    ray: Any, chosen: Sequence[Series], job: SeriesJob, spec: DenoiserSpec, workers_per_gpu: int = WORKERS_PER_GPU
) -> Generator[SeriesResult, None, None]:
    """One result per series, in the order in which they finish."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    share, workers = _share(spec.device, nodes, len(chosen), workers_per_gpu)
    new_worker = partial(ray.remote(_Worker).options(**share).remote, spec, __version__, Path.cwd())
    running: dict[Any, tuple[Series, int, Any, Any]] = {}
    missing = missing_folders(job.target)

    def start(series: Series, deaths: int, worker: Any) -> None:
        # The dead worker may have completed the series, which is then kept, unless it is to be replaced anyhow.
        again = replace(job, resume=job.resume or not job.overwrite)
        folder = worker.folder.remote(series, job)
        running[worker.denoise.remote(series, again if deaths else job)] = series, deaths, worker, folder

    rest = iter(chosen)
    try:
        for series in islice(rest, workers):
            start(series, 0, new_worker())
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            series, deaths, worker, _ = running.pop(done)
            try:
                result = _seen_from_here(ray.get(done), job)
            except ray.exceptions.RayError as error:
                worker = None
                if deaths < RETRIES:
                    start(series, deaths + 1, new_worker())
                    continue
                result = _failed(series, f"its worker died {deaths + 1} times ({type(error).__name__})")
            yield result
            for following in islice(rest, 1):
                start(following, 0, worker or new_worker())
            # Ray ends a worker that nobody refers to: a series whose node was lost may be waiting for its place.
            del worker
    except BaseException:
        _end_workers(ray, running.values())
        remove_empty(missing)
        raise


def _end_workers(ray: Any, running: Collection[tuple[Series, int, Any, Any]]) -> None:
    """Kill the workers that are at work and remove what they have half written."""
    folders = [folder for _, _, _, folder in running]
    known: list[Any] = []
    with suppress(ray.exceptions.RayError):
        known, _ = ray.wait(folders, num_returns=len(folders), timeout=0) if folders else ([], [])
    finals = []
    for folder in known:
        with suppress(ray.exceptions.RayError):  # that worker died before it could tell
            final = ray.get(folder)
            finals += [Path(final)] if final else []
    for _, _, worker, _ in running:
        with suppress(ray.exceptions.RayError):
            ray.kill(worker)
    clean_up(finals, wait_s=ENDING_S)


def _seen_from_here(result: SeriesResult, job: SeriesJob) -> SeriesResult:
    """A failed one when a node has written the series to a disk of its own."""
    if result.status == "done" and not (job.target / result.derived).is_dir():
        result.status, result.message = "failed", f"its node wrote it to a disk of its own: {SHARED_FOLDERS}"
    return result


def _failed(series: Series, reason: str) -> SeriesResult:
    return SeriesResult(series.uid, series.slice_count, "failed", reason)


class _Worker:
    """A process of the cluster that denoises series after series with the network that it has loaded once."""

    def __init__(self, spec: DenoiserSpec, version: str, folder: Path) -> None:
        self._spec, self._version = spec, version
        self._denoiser: Denoiser | None = None
        keep_freed_memory()
        # Relative paths mean those of the command; without the folder they are not found, which is reported.
        with suppress(OSError):
            os.chdir(folder)

    def folder(self, series: Series, job: SeriesJob) -> str:
        """That :meth:`denoise` is going to write; "" when it is going to fail."""
        try:
            return str(derived_folder(series, job, self._loaded(series)))
        except Exception:  # which :meth:`denoise` reports
            return ""

    def denoise(self, series: Series, job: SeriesJob) -> SeriesResult:
        try:
            return denoise_series(series, job, self._loaded(series))
        except (CtclipError, OSError) as error:
            return _failed(series, one_line(error))
        except Exception as error:
            # Ray would log it, with values of headers in its text.
            place = extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            return _failed(series, f"{type(error).__name__} in its worker ({where}); --engine local shows more")

    def _loaded(self, series: Series) -> Denoiser:
        self._check(series)
        self._denoiser = self._denoiser or self._spec.load()
        return self._denoiser

    def _check(self, series: Series) -> None:
        if self._version != __version__:
            raise ConfigError(f"a node has ctclip {__version__}, expected {self._version} as here")
        if not series.slices[0].path.exists():
            raise ConfigError(f"a node does not see its files: {SHARED_FOLDERS}")
