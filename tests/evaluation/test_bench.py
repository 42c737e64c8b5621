"""The bench on methods whose effect is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctclip.evaluation import bench
from ctclip.evaluation.bench import run_bench


def _identity(volume_hu: np.ndarray, progress: object = None) -> np.ndarray:
    return volume_hu


def _blur(volume_hu: np.ndarray, progress: object = None) -> np.ndarray:
    return ndimage.gaussian_filter(volume_hu, (0, 1.5, 1.5))


def _halve_noise_and_all_contrast(volume_hu: np.ndarray, progress: object = None) -> np.ndarray:
    return bench.BODY_HU + 0.5 * (volume_hu - bench.BODY_HU)


def _erase_faint_detail(volume_hu: np.ndarray, progress: object = None) -> np.ndarray:
    """Everything within 100 HU of the body becomes the body."""
    return np.where(np.abs(volume_hu - bench.BODY_HU) < 100, bench.BODY_HU, volume_hu)


INPUT = run_bench(_identity, 25.0)


def test_the_input_is_what_was_put_in() -> None:
    assert INPUT.noise_sd_hu == pytest.approx(25, rel=0.03)
    peak_per_mm = INPUT.nps.frequency_per_mm[np.argmax(INPUT.nps.nps_hu2_mm2)]
    assert peak_per_mm * bench.PIXEL_MM == pytest.approx(0.22 / np.sqrt(2), abs=0.03)
    assert set(INPUT.ttf) == set(bench.ROD_CONTRASTS_HU)
    assert 2.5 < INPUT.dprime < 5
    same = run_bench(_identity, 25.0)
    assert same.dprime == INPUT.dprime


def test_a_blur_makes_noise_blotchy_and_edges_soft() -> None:
    blurred = run_bench(_blur, 25.0)
    assert blurred.noise_sd_hu < 0.5 * INPUT.noise_sd_hu
    assert blurred.nps.mean_frequency_per_mm < 0.75 * INPUT.nps.mean_frequency_per_mm
    assert set(blurred.ttf) == set(bench.ROD_CONTRASTS_HU)
    for contrast_hu, transfer in blurred.ttf.items():
        assert transfer.f50_per_mm < 0.5 * INPUT.ttf[contrast_hu].f50_per_mm


def test_a_linear_scale_changes_no_texture_no_edge_and_no_detectability() -> None:
    halved = run_bench(_halve_noise_and_all_contrast, 25.0)
    assert halved.noise_sd_hu == pytest.approx(0.5 * INPUT.noise_sd_hu, rel=1e-4)
    assert halved.dprime == pytest.approx(INPUT.dprime, rel=1e-3)
    assert halved.nps.mean_frequency_per_mm == pytest.approx(INPUT.nps.mean_frequency_per_mm, rel=1e-4)
    assert halved.ttf[300.0].f50_per_mm == pytest.approx(INPUT.ttf[300.0].f50_per_mm, rel=1e-3)


def test_an_eraser_of_lesions_is_found_out() -> None:
    erased = run_bench(_erase_faint_detail, 25.0)
    assert erased.noise_sd_hu < 1
    assert erased.dprime < 0.2 * INPUT.dprime
    assert 1000.0 in erased.ttf
