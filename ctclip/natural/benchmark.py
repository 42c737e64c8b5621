"""The grid of methods, image sets and noise: every cell measured once, kept on disk, and never measured again."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import groupby, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ctclip import __version__
from ctclip.atomic import atomic_path
from ctclip.errors import DataError
from ctclip.files import make_folder
from ctclip.metrics.image import SSIM_LEAST_PX
from ctclip.natural.methods import BM3D, MethodSpec, make_method
from ctclip.natural.noise import SEED, Noise
from ctclip.natural.noise_level import MIN_SIDE_PX
from ctclip.natural.sets import ImageSet, read_image
from ctclip.report.records import json_text, write_records

PROTOCOL = 2
"""Version of what is measured and of what the adaptation to the noise makes of an image (``adaptive`` and the modules
that it uses). To be raised with every change of the figures: cells of another one are measured again."""

SSIM_SIGMA_PX = 1.5
"""SD of SSIM's Gaussian weight (11 pixels), over the region where it lies inside the image."""

REAL = "real"
"""The noise of sets of pairs."""


@dataclass(frozen=True)
class Cell:
    """One measurement to make.

    Args:
        method: what denoises.
        images: the set.
        noise: what is added; ``None`` for the set's own noise.
        batch_size: images of one size that are denoised together.
    """

    method: MethodSpec
    images: ImageSet
    noise: Noise | None
    batch_size: int = 1

    @property
    def noise_name(self) -> str:
        """For tables and files."""
        return str(self.noise) if self.noise else REAL

    def key(self) -> str:
        """What the result depends on: the protocol, the weights, the settings and the content of every image."""
        method = make_method(self.method)
        digest = hashlib.sha256(f"{PROTOCOL} {method.sha256} {method.description} {self.noise_name}".encode())
        for path in (*self.images.clean, *self.images.noisy):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class CellResult:
    """PSNR and SSIM of every image of a cell, range 1, values clipped to [0, 1].

    Args:
        method: the label.
        set: name of the image set.
        family: of the noise, or "real".
        level: of the noise; 0 for real noise.
        psnr_db: of every image.
        ssim: of every image.
        input_psnr_db: of every noisy image.
    """

    method: str
    set: str
    family: str
    level: float
    psnr_db: tuple[float, ...]
    ssim: tuple[float, ...]
    input_psnr_db: tuple[float, ...]

    def row(self) -> dict[str, Any]:
        """The means, for tables."""
        return {
            "set": self.set,
            "images": len(self.psnr_db),
            "family": self.family,
            "level": self.level,
            "method": self.method,
            "psnr_db": float(np.mean(self.psnr_db)),
            "ssim": float(np.mean(self.ssim)),
            "input_psnr_db": float(np.mean(self.input_psnr_db)),
        }


def run_cells(
    cells: Sequence[Cell], folder: Path, *, workers: int = 1, cell_done: Callable[[CellResult], None] | None = None
) -> list[CellResult]:
    """Measure the cells that are not in ``folder`` yet.

    Args:
        cells: the grid.
        folder: where every finished cell is kept, so that an interrupted run goes on where it stopped.
        workers: processes; more than one is for CPUs, which they share.
        cell_done: called after every cell, in the order in which they finish.

    Returns:
        one result per cell, in their order.

    Raises:
        DataError: see :func:`require_usable`; before anything is measured.
    """
    require_usable(cells)
    make_folder(folder)
    results: dict[int, CellResult] = {}

    def keep(index: int, result: CellResult) -> None:
        results[index] = result
        if cell_done:
            cell_done(result)

    if workers <= 1:
        for index, cell in enumerate(cells):
            keep(index, _cached(cell, folder))
        return [results[index] for index in range(len(cells))]
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_use_threads, initargs=(threads,)) as pool:
        waiting = {pool.submit(_cached, cell, folder): index for index, cell in enumerate(cells)}
        try:
            for done in as_completed(waiting):
                keep(waiting[done], done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[index] for index in range(len(cells))]


def require_usable(cells: Sequence[Cell]) -> None:
    """Read every image once, so that one that cannot be measured shows now and not after hours.

    Raises:
        DataError: when an image cannot be read, is too small, differs in its size from its noisy partner, or equals it.
    """
    for images in dict.fromkeys(cell.images for cell in cells):
        least_px = max(_least_side(cell.method) for cell in cells if cell.images == images)
        for path, noisy in zip_longest(images.clean, images.noisy):
            clean = read_image(path)
            rows, columns = clean.shape[:2]
            if min(rows, columns) < least_px:
                raise DataError(
                    f"{path.name} of {images.name} has {rows} x {columns} pixels, expected {least_px} at least"
                )
            if noisy is not None:
                partner = read_image(noisy)
                _require_equal(path, clean.shape, partner.shape)
                _require_noise(path, clean, partner)


def _least_side(method: MethodSpec) -> int:
    """For SSIM, and where a filter is told of the noise."""
    return MIN_SIDE_PX if method.name == BM3D and not method.is_model else SSIM_LEAST_PX


def measure(cell: Cell) -> CellResult:
    """Denoise every image of a cell and compare it with the clean one.

    Raises:
        DataError: for a method whose result is not finite.
    """
    method = make_method(cell.method)
    psnr_db: list[float] = []
    ssim: list[float] = []
    before_db: list[float] = []
    for clean, noisy in _batches(cell):
        for reference, low, denoised in zip(clean, noisy, method.denoise(noisy), strict=True):
            if not np.isfinite(denoised).all():
                raise DataError(
                    f"{cell.method.label} gives values that are not finite numbers under {cell.noise_name} noise; "
                    "leave out the method or the noise"
                )
            quality = photograph_quality(denoised, reference, rounded=cell.noise is None)
            psnr_db.append(quality[0])
            ssim.append(quality[1])
            before_db.append(psnr(low, reference))
    family, level = (cell.noise.family, cell.noise.level) if cell.noise else (REAL, 0.0)
    return CellResult(cell.method.label, cell.images.name, family, level, tuple(psnr_db), tuple(ssim), tuple(before_db))


def photograph_quality(image: np.ndarray, reference: np.ndarray, *, rounded: bool = False) -> tuple[float, float]:
    """PSNR in dB and SSIM of (rows, columns, channels) in [0, 1]; the image is clipped to it first.

    Args:
        image: what is judged.
        reference: the clean image.
        rounded: to 8 bits first, as the published tests on real noise do.

    Raises:
        DataError: for an image that is smaller than the window of SSIM.
    """
    from skimage.metrics import structural_similarity

    image = np.clip(image, 0, 1).astype(np.float64)
    if rounded:  # both as float32, which images are read as, so that equal values are equal
        image, reference = (np.round(image * 255) / 255).astype(np.float32), reference.astype(np.float32)
    image, reference = image.astype(np.float64), reference.astype(np.float64)
    if min(reference.shape[:2]) < SSIM_LEAST_PX:
        rows, columns = reference.shape[:2]
        raise DataError(f"an image of {rows} x {columns} is too small for SSIM; expected {SSIM_LEAST_PX} at least each")
    ssim = structural_similarity(
        reference,
        image,
        data_range=1.0,
        gaussian_weights=True,
        sigma=SSIM_SIGMA_PX,
        use_sample_covariance=False,
        channel_axis=-1,
    )
    return psnr(image, reference), float(ssim)


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB, range 1, of an image that is clipped to [0, 1] first; infinite for equal ones."""
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        clipped = np.clip(image, 0, 1).astype(np.float64)
        return float(peak_signal_noise_ratio(reference.astype(np.float64), clipped, data_range=1.0))


def write_results(results: Sequence[CellResult], cells: Sequence[Cell], folder: Path) -> None:
    """``results.csv`` with the means and ``results.json`` with every image and the methods; null is infinite."""
    with atomic_path(folder / "results.csv") as partial:
        write_records(partial, [result.row() for result in results])
    methods = {spec.label: make_method(spec) for spec in dict.fromkeys(cell.method for cell in cells)}
    document = {
        "ctclip": __version__,
        "protocol": {
            "version": PROTOCOL,
            "psnr": "range 1, values clipped to [0, 1]; rounded to 8 bits for real noise only",
            "ssim": f"Gaussian weight of {SSIM_SIGMA_PX} px, mean over channels",
            "noise": f"NumPy's legacy generator, seed {SEED} before every image",
        },
        "methods": {
            label: {"description": method.description, "sha256": method.sha256} for label, method in methods.items()
        },
        "cells": [asdict(result) for result in results],
    }
    with atomic_path(folder / "results.json") as partial:
        partial.write_text(json_text(document), encoding="utf-8")


def _batches(cell: Cell) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clean and noisy images, (images, rows, columns, channels), of one size each."""
    pairs = groupby(_pairs(cell), key=lambda pair: pair[0].shape)
    for _, same_size in pairs:
        batch = []
        for pair in same_size:
            batch.append(pair)
            if len(batch) == cell.batch_size:
                yield _stacked(batch)
                batch = []
        if batch:
            yield _stacked(batch)


def _stacked(batch: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    clean, noisy = zip(*batch, strict=True)
    return np.stack(clean), np.stack(noisy)


def _pairs(cell: Cell) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index, path in enumerate(cell.images.clean):
        clean = read_image(path)
        noisy = cell.noise.add_to(clean) if cell.noise else read_image(cell.images.noisy[index])
        _require_equal(path, clean.shape, noisy.shape)
        yield clean, noisy


def _require_equal(path: Path, clean: tuple[int, ...], noisy: tuple[int, ...]) -> None:
    if noisy != clean:
        raise DataError(f"{path.name} has {clean}, its noisy partner {noisy}; expected equal sizes")


def _require_noise(path: Path, clean: np.ndarray, noisy: np.ndarray) -> None:
    if np.array_equal(clean, noisy):
        raise DataError(
            f"{path.name} equals its noisy partner in every pixel, expected noise: the PSNR would be infinite; give "
            "the noisy image, or take out the pair"
        )


def _cached(cell: Cell, folder: Path) -> CellResult:
    path = folder / f"{cell.key()}.json"
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        # Labels and set names are the caller's; the key says that the numbers are the same.
        values |= {"method": cell.method.label, "set": cell.images.name}
        # JSON knows no infinity, which is the PSNR of equal images; nothing else that is measured is infinite.
        lists = {
            name: tuple(math.inf if value is None else value for value in values[name])
            for name in ("psnr_db", "ssim", "input_psnr_db")
        }
        return CellResult(**{**values, **lists})
    result = measure(cell)
    with atomic_path(path) as partial:
        partial.write_text(json_text(asdict(result)), encoding="utf-8")
    return result


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
