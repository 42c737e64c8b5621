"""Many series over the CPUs and GPUs of a Ray cluster; the results are those of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ctclip.dicom import Series
from ctclip.errors import ConfigError
from ctclip.pipeline.job import DenoiserSpec, SeriesJob, SeriesResult
from ctclip.pipeline.series import denoise_series

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser

RETRIES = 2
"""Of a series whose worker died; a bad slice fails it at once."""


def denoise_on_ray(
    chosen: Sequence[Series], job: SeriesJob, spec: DenoiserSpec, series_done: Callable[[SeriesResult], None]
) -> list[SeriesResult]:
    """Denoise each series in a worker of the cluster, which reads and writes the files itself.

    The cluster is the one that ``RAY_ADDRESS`` names or that runs on this machine; without any, the workers are
    processes of this machine. Every node must see the source and the target under the same paths.

    Args:
        chosen: series of a scan.
        job: where to, and how.
        spec: what each worker loads, once.
        series_done: called after every series, in the order in which they finish.

    Returns:
        one result per series, in their order.

    Raises:
        ConfigError: when the package ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs the package ray: pip install 'ctclip[ray]'") from error
    results: dict[int, SeriesResult] = {}
    with _cluster(ray):
        task = ray.remote(_denoise_in_worker).options(max_retries=RETRIES, **_share_of(ray, len(chosen)))
        waiting = {task.remote(series, job, spec): index for index, series in enumerate(chosen)}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(done)
            results[index] = _result_of(ray, done, chosen[index])
            series_done(results[index])
    return [results[index] for index in range(len(chosen))]


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to the cluster, which is ended only when it was made here."""
    if ray.is_initialized():
        yield
        return
    ray.init(logging_level="ERROR", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _share_of(ray: Any, count: int) -> dict[str, float]:
    """What of the cluster one of ``count`` series gets: a GPU, or an equal part of the CPUs of a node."""
    resources = ray.cluster_resources()
    if resources.get("GPU", 0) >= 1:
        return {"num_gpus": 1}
    largest_node = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return {"num_cpus": max(1, min(largest_node, int(resources.get("CPU", 1) // count)))}


def _result_of(ray: Any, done: Any, series: Series) -> SeriesResult:
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        reason = f"its worker failed ({type(error).__name__}), {RETRIES} retries included"
        return SeriesResult(series.uid, series.slice_count, "failed", reason)


def _denoise_in_worker(series: Series, job: SeriesJob, spec: DenoiserSpec) -> SeriesResult:
    return denoise_series(series, job, _denoiser(spec))


@lru_cache(maxsize=1)
def _denoiser(spec: DenoiserSpec) -> Denoiser:
    return spec.load()
