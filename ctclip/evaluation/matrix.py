"""Generalisation matrix: every method on every kind of noise at every dose, on any CT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from ctclip.data.scans import paths_of, read_scan
from ctclip.data.sources import find_items
from ctclip.data.volumes import Volume, is_volume_file
from ctclip.dicom import acquisition_of, printable_kernel
from ctclip.errors import DataError, SeriesError
from ctclip.evaluation.methods import Method
from ctclip.metrics.image import image_quality, is_constant
from ctclip.report.matrix import Cell, Condition
from ctclip.simulation import NoiseSimulator
from ctclip.units import HUWindow

FULL_DOSE = 1.0
"""The scan as it is, without added noise: what a method changes there is its harm."""

MatrixProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TestScan:
    """Slices that noise is added to.

    Args:
        label: number, kernel, and thickness of the slices or, where it is not known, their step; no patient data.
        slices_hu: (slices, rows, columns).
        pixel_mm: side of a pixel.
    """

    __test__ = False  # not a test of pytest's

    label: str
    slices_hu: np.ndarray
    pixel_mm: float


def conditions(domains: Sequence[str], textures: Sequence[str], doses: Sequence[float]) -> list[Condition]:
    """All combinations; full dose only once, since nothing is added there. White noise has no texture."""
    found = [Condition("", "", FULL_DOSE)] if FULL_DOSE in doses else []
    for domain, texture, dose in product(domains, textures, sorted(set(doses) - {FULL_DOSE}, reverse=True)):
        condition = Condition(domain, "" if domain == "white" else texture, dose)
        if condition not in found:
            found.append(condition)
    return found


def find_scans(data: Path, slices: int) -> tuple[list[TestScan], list[str]]:
    """The middle slices of every scan in a folder or list, see :func:`~ctclip.data.sources.find_items`.

    Args:
        data: folder or list; of pairs, the full dose is used.
        slices: neighbouring ones of each scan.

    Returns:
        the scans, and one line for each that is left out.

    Raises:
        DataError: when no scan can be read.
    """
    scans: list[TestScan] = []
    problems: list[str] = []
    for number, item in enumerate(find_items(data), start=1):
        paths = paths_of(item["label" if "label" in item else "image"])
        try:
            scans.append(_read(paths, number, slices))
        except (DataError, SeriesError) as error:
            problems.append(f"scan {number} left out: {error}")
    if not scans:
        raise DataError(f"no scan can be used: {problems[0]}")
    return scans, problems


def _read(paths: Sequence[Path], number: int, slices: int) -> TestScan:
    if is_volume_file(paths[0]):
        volume = read_scan(paths)
        hu, parts = volume.hu[_middle(len(volume.hu), slices)], [_step(volume)]
    else:
        volume = read_scan(paths[_middle(len(paths), slices)])
        acquired, hu = acquisition_of(paths[0]), volume.hu
        thickness = f"{acquired.SliceThickness:.3g} mm thick" if acquired.SliceThickness else ""
        step = _step(volume) if len(hu) > 1 else ""  # that of a single slice is a guess
        parts = [printable_kernel(acquired.ConvolutionKernel), thickness or step]
    return TestScan(", ".join([f"scan {number}", *filter(None, parts)]), hu, volume.pixel_mm)


def _step(volume: Volume) -> str:
    return f"step {float(np.linalg.norm(volume.affine[:3, 2])):.3g} mm"


def _middle(length: int, count: int) -> slice:
    first = max(0, (length - count) // 2)
    return slice(first, first + count)


def run_matrix(
    scans: Sequence[TestScan],
    methods: Sequence[Method],
    found: Sequence[Condition],
    window: HUWindow,
    seeds: Iterable[int],
    progress: MatrixProgress | None = None,
) -> tuple[list[Cell], list[str]]:
    """Add noise, denoise, compare with the scan as it was.

    Args:
        scans: from :func:`find_scans`.
        methods: what to judge; the identity should be among them. Those that are results of another tool are left out.
        found: from :func:`conditions`.
        window: of the metrics; slices of one value in it, such as air alone, are left out.
        seeds: of the noise; full dose is measured once.
        progress: called with a text, the pieces of work done and their number.

    Returns:
        one cell per method, scan, condition and seed, and one line for each scan that a condition does not fit, and for
        each result that has another shape or is not finite.
    """
    cells: list[Cell] = []
    problems: list[str] = []
    seeds, runnable = list(seeds), [each for each in methods if each.denoise is not None]
    work = [(scan, condition) for scan in scans for condition in found]
    for place, (scan, condition) in enumerate(work):
        where = f"{scan.label}, {condition.noise} at dose {condition.dose:g}"
        shown = ~is_constant(scan.slices_hu, window)
        try:
            if not shown.any():
                raise DataError(
                    f"its slices show a single value in the window {list(window)} HU; give another --window"
                )
            simulator = _simulator(scan, condition)
            for seed in seeds[:1] if simulator is None else seeds:
                if progress:
                    progress(f"{scan.label} {condition.domain} {condition.dose:g}", place, len(work))
                noisy_hu = replace(simulator, seed=seed).low_dose(scan.slices_hu) if simulator else scan.slices_hu
                for method in runnable:
                    try:
                        denoised_hu = method.apply(noisy_hu)
                    except DataError as error:
                        problems.append(f"{where}, seed {seed}, {method.name} left out: {error}")
                        continue
                    quality = image_quality(denoised_hu[shown], scan.slices_hu[shown], window)
                    cells.append(Cell(method.name, scan.label, condition, seed, quality))
        except DataError as error:
            problems.append(f"{where}: {error}")
    if progress:
        progress("measured", len(work), len(work))
    return cells, problems


def _simulator(scan: TestScan, condition: Condition) -> NoiseSimulator | None:
    """Calibrated on the scan; ``None`` where nothing is added."""
    if condition.dose == FULL_DOSE:
        return None
    simulator = NoiseSimulator(condition.domain, condition.texture or "standard", scan.pixel_mm)
    return simulator.for_dose(list(scan.slices_hu), condition.dose)
