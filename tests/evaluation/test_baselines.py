from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctclip.errors import ConfigError, DataError, WeightsError
from ctclip.evaluation.baselines import FILTERS, noise_of_volume_hu
from ctclip.evaluation.methods import baseline, methods_of, prediction_of, require_distinct
from ctclip.networks import DenoiserConfig
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.weights import build_network, save_checkpoint

TRUTH_HU = body_phantom_hu(2, 256)
NOISY_HU = low_dose(TRUTH_HU, 30.0)
INSIDE = TRUTH_HU > -300


def rmse_hu(volume_hu: np.ndarray) -> float:
    return float(np.sqrt(np.mean((volume_hu - TRUTH_HU)[INSIDE] ** 2)))


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("identity", "bm3d")])
def test_every_filter_lowers_the_error_and_keeps_the_mean(name: str) -> None:
    calls = []
    filtered = baseline(name).denoise(NOISY_HU, lambda done, total: calls.append((done, total)))
    assert filtered.dtype == np.float32
    assert rmse_hu(filtered) < 0.9 * rmse_hu(NOISY_HU)
    assert abs(float((filtered - NOISY_HU)[INSIDE].mean())) < 2
    assert calls == [(1, 2), (2, 2)]


def test_bm3d_lowers_the_error() -> None:
    pytest.importorskip("bm3d", reason="needs 'pip install ctclip[bm3d]'")
    assert rmse_hu(baseline("bm3d").denoise(NOISY_HU)) < 0.7 * rmse_hu(NOISY_HU)


def test_identity_gives_the_input_and_median_is_scipys() -> None:
    np.testing.assert_array_equal(baseline("identity").denoise(NOISY_HU), NOISY_HU)
    inside = np.clip(NOISY_HU, -1024, 3072)
    kept = NOISY_HU < -1024
    expected = np.where(kept, NOISY_HU, np.stack([ndimage.median_filter(each, 3) for each in inside]))
    np.testing.assert_allclose(baseline("median").denoise(NOISY_HU), expected, rtol=1e-6)


def test_padding_comes_back_and_does_not_leak() -> None:
    padded = NOISY_HU.copy()
    padded[:, :10] = -2000
    filtered = baseline("median").denoise(padded)
    assert (filtered[:, :10] == -2000).all()
    assert filtered[:, 10:].min() > -1200


def test_the_noise_that_sets_the_filters_is_measured_or_refused() -> None:
    assert noise_of_volume_hu(NOISY_HU) == pytest.approx(27, abs=3)
    with pytest.raises(DataError, match="no slice holds enough soft tissue"):
        baseline("nlm").denoise(np.full((2, 64, 64), -1000, np.float32))
    with pytest.raises(DataError, match="enough soft tissue, or it holds no noise; leave out the baseline"):
        baseline("nlm").denoise(np.full((2, 64, 64), 40, np.float32))
    organs_hu = np.where(np.indices((2, 64, 64))[2] < 32, 0.0, 60.0)
    with pytest.raises(DataError, match="has no noise"):
        baseline("tv").denoise(organs_hu)


@pytest.mark.parametrize("value_hu", [-1000, 40])
@pytest.mark.parametrize("name", ["identity", "median"])
def test_what_the_noise_does_not_set_needs_no_noise(name: str, value_hu: int) -> None:
    scan = np.full((2, 64, 64), value_hu, np.float32)
    np.testing.assert_array_equal(baseline(name).denoise(scan), scan)


def test_wrong_names_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="unknown baseline 'wiener'; expected one of identity, median"):
        baseline("wiener")
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ConfigError, match="pip install 'ctclip\\[bm3d\\]'"):
        baseline("bm3d")
    with pytest.raises(ConfigError, match="no such folder"):
        prediction_of(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="two methods are called 'median'"):
        require_distinct([baseline("median"), baseline("median")])


def test_a_model_at_two_strengths_beside_the_filters(tiny_model: Path) -> None:
    methods = methods_of(
        models=[str(tiny_model)], strengths=[0.5, 1.0], baselines=["identity", "median"], prediction=None, device="cpu"
    )
    assert [method.name for method in methods] == ["identity", "median", "tiny strength 0.5", "tiny"]
    half, full = methods[2:]
    crop = np.full((1, 16, 16), 40, np.float32) + np.arange(16, dtype=np.float32)  # holds no value below 0 HU
    changed = full.denoise(crop) - crop
    assert np.abs(changed).max() > 0.1
    np.testing.assert_allclose(half.denoise(crop) - crop, changed / 2, atol=0.01)
    assert half.sha256 == full.sha256 == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert "strength 0.5" in half.description


def test_two_methods_of_one_name_are_refused_and_no_model_may_be_asked_for(tiny_model: Path) -> None:
    settings = {"baselines": ["median"], "prediction": None}
    assert [each.name for each in methods_of(models=["none"], strengths=[1.0], **settings)] == ["identity", "median"]
    with pytest.raises(ConfigError, match="--strength: found 1, 1, expected each once"):
        methods_of(models=[str(tiny_model)], strengths=[1.0, 1.0], device="cpu", **settings)


def test_of_two_models_the_one_without_an_encoder_gets_that_which_is_given(tmp_path: Path) -> None:
    network = build_network(DenoiserConfig((1, 1, 1), 8, 4, residual=True), random_encoder=True)
    whole, decoder, encoder = (tmp_path / name for name in ("whole.pt", "decoder.pt", "encoder.pt"))
    save_checkpoint(network, whole)
    save_checkpoint(network, decoder, include_encoder=False)
    torch.save(network.encoder.state_dict(), encoder)
    settings = {"strengths": [1.0], "baselines": [], "prediction": None, "device": "cpu"}
    _, first, second = methods_of(models=[str(whole), str(decoder)], encoder_weights=str(encoder), **settings)
    np.testing.assert_array_equal(second.denoise(NOISY_HU[:1, :64, :64]), first.denoise(NOISY_HU[:1, :64, :64]))
    with pytest.raises(WeightsError, match="--encoder-weights"):
        methods_of(models=[str(decoder)], **settings)
