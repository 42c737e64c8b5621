"""Classical filters: the floors that a trained denoiser has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ctclip.errors import ConfigError, DataError
from ctclip.metrics.noise import volume_noise_sd_hu
from ctclip.units import MODEL_HU_WINDOW

Filter = Callable[[np.ndarray, float], np.ndarray]

MEDIAN_SIZE_PX = 3
"""The classical 3x3 median."""

NLM_H, NLM_PATCH_PX, NLM_DISTANCE_PX = 0.8, 5, 6
"""Filter strength in units of the noise SD, patch and search distance. As below, the least RMSE on the body phantom
with 15, 30 and 60 HU of correlated noise decided."""

TV_WEIGHT = 0.7
"""Weight of total variation in units of the noise SD."""

BILATERAL_COLOR, BILATERAL_SPATIAL_PX = 1.5, 2.0
"""Range SD in units of the noise SD, and spatial SD."""

BM3D_SD = 1.5
"""The SD that BM3D is given, in units of the noise SD: it expects white noise, and that of CT has more power where
anatomy is."""


def noise_of_volume_hu(volume_hu: np.ndarray) -> float:
    """Noise SD that the filters are set by: median over slices of :func:`~ctclip.metrics.noise.noise_sd_hu`.

    Args:
        volume_hu: (slices, rows, columns).

    Raises:
        DataError: when no slice holds enough soft tissue, or there is no noise in it.
    """
    sd_hu = volume_noise_sd_hu(volume_hu)
    if not math.isfinite(sd_hu):
        raise DataError(
            "the noise cannot be measured: no slice holds enough soft tissue, or it holds no noise; leave out the "
            "baseline"
        )
    if sd_hu == 0:
        raise DataError("the scan has no noise that the filter could be set by; leave out the baseline")
    return sd_hu


def _identity(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    return slice_hu


def _median(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.median_filter(slice_hu, MEDIAN_SIZE_PX)


def _nlm(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        slice_hu,
        patch_size=NLM_PATCH_PX,
        patch_distance=NLM_DISTANCE_PX,
        h=NLM_H * noise_hu,
        sigma=noise_hu,
        fast_mode=True,
        preserve_range=True,
    )


def _tv(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(slice_hu, weight=TV_WEIGHT * noise_hu)


def _bilateral(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    from skimage.restoration import denoise_bilateral

    low = slice_hu.min()  # skimage takes no values below 0
    filtered = denoise_bilateral(
        slice_hu - low, sigma_color=BILATERAL_COLOR * noise_hu, sigma_spatial=BILATERAL_SPATIAL_PX
    )
    return filtered + low


def _bm3d(slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    from bm3d import bm3d

    return bm3d(slice_hu, sigma_psd=BM3D_SD * noise_hu)


FILTERS: dict[str, tuple[Filter, str]] = {
    "identity": (_identity, "the low-dose image itself"),
    "median": (_median, f"median {MEDIAN_SIZE_PX}x{MEDIAN_SIZE_PX}"),
    "nlm": (_nlm, f"non-local means, h = {NLM_H} SD, patch {NLM_PATCH_PX}, distance {NLM_DISTANCE_PX}"),
    "tv": (_tv, f"total variation, weight {TV_WEIGHT} SD"),
    "bilateral": (_bilateral, f"bilateral, range {BILATERAL_COLOR} SD, {BILATERAL_SPATIAL_PX} px"),
    "bm3d": (_bm3d, f"BM3D for white noise of {BM3D_SD} SD"),
}
"""Name, filter and description; every filter takes (rows, columns) in HU and the noise SD in HU."""

NEED_NO_NOISE = ("identity", "median")
"""Filters that the noise does not set: they do the same to scans whose noise cannot be measured."""


def find_filter(name: str) -> Filter:
    """A filter by name; values outside [-1024, 3072] HU come back unchanged.

    Raises:
        ConfigError: for an unknown name, or BM3D without its package.
    """
    if name not in FILTERS:
        raise ConfigError(f"unknown baseline {name!r}; expected one of {', '.join(FILTERS)}")
    if name == "bm3d":
        require_bm3d()
    return partial(_inside_window, FILTERS[name][0])


def _inside_window(filter_slice: Filter, slice_hu: np.ndarray, noise_hu: float) -> np.ndarray:
    """Padding of -2000 HU and metal must neither change nor leak into their surroundings."""
    low, high = MODEL_HU_WINDOW
    filtered = filter_slice(np.clip(slice_hu, low, high).astype(np.float64), noise_hu)
    return np.where((slice_hu < low) | (slice_hu > high), slice_hu, filtered).astype(np.float32)


def require_bm3d() -> None:
    """Refuse to go on without the package of BM3D's authors.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import bm3d  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the baseline bm3d needs the package of its authors, whose licence allows non-commercial use only: "
            "pip install 'ctclip[bm3d]'"
        ) from error
