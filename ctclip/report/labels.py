"""How metrics and numbers are written, and which value is the best."""

from __future__ import annotations

import math
from collections.abc import Callable

from ctclip.report.content import Measure

LABELS = {
    "psnr_db": "PSNR",
    "ssim": "SSIM",
    "rmse_hu": "RMSE",
    "mae_hu": "MAE",
    "noise_sd_hu": "noise SD",
    "noise_change_percent": "noise change",
    "residual_structure": "residual structure",
    "bias_hu": "bias",
}
"""By the first word of a metric; others are shown under their own name."""

DISTANCE_FROM_BEST: dict[str, Callable[[float], float]] = {
    "psnr_db": lambda value: -value,
    "ssim": lambda value: -value,
    "rmse_hu": abs,
    "mae_hu": abs,
    "bias_hu": abs,
}
"""Smallest for the best value, by the first word of a metric. Noise and residual structure are missing: a blur has the
least noise, and the identity leaves no residual."""

DIGITS = {"dB": 2, "HU": 2, "HU/mm": 1, "%": 1}
"""Decimals by unit."""

DIGITS_OF_RATIOS = 3
SMALLEST_P = 0.001
"""Below it only the magnitude matters."""

MISSING = "–"  # noqa: RUF001


def metric_label(measure: Measure) -> str:
    """Such as "PSNR" for "psnr_db" and "bias fat" for "bias_hu fat"."""
    first, *rest = measure.metric.split()
    return " ".join([LABELS.get(first, first), *rest])


def window_label(measure: Measure) -> str:
    """Window and data range in words."""
    if measure.data_range_hu is None:
        return "not clipped to a window"
    return f"{signed(measure.window)}, data range {measure.data_range_hu:g} HU"


def distance_from_best(measure: Measure) -> Callable[[float], float] | None:
    """What is smallest for the best value; ``None`` for a metric that has no best value."""
    return DISTANCE_FROM_BEST.get(measure.metric.split()[0])


def number(value: float, unit: str) -> str:
    """A value with the decimals of its unit, without the unit."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return signed("-∞" if value < 0 else "∞")
    digits = DIGITS.get(unit, DIGITS_OF_RATIOS)
    return signed(f"{round(float(value), digits) + 0:.{digits}f}")  # adding 0 takes the sign from a rounded -0


def between(low: float, high: float, unit: str) -> str:
    """An interval, or "" where it is not known."""
    return "" if math.isnan(low) or math.isnan(high) else f"{number(low, unit)} to {number(high, unit)}"


def p_label(p_value: float) -> str:
    """Such as "p 0.031", or "" where it is not known."""
    if math.isnan(p_value):
        return ""
    return f"p < {SMALLEST_P:g}" if p_value < SMALLEST_P else f"p {p_value:.3f}"


def signed(text: str) -> str:
    """With the typographic minus, which is as wide as a digit and never breaks a line."""
    return text.replace("-", "−")  # noqa: RUF001


def count(number_of: int, what: str) -> str:
    """Such as "1 patient" and "2 patients"."""
    return f"{number_of} {what}" if number_of == 1 else f"{number_of} {what}s"
