"""Image quality against a reference, in a stated HU window: MONAI's metrics on slices."""

from __future__ import annotations

import numpy as np
import torch

from ctclip.errors import DataError
from ctclip.settings import require_hu_window
from ctclip.units import HUWindow

SSIM_LEAST_PX = 11
"""Side of SSIM's window."""


def slice_quality(pred_hu: np.ndarray, reference_hu: np.ndarray, window_hu: HUWindow) -> dict[str, np.ndarray]:
    """PSNR, SSIM, RMSE and MAE of each slice inside an HU window.

    Both images are clipped to the window and counted from its lower end, which SSIM depends on; the data range of PSNR
    and SSIM is the window's width. SSIM has a Gaussian weight of sigma 1.5 over 11 pixels, as in Wang et al. 2004.

    Args:
        pred_hu: (slices, rows, columns).
        reference_hu: the same shape.
        window_hu: lower and upper end.

    Returns:
        ``psnr_db`` (infinite for equal slices), ``ssim``, ``rmse_hu`` and ``mae_hu``, (slices,) float64 each.

    Raises:
        DataError: for slices that are smaller than the window of SSIM, and other shapes than above.
        ConfigError: for a window that is empty, upside down or not finite.
    """
    from monai.metrics import MAEMetric, PSNRMetric, RMSEMetric, SSIMMetric

    if pred_hu.ndim != 3 or pred_hu.shape != reference_hu.shape:
        raise DataError(
            f"expected prediction and reference as (slices, rows, columns) of one shape, found {pred_hu.shape} and "
            f"{reference_hu.shape}"
        )
    require_ssim_size(pred_hu)
    require_hu_window(window_hu)
    low, high = window_hu
    pred, reference = (torch.as_tensor(np.clip(x, low, high) - low).float()[:, None] for x in (pred_hu, reference_hu))
    span = high - low
    metrics = {
        "psnr_db": PSNRMetric(max_val=span),
        "ssim": SSIMMetric(spatial_dims=2, data_range=span),
        "rmse_hu": RMSEMetric(),
        "mae_hu": MAEMetric(),
    }
    return {
        name: torch.as_tensor(metric(pred, reference)).double().flatten().numpy() for name, metric in metrics.items()
    }


def require_ssim_size(volume_hu: np.ndarray) -> None:
    """Refuse slices that are smaller than the window of SSIM.

    Args:
        volume_hu: (slices, rows, columns).

    Raises:
        DataError: with their size.
    """
    rows, columns = volume_hu.shape[1:]
    if min(rows, columns) < SSIM_LEAST_PX:
        raise DataError(f"a slice of {rows} x {columns} is too small for SSIM; expected {SSIM_LEAST_PX} at least each")


def image_quality(pred_hu: np.ndarray, reference_hu: np.ndarray, window_hu: HUWindow) -> dict[str, float]:
    """The mean over slices of :func:`slice_quality`."""
    return {name: float(values.mean()) for name, values in slice_quality(pred_hu, reference_hu, window_hu).items()}


def is_constant(volume_hu: np.ndarray, window_hu: HUWindow) -> np.ndarray:
    """Which slices of (slices, rows, columns) have a single value in an HU window, as air alone has in one of soft
    tissue: (slices,) bool. As references they say nothing: everything clipped to that value has an infinite PSNR."""
    clipped = np.clip(volume_hu, *window_hu)
    return clipped.min(axis=(1, 2)) == clipped.max(axis=(1, 2))
