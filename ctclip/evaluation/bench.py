"""A physics bench: what a method does to a phantom with known edges, known lesions and the noise of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ctclip.errors import DataError
from ctclip.evaluation.methods import DenoiseVolume, Method
from ctclip.metrics.detectability import channelized_hotelling, laguerre_gauss_channels
from ctclip.metrics.noise import NO_VARIANCE_HU2
from ctclip.metrics.nps import RadialNPS, noise_power_spectrum_of_repeats, radial_nps
from ctclip.metrics.ttf import TaskTransfer, task_transfer_function
from ctclip.simulation.correlated import correlated_noise
from ctclip.transforms.lesions import ellipse_cover
from ctclip.units import AIR_HU

SIZE_PX, PIXEL_MM = 256, 0.75
"""A body of 17 cm on the pixels of a field of view of 38 cm at 512."""

BODY_RADIUS_PX, BODY_HU = 115.0, 50.0
REPEATS, ROD_REPEATS = 12, 24
"""Noisy copies of the phantoms with and without lesions, and of the one with rods, whose edges need more averaging."""

ROD_CONTRASTS_HU = (1000.0, 300.0, 100.0)
ROD_RADIUS_PX, ROD_RING_PX = 14.0, 55.0

LESION_CONTRAST_HU, LESION_RADIUS_PX = 20.0, 3.5
"""A lesion of 5 mm, 20 HU above its surroundings: faint in the noise of low dose, visible at full dose."""

LESION_PITCH_PX, LESIONS_WITHIN_PX = 26, 92
ROI_PX = 25
"""Side of the cut-outs around lesions."""

NOISE_MEASURE = (
    "the median of the low-dose scans (20th percentile of the local SD in soft tissue, as ctclip inspect measures it; "
    "the noise SD of the summary is the root mean square of what lies below it)"
)
"""What the noise of a scan is, for the settings of a report."""

NPS_SIDE_PX = 128
"""Side of the square in the middle of the body whose noise is measured."""


@dataclass(frozen=True)
class BenchResult:
    """What was measured on the phantom.

    Args:
        nps: of the noise that is left in the lesion-free phantom.
        noise_sd_hu: its SD.
        ttf: by contrast in HU; a rod that drowns in noise is missing.
        dprime: detectability of the lesion.
    """

    nps: RadialNPS
    noise_sd_hu: float
    ttf: dict[float, TaskTransfer]
    dprime: float


@dataclass(frozen=True)
class Bench:
    """What was measured on the phantom, or why nothing was.

    Args:
        results: by method.
        remark: for the settings of a report.
        problems: what is wrong with the data or with what a method made of the phantom, one line each.
    """

    results: dict[str, BenchResult] = field(default_factory=dict)
    remark: str = ""
    problems: tuple[str, ...] = ()


def bench_methods(
    methods: Sequence[Method],
    noise_sd_hu: float,
    *,
    seed: int = 0,
    progress: Callable[[str, float, float], None] | None = None,
) -> Bench:
    """Measure all methods that can be run, with the noise of the data, if that is known and there is any.

    Args:
        methods: those that are results of another tool are left out.
        noise_sd_hu: of the low-dose scans; NaN when it is not known.
        seed: of the phantom's noise.
        progress: called with a text, the methods done and their number.
    """
    if not math.isfinite(noise_sd_hu):
        return Bench(remark="left out: no scan holds enough soft tissue to measure its noise, or it holds no noise")
    if noise_sd_hu**2 <= NO_VARIANCE_HU2:
        problem = (
            "physics left out: the low-dose scans hold no noise (median SD 0 HU), expected that of a low dose; check "
            "the data"
        )
        return Bench(remark="left out: the low-dose scans hold no noise", problems=(problem,))
    runnable = [each for each in methods if each.denoise is not None]
    results = {}
    problems = []
    for number, method in enumerate(runnable):
        if progress:
            progress(f"phantom {method.name}", number, len(runnable))
        try:
            results[method.name] = run_bench(method.apply, noise_sd_hu, seed=seed)
        except DataError as error:
            problems.append(f"phantom, {method.name} left out: {error}")
        if progress:
            progress(f"phantom {method.name}", number + 1, len(runnable))
    return Bench(results, f"phantom with {noise_sd_hu:.1f} HU of noise, {NOISE_MEASURE}", tuple(problems))


def run_bench(denoise: DenoiseVolume, sd_hu: float, *, seed: int = 0) -> BenchResult:
    """Denoise the phantoms and measure the results.

    Args:
        denoise: the method; for the identity the result describes the input.
        sd_hu: SD of the noise, of the texture of standard kernels.
        seed: of the noise.
    """
    absent = denoise(_noisy(_body(), REPEATS, sd_hu, seed))
    present = denoise(_noisy(_body() + _lesions(), REPEATS, sd_hu, seed + 1))
    rods = denoise(_noisy(_rods(), ROD_REPEATS, sd_hu, seed + 2))
    middle = slice((SIZE_PX - NPS_SIDE_PX) // 2, (SIZE_PX + NPS_SIDE_PX) // 2)
    square = absent[:, middle, middle]
    with_lesion, without = _cut_out(present), _cut_out(absent)
    channels = laguerre_gauss_channels(ROI_PX, 3 * LESION_RADIUS_PX)
    return BenchResult(
        nps=radial_nps(noise_power_spectrum_of_repeats(square, PIXEL_MM), PIXEL_MM),
        noise_sd_hu=float(np.sqrt(square.var(axis=0, ddof=1).mean())),
        ttf=_transfer_functions(rods),
        dprime=channelized_hotelling(with_lesion, without, channels),
    )


def _noisy(image_hu: np.ndarray, repeats: int, sd_hu: float, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    noise = correlated_noise((repeats, *image_hu.shape), generator=generator).numpy()
    return (image_hu + sd_hu * noise).astype(np.float32)


def _disc(centre: tuple[float, float], radius_px: float) -> np.ndarray:
    return ellipse_cover((SIZE_PX, SIZE_PX), centre, (radius_px, radius_px), 0)


def _body() -> np.ndarray:
    middle = (SIZE_PX - 1) / 2
    return AIR_HU + (BODY_HU - AIR_HU) * _disc((middle, middle), BODY_RADIUS_PX)


def _lesion_centres() -> list[tuple[int, int]]:
    """Places on a grid inside the body."""
    steps = range(-LESIONS_WITHIN_PX, LESIONS_WITHIN_PX + 1, LESION_PITCH_PX)
    half = SIZE_PX // 2
    return [(half + y, half + x) for y in steps for x in steps if np.hypot(y, x) <= LESIONS_WITHIN_PX]


def _lesions() -> np.ndarray:
    covers = (_disc(centre, LESION_RADIUS_PX) for centre in _lesion_centres())
    return LESION_CONTRAST_HU * np.sum(list(covers), axis=0)


def _cut_out(images_hu: np.ndarray) -> np.ndarray:
    half = ROI_PX // 2
    return np.concatenate(
        [images_hu[:, y - half : y + half + 1, x - half : x + half + 1] for y, x in _lesion_centres()]
    )


def _rod_centres() -> list[tuple[float, float]]:
    middle = (SIZE_PX - 1) / 2
    angles = 2 * np.pi * np.arange(len(ROD_CONTRASTS_HU)) / len(ROD_CONTRASTS_HU)
    # off the pixel grid, so that the edge is sampled at every phase
    return [(middle + ROD_RING_PX * np.sin(a) + 0.3, middle + ROD_RING_PX * np.cos(a) + 0.2) for a in angles]


def _rods() -> np.ndarray:
    image = _body()
    for contrast_hu, centre in zip(ROD_CONTRASTS_HU, _rod_centres(), strict=True):
        image += contrast_hu * _disc(centre, ROD_RADIUS_PX)
    return image


def _transfer_functions(images_hu: np.ndarray) -> dict[float, TaskTransfer]:
    found = {}
    for contrast_hu, centre in zip(ROD_CONTRASTS_HU, _rod_centres(), strict=True):
        try:
            found[contrast_hu] = task_transfer_function(images_hu, centre, ROD_RADIUS_PX, PIXEL_MM)
        except DataError:  # drowned in noise or erased: an empty cell in the report
            continue
    return found
