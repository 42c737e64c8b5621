"""Image quality against a reference, in a stated HU window: MONAI's metrics on slices."""

from __future__ import annotations

import numpy as np
import torch

from ctclip.units import HUWindow


def image_quality(pred_hu: np.ndarray, reference_hu: np.ndarray, window_hu: HUWindow) -> dict[str, float]:
    """PSNR, SSIM and RMSE of slices inside an HU window, mean over slices.

    Both images are clipped to the window first; the data range of PSNR and SSIM is the window's width. SSIM has a
    Gaussian weight of sigma 1.5 over 11 pixels, as in Wang et al. 2004.

    Args:
        pred_hu: (slices, rows, columns).
        reference_hu: the same shape.
        window_hu: lower and upper end.

    Returns:
        ``psnr_db``, ``ssim`` and ``rmse_hu``.
    """
    from monai.metrics import PSNRMetric, RMSEMetric, SSIMMetric

    low, high = window_hu
    pred, reference = (torch.as_tensor(np.clip(x, low, high) - low).float()[:, None] for x in (pred_hu, reference_hu))
    span = high - low
    metrics = {
        "psnr_db": PSNRMetric(max_val=span),
        "ssim": SSIMMetric(spatial_dims=2, data_range=span),
        "rmse_hu": RMSEMetric(),
    }
    return {name: float(torch.as_tensor(metric(pred, reference)).mean()) for name, metric in metrics.items()}
