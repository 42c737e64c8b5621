"""DICOM in to DICOM out, against the network alone on the same slices."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

from benchmarks.baseline import ours_with_weights_of, published_network
from benchmarks.forms import backends, precisions
from benchmarks.phantom_slices import noisy_slices_hu, unit_images, write_series
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, Settings
from benchmarks.timing import Call, interleaved, ratio, spread
from ctclip.backend import COMPILED
from ctclip.memory import keep_freed_memory

if TYPE_CHECKING:
    import torch

    from ctclip import Denoiser
    from ctclip.networks import Network

logger = logging.getLogger(__name__)

FILES, ARRAYS, NETWORK = "DICOM to DICOM", "HU to HU", "network alone"


def end_to_end(settings: Settings) -> Case:
    """Time a series through the whole pipeline, through the denoiser alone and through the network alone."""
    from ctclip import Denoiser

    keep_freed_memory()  # as the command does
    rows: list[Row] = []
    measured = [backend for backend in backends(settings.device) if backend != COMPILED]
    networks = _networks(settings.device)
    with TemporaryDirectory() as folder:
        write_series(Path(folder) / "one", 1)
        write_series(Path(folder) / "all", settings.slices)
        for name, precision, backend in product(networks, precisions(settings.device), measured):
            form = f"{name}: {precision}, {backend}"
            logger.info("  %s", form)
            denoiser = Denoiser(networks[name](), device=settings.device, precision=precision, backend=backend)
            for warm_up in _candidates(denoiser, Path(folder), "one", 1, settings).values():
                warm_up()
            candidates = _candidates(denoiser, Path(folder), "all", settings.slices, settings)
            seconds = interleaved(candidates, repeats=settings.repeats, device=settings.device)
            rows += _rows(form, seconds, settings.slices)
    return Case(f"End to end, {settings.slices} slices", _note(settings), rows)


def _networks(device: str) -> dict[str, Callable[[], Network]]:
    """How to get each; the paper's widths, with random weights, only on a GPU: a CPU would take too long."""
    from ctclip import load_network

    networks: dict[str, Callable[[], Network]] = {"ct-compact": partial(load_network, "ct-compact")}
    if device == "cuda":
        networks["paper's widths"] = lambda: ours_with_weights_of(published_network())
    return networks


def _candidates(denoiser: Denoiser, folder: Path, name: str, slices: int, settings: Settings) -> dict[str, Call]:
    slices_hu = noisy_slices_hu(slices)
    batches = unit_images(slices).split(settings.batch)
    return {
        FILES: lambda: denoise_export(folder / name, Path(mkdtemp(dir=folder)) / name, denoiser),
        ARRAYS: lambda: [*denoiser.denoise_slices(slices_hu)],
        NETWORK: lambda: [*denoiser.passes.map(partial(run_network, denoiser), batches)],
    }


def denoise_export(source: Path, target: Path, denoiser: Denoiser) -> None:
    """What ``ctclip denoise`` does once the model is loaded: scan, read, denoise, measure, write.

    Raises:
        RuntimeError: when the series could not be denoised.
    """
    from ctclip.dicom import scan
    from ctclip.pipeline import SeriesJob, choose_series, denoise_series

    found = scan(source)
    job = SeriesJob(target, strength=1.0)
    for series in choose_series(found, []):
        result = denoise_series(series, job, denoiser)
        if result.status != "done":
            raise RuntimeError(f"the phantom was not denoised: {result.message}")


def run_network(denoiser: Denoiser, images: torch.Tensor) -> torch.Tensor:
    """The denoiser's network on (B, 1, H, W) in [0, 1], in the denoiser's precision."""
    from ctclip.inferers import predict_stacks

    with denoiser.passes.one():
        return predict_stacks(images, denoiser.network, device=denoiser.device)


def _rows(how: str, seconds: dict[str, list[float]], slices: int) -> list[Row]:
    rows: list[Row] = []
    for name, values in seconds.items():
        longer, network_share = ratio(values, seconds[NETWORK]), ratio(seconds[NETWORK], values)
        rows.append(
            {
                "form": how,
                "what": name,
                "ms/slice": 1e3 * spread(values).median / slices,
                "times as long as the network": longer.median,
                "lowest": longer.low,
                "highest": longer.high,
                "share beside the network %": 100 * (1 - network_share.median),
            }
        )
    return rows


def _note(settings: Settings) -> str:
    return (
        f"Slices of {IMAGE_SIZE}x{IMAGE_SIZE}, in one process with the model loaded; median of "
        f"{settings.repeats} rounds. {FILES} scans the folder, reads, denoises, measures the noise and writes; "
        f"{ARRAYS} is `Denoiser.denoise_slices`: scaling, network, scaling back."
    )
