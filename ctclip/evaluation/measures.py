"""What is measured on each slice of a pair, with its window and data range in every name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctclip.metrics.image import is_constant, slice_quality
from ctclip.metrics.noise import NO_VARIANCE_HU2, NoiseComparison, compare_noise
from ctclip.metrics.residual import residual_structure
from ctclip.metrics.tissue import tissue_bias_hu
from ctclip.report.content import Measure
from ctclip.units import MODEL_HU_WINDOW, HUWindow

NOISE_SD = Measure("noise_sd_hu", "HU")
NOISE_CHANGE = Measure("noise_change_percent", "%")
RESIDUAL_STRUCTURE = Measure("residual_structure", "")
"""What is measured without a window, beside the bias of every tissue."""

BIAS = "bias_hu"

UNITS = {"psnr_db": "dB", "ssim": "", "rmse_hu": "HU", "mae_hu": "HU"}

LEGACY_MAX_HU, LEGACY_RANGE_HU = 3096, 4096
"""The published code takes images from [0, 1] back to HU with 3096 in place of 3072, clips them to [-1024, 3072] and
divides by 4096."""


Row = dict[Measure, float]


def windowed(metric: str, window_hu: HUWindow, *, legacy: bool = False) -> Measure:
    """The measure of a metric in a window.

    Args:
        metric: one of :data:`UNITS`.
        window_hu: both images are clipped to it; its width is the data range.
        legacy: by the convention of the published code.
    """
    low, high = window_hu
    name = f"{metric} legacy" if legacy else metric
    return Measure(name, UNITS[metric], f"[{low:g},{high:g}] HU", high - low)


def bias_in(tissue: str) -> Measure:
    """The measure of the bias in a tissue."""
    return Measure(f"{BIAS} {tissue}", "HU")


def tissue_of(measure: Measure) -> str:
    """The tissue whose bias a measure is; "" for any other measure."""
    first, *rest = measure.metric.split()
    return " ".join(rest) if first == BIAS else ""


def measure_slices(
    output_hu: np.ndarray, low_hu: np.ndarray, full_hu: np.ndarray, windows: Sequence[HUWindow], *, legacy: bool = False
) -> list[Row]:
    """All measures of each slice.

    Args:
        output_hu: denoised slices, (slices, rows, columns).
        low_hu: what they were made from.
        full_hu: the reference.
        windows: in which PSNR, SSIM, RMSE and MAE are taken.
        legacy: also by the convention of the published code.

    Returns:
        one row per slice; NaN where a slice holds too little of a tissue, no noise to change, or nothing to measure in
        a window: a reference of one value, such as air alone, or equal to the low dose. Their PSNR would be infinite.
    """
    columns = {}
    for window in windows:
        for metric, values in _quality(output_hu, low_hu, full_hu, window).items():
            columns[windowed(metric, window)] = values
    if legacy:
        quality = _quality(_legacy_hu(output_hu), _legacy_hu(low_hu), _legacy_hu(full_hu), MODEL_HU_WINDOW)
        columns |= {windowed(metric, MODEL_HU_WINDOW, legacy=True): values for metric, values in quality.items()}
    rows: list[Row] = [{measure: float(values[i]) for measure, values in columns.items()} for i in range(len(full_hu))]
    for row, output, low, full in zip(rows, output_hu, low_hu, full_hu, strict=True):
        row.update(_without_window(output, low, full))
    return rows


def says_nothing(low_hu: np.ndarray, full_hu: np.ndarray, window_hu: HUWindow) -> np.ndarray:
    """Which slices of a pair have no image quality in a window: those whose full dose shows a single value there or
    equals the low dose.

    Args:
        low_hu: (slices, rows, columns).
        full_hu: the same shape.
        window_hu: lower and upper end.

    Returns:
        (slices,) bool.
    """
    equal = (np.clip(low_hu, *window_hu) == np.clip(full_hu, *window_hu)).all(axis=(1, 2))
    return is_constant(full_hu, window_hu) | equal


def _quality(output: np.ndarray, low: np.ndarray, full: np.ndarray, window: HUWindow) -> dict[str, np.ndarray]:
    """The same slices count for all methods, so their own results do not decide."""
    nothing = says_nothing(low, full, window)
    return {name: np.where(nothing, np.nan, values) for name, values in slice_quality(output, full, window).items()}


def _without_window(output: np.ndarray, low: np.ndarray, full: np.ndarray) -> Row:
    noise = compare_noise(low, output)
    row = {
        NOISE_SD: noise.after_hu,
        NOISE_CHANGE: _change_percent(noise),
        RESIDUAL_STRUCTURE: residual_structure(low, output, full),
    }
    bias_hu = tissue_bias_hu(output, full)
    return row | {bias_in(tissue): value for tissue, value in bias_hu.items()}


def _change_percent(noise: NoiseComparison) -> float:
    """NaN where there was no noise to change."""
    return 100 * (noise.after_hu / noise.before_hu - 1) if noise.before_hu**2 > NO_VARIANCE_HU2 else float("nan")


def _legacy_hu(hu: np.ndarray) -> np.ndarray:
    low = MODEL_HU_WINDOW[0]
    return (hu - low) / LEGACY_RANGE_HU * (LEGACY_MAX_HU - low) + low
