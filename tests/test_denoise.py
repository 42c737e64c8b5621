from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import ctclip
from ctclip import Denoiser, load_network
from ctclip.errors import ConfigError, DataError, WeightsError
from ctclip.hu_window import hu_to_unit
from ctclip.inferers.stacks import batched_stacks
from ctclip.metrics.image import image_quality
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, PeerConfig, network_from_config
from ctclip.phantom import body_phantom_hu, low_dose
from ctclip.units import HUWindow
from ctclip.weights import build_network, save_checkpoint


def _new_denoiser(channels: int = 1, **settings: Any) -> Denoiser:
    torch.manual_seed(0)
    config = DenoiserConfig(
        encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=8, in_channels=channels, residual=True
    )
    return Denoiser(build_network(config, random_encoder=True), device="cpu", **settings)


_denoiser = functools.cache(_new_denoiser)
"""One for all tests that neither change it nor the number of threads: OpenVINO is set up once for each setting."""


@pytest.fixture
def tower_model(tmp_path: Path) -> Path:
    """The checkpoint of a small network on CLIP's tower, which OpenVINO can run."""
    path = tmp_path / "tower.pt"
    save_checkpoint(DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1, residual=True)), path)
    return path


def _volume(slices: int = 5) -> np.ndarray:
    return np.random.RandomState(0).normal(0, 300, (slices, 40, 33)).astype(np.float32)


def test_strength_blends() -> None:
    volume, denoiser = _volume(), _denoiser()
    assert np.array_equal(denoiser.denoise(volume, strength=0), volume)
    full, half = denoiser.denoise(volume, strength=1), denoiser.denoise(volume, strength=0.5)
    assert np.abs(full - volume).max() > 1
    np.testing.assert_allclose(half, (volume + full) / 2, atol=1e-3)
    np.testing.assert_allclose(denoiser.denoise(volume, strength="high"), volume + 0.8 * (full - volume), atol=1e-3)
    for wrong in (1.5, "strong"):
        with pytest.raises(ConfigError, match=f"found {wrong!r}"):
            denoiser.denoise(volume, strength=wrong)


def test_values_outside_the_window_pass_unchanged() -> None:
    volume = _volume()
    volume[0, 3, 3], volume[1, 4, 4] = 8000, -3024
    denoised = _denoiser().denoise(volume)
    assert (denoised[0, 3, 3], denoised[1, 4, 4]) == (8000, -3024)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("slices", [1, 2, 5])
def test_streams_and_batches_give_the_same(channels: int, slices: int) -> None:
    volume = _volume(slices)
    expected = _denoiser(channels, batch_size=1).denoise(volume)
    for batch_size in (2, 5):
        streamed = np.stack(list(_denoiser(channels, batch_size=batch_size).denoise_slices(iter(volume))))
        np.testing.assert_allclose(streamed, expected, atol=1e-2)


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("count", range(7))
def test_stacks_of_a_stream_repeat_the_edges(reach: int, count: int) -> None:
    slices = [np.full((1, 1), float(n)) for n in range(1, count + 1)]
    stacks = [stack for batch in batched_stacks(slices, 2 * reach + 1, lambda _: 2) for stack in batch]
    found = [stack[:, 0, 0].tolist() for stack in stacks]
    numbers = range(1, count + 1)
    assert found == [[min(max(n + o, 1), count) for o in range(-reach, reach + 1)] for n in numbers]


def test_shapes_and_kinds_come_back() -> None:
    denoiser, volume = _denoiser(), _volume()
    assert denoiser.denoise(volume[0]).shape == (40, 33)
    result = denoiser.denoise(torch.from_numpy(volume).double())
    assert isinstance(result, torch.Tensor)
    assert (result.shape, result.dtype) == (volume.shape, torch.float32)


def test_half_precision_tensors_are_taken() -> None:
    volume = torch.from_numpy(_volume()).bfloat16()
    result = _denoiser().denoise(volume, strength=0)
    assert torch.equal(result, volume.float())


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (0, 4095), (-0.05, 1.2), (-3, 5)])
def test_values_that_are_not_hu_are_refused(low: float, high: float) -> None:
    volume = np.linspace(low, high, 32 * 32).reshape(32, 32)
    with pytest.raises(DataError, match=f"smallest {low:g}, largest {high:g}.* check_hu=False$"):
        _denoiser().denoise(volume)
    assert _denoiser().denoise(volume, check_hu=False).shape == (32, 32)


def test_unusable_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        _denoiser().denoise(np.full((4, 4), np.nan))
    for shape in ((4,), (1, 1, 4, 4), (0, 4, 4)):
        with pytest.raises(DataError, match="found shape"):
            _denoiser().denoise(np.zeros(shape))
    for unusable in (np.zeros((4, 4), complex), np.array([["a"]]), np.array([[None]]), torch.zeros(4, 4, dtype=bool)):
        with pytest.raises(DataError, match="expected numbers in HU"):
            _denoiser().denoise(unusable)


@pytest.mark.parametrize("shapes", [[(8, 8), (8, 9)], [(1, 8, 8)], [(0, 8)], [()]])
def test_slices_of_a_stream_have_one_size(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(DataError, match="of one size, found"):
        list(_denoiser().denoise_slices(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize(
    ("unusable", "message"),
    [
        (np.full((8, 8), np.nan), "the volume holds values that are not finite"),
        (np.full((8, 8), -1e39), "from -1e\\+39 to -1e\\+39, expected HU, which float32 can hold"),
        ([["a"]], "expected numbers in HU"),
        (np.ma.masked_less(np.full((8, 8), -2000.0), -1024), "^64 pixels are masked; expected HU in all of them"),
    ],
)
def test_unusable_slices_are_not_blamed_on_the_model(unusable: np.ndarray, message: str) -> None:
    denoiser = _denoiser()
    with pytest.raises(DataError, match=message):
        list(denoiser.denoise_slices([unusable]))
    for strength in (0, 1):
        with pytest.raises(DataError, match=message):
            denoiser.denoise(unusable, strength=strength, check_hu=False)


def test_slices_of_other_kinds_give_the_same() -> None:
    denoiser, each = _denoiser(backend="eager"), np.round(_volume(1)[0])
    expected = denoiser.denoise(each)
    kinds = [each.tolist(), each.astype(np.longdouble), each.astype(">i2"), torch.from_numpy(each), np.ma.array(each)]
    for kind in kinds:
        assert np.array_equal(next(denoiser.denoise_slices([kind])), expected)
        assert np.array_equal(denoiser.denoise(kind), expected)


def test_metadata_of_monais_tensors_stay() -> None:
    from monai.data import MetaTensor

    volume, affine = torch.from_numpy(_volume(2)).short(), torch.diag(torch.tensor([0.7, 0.7, 3.0, 1.0])).double()
    found = _denoiser().denoise(MetaTensor(volume, affine=affine, meta={"kernel": "B30f"}))
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, affine)
    assert found.meta["kernel"] == "B30f"
    assert found.dtype == torch.float32
    assert torch.equal(found.as_tensor(), _denoiser().denoise(volume))


def test_whole_numbers_of_numpy_are_taken() -> None:
    denoiser = _new_denoiser(batch_size=np.int64(2), roi_size=np.int64(32), backend="eager")
    assert denoiser.batch_of((40, 33)) == 2
    expected = _new_denoiser(batch_size=2, roi_size=32, backend="eager").denoise(_volume(3))
    assert np.array_equal(denoiser.denoise(_volume(3)), expected)


def test_float32_holds_whole_numbers_outside_the_window_up_to_two_to_the_24() -> None:
    volume = np.full((8, 8), -1000, np.int64)
    volume[0, :2] = 2**24, 2**24 + 1
    assert _denoiser().denoise(volume)[0, :2].tolist() == [2**24, 2**24]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_result_that_is_not_finite_is_refused(value: float) -> None:
    denoiser = _new_denoiser()
    for parameter in denoiser.network.parameters():
        torch.nn.init.constant_(parameter, value)
    with pytest.raises(DataError, match=r"^1320 processed pixels are not finite; expected finite HU. Check the model"):
        denoiser.denoise(_volume(1), strength=0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_in_crops_too(value: float) -> None:
    crop = np.full((8, 8), 40.0)
    crop[3, 3] = value
    with pytest.raises(DataError, match="not finite"):
        _denoiser().denoise(crop, check_hu=False)


def test_the_entry_points_are_listed_before_they_are_loaded() -> None:
    assert {"Denoiser", "load_network", "__version__", "__doc__"} <= set(dir(ctclip))
    assert "Denoiser" not in vars(ctclip)


def test_wrong_settings_are_refused() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1))
    for settings, message in (
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"batch_size": 0}, "batch size"),
        ({"batch_size": True}, "batch size"),
        ({"roi_size": 64.5}, "whole number of pixels, at least 32, found 64.5"),
        ({"overlap": 1.0}, "overlap"),
        (
            {"hu_window": (3072, -1024)},
            r"an HU window needs two finite ends, .*, found \(3072, -1024\)",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            Denoiser(network, **settings)
    with pytest.raises(WeightsError, match="unknown model"):
        Denoiser.load("nope")


def test_the_shipped_model_removes_noise_and_keeps_hu() -> None:
    truth = body_phantom_hu(2, 256)
    noisy = low_dose(truth, 40, seed=11)
    denoised = Denoiser.load(device="cpu").denoise(noisy)
    window = (-160.0, 240.0)
    assert image_quality(denoised, truth, window)["rmse_hu"] < 0.6 * image_quality(noisy, truth, window)["rmse_hu"]
    liver = np.abs(truth - 60) < 0.5
    assert abs((denoised - truth)[liver].mean()) < 1
    network = load_network("ct-compact")
    with torch.no_grad():
        assert network(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


class _OutOfMemory(torch.nn.Module):
    """A network that adds 10 HU, until a batch, or what runs together, is larger than the memory.

    With little room for what runs together, the first pass lasts until there was no room for another one.
    """

    def __init__(self, largest: int, together: int = 100, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.config = DenoiserConfig()
        self.largest, self.together, self.batches = largest, threading.Semaphore(together), []
        self.was_full = threading.Event()
        if together > 1:
            self.was_full.set()

    def __deepcopy__(self, memo: object) -> _OutOfMemory:
        return self  # whose batches are counted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.largest:
            raise self.error
        if not self.together.acquire(blocking=False):
            self.was_full.set()
            raise self.error
        assert self.was_full.wait(timeout=60)
        self.together.release()
        self.batches.append(len(x))
        return x + 10 / 4096


def test_out_of_memory_makes_smaller_batches_and_says_so(
    caplog: pytest.LogCaptureFixture, threads: Callable[[int], None]
) -> None:
    threads(1)
    network = _OutOfMemory(largest=2)
    volume_hu = np.linspace(-900, 900, 8 * 64).reshape(8, 8, 8).astype(np.float32)  # one batch: none fails beside it
    denoised_hu = Denoiser(network, device="cpu", batch_size=8).denoise(volume_hu)
    np.testing.assert_allclose(denoised_hu, volume_hu + 10, atol=0.01)
    assert network.batches == [2, 2, 2, 2], "in parts"
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory on cpu: going on with batches of 4 slices",
        "out of memory on cpu: going on with batches of 2 slices",
    ]


def test_memory_may_run_out_beside_the_network_too(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    def scale(stacks: torch.Tensor, window: HUWindow) -> torch.Tensor:
        if len(stacks) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hu_to_unit(stacks, window)

    threads(1)
    monkeypatch.setattr("ctclip.denoise.hu_to_unit", scale)
    volume_hu = np.linspace(-900, 900, 12 * 64).reshape(12, 8, 8).astype(np.float32)
    denoised_hu = Denoiser(_OutOfMemory(largest=8), device="cpu", batch_size=8).denoise(volume_hu)
    np.testing.assert_allclose(denoised_hu, volume_hu + 10, atol=0.01)


@pytest.mark.parametrize(
    "fault", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: no kernel image\nCompile with")]
)
def test_a_gpu_that_takes_no_model_is_one_line(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def to(*_: object, **__: object) -> None:
        raise fault

    network = _OutOfMemory(largest=1)
    monkeypatch.setattr(network, "to", to)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"^device 'cuda' cannot be used: CUDA [^\n]*; free it, or try cpu$"):
        Denoiser(network, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance_hu"), [("fp32", 0.1), ("bf16", 2.0)])
def test_a_gpu_gives_what_a_cpu_gives(precision: str, tolerance_hu: float) -> None:
    noisy_hu = low_dose(body_phantom_hu(5, 256), 30)
    expected_hu = Denoiser.load(device="cpu", precision="fp32").denoise(noisy_hu)
    found_hu = Denoiser.load(device="cuda", precision=precision, batch_size=2).denoise(noisy_hu)
    assert np.abs(found_hu - expected_hu).max() <= tolerance_hu


def test_passes_that_do_not_fit_beside_each_other_run_one_by_one(
    caplog: pytest.LogCaptureFixture, threads: Callable[[int], None]
) -> None:
    threads(4)
    network = _OutOfMemory(largest=1, together=1)
    volume_hu = np.linspace(-900, 900, 12 * 64).reshape(12, 8, 8).astype(np.float32)
    denoiser = Denoiser(network, device="cpu", batch_size=1)
    assert denoiser.passes.count == 4
    for _ in range(2):
        np.testing.assert_allclose(denoiser.denoise(volume_hu), volume_hu + 10, atol=0.01)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory on cpu: going on with one pass at a time"
    ]


def test_passes_in_threads_give_what_one_gives(threads: Callable[[int], None]) -> None:
    volume = _volume(7)
    threads(1)
    alone = _new_denoiser(3, batch_size=2, backend="eager").denoise(volume)
    threads(3)
    denoiser = _new_denoiser(3, batch_size=2, backend="eager")
    assert np.array_equal(denoiser.denoise(volume), alone)
    assert torch.get_num_threads() == 3
    inside: list[int] = []
    thread = threading.Thread(target=lambda: inside.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == [3], "the threads of others are as they were"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("could not create a primitive"),
        RuntimeError("Check 'ptr' failed at cpu_memory.cpp:257:\nFailed to allocate 100663680 bytes of memory"),
        MemoryError("std::bad_alloc"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("upsample_bilinear2d_nhwc only supports output tensors with less than INT_MAX elements"),
    ],
    ids=["CUDA", "CPU", "oneDNN", "OpenVINO", "Python", "cuDNN", "its work spaces", "number of elements"],
)
def test_a_slice_that_does_not_fit_is_one_line(error: Exception) -> None:
    with pytest.raises(DataError, match="a slice of 8 x 8 does not fit; give --roi"):
        Denoiser(_OutOfMemory(largest=0, error=error), device="cpu").denoise(np.full((2, 8, 8), -100.0))


def test_bf16_stays_within_two_hu_and_two_hundredths_of_a_decibel() -> None:
    truth = body_phantom_hu(1, 256)
    noisy = low_dose(truth, 30)
    exact, fast = (Denoiser.load(device="cpu", precision=each).denoise(noisy) for each in ("fp32", "bf16"))
    assert 0 < np.abs(exact - fast).max() <= 2
    psnr_db = [image_quality(each, truth, (-160, 240))["psnr_db"] for each in (exact, fast)]
    assert abs(psnr_db[0] - psnr_db[1]) <= 0.02


def test_the_backend_is_a_setting_of_its_own() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1, residual=True))
    settings = [Denoiser(network, device="cpu", backend=backend).parameters for backend in ("eager", "compiled")]
    assert settings[0] != settings[1]


@pytest.mark.parametrize("backend", ["eager", "openvino", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda denoiser: pickle.loads(pickle.dumps(denoiser))])
def test_copies_give_the_same(backend: str, copy_of: Callable[[Denoiser], Denoiser]) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    denoiser, volume = _new_denoiser(3, backend=backend), _volume(3)
    expected = denoiser.denoise(volume)
    copied = copy_of(denoiser)
    assert copied.network is not denoiser.network
    assert np.array_equal(copied.denoise(volume), expected)
    assert (copied.parameters, copied.passes.count) == (denoiser.parameters, denoiser.passes.count)
    assert np.array_equal(copy_of(copied).denoise(volume), expected)


class _Denoised(Dataset):
    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self.denoiser.denoise(_volume(3)))


def _in_a_forked_worker(denoiser: Denoiser) -> np.ndarray:
    loader = DataLoader(
        _Denoised(denoiser), batch_size=None, num_workers=1, timeout=120, multiprocessing_context="fork"
    )
    return np.asarray(next(iter(loader)))


def test_a_forked_worker_denoises_as_its_parent(threads: Callable[[int], None]) -> None:
    threads(2)
    denoiser = _new_denoiser(backend="eager")
    expected = denoiser.denoise(_volume(3))
    assert np.array_equal(_in_a_forked_worker(denoiser), expected)


def test_openvino_in_a_forked_worker_is_one_line_and_does_not_wait_for_ever(threads: Callable[[int], None]) -> None:
    pytest.importorskip("openvino")
    threads(2)
    denoiser = _new_denoiser(backend="openvino")
    denoiser.denoise(_volume(3))
    with pytest.raises(ConfigError, match=r"forked after it has run: start workers with 'spawn' .*or take .*'eager'"):
        _in_a_forked_worker(denoiser)


def test_loading_leaves_the_random_numbers_of_others_alone(tower_model: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load_network(tower_model)
    Denoiser.load(tower_model, device="cpu", backend="eager")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize("roi_size", [None, 32])
def test_what_is_set_outside_does_not_change_the_network(backend: str, roi_size: int | None, tower_model: Path) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    volume = _volume(1)
    settings = {"device": "cpu", "backend": backend, "roi_size": roi_size, "precision": "fp32"}
    expected = Denoiser.load(tower_model, **settings).denoise(volume)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(Denoiser.load(tower_model, **settings).denoise(volume), expected, atol=1e-3)
    torch.set_default_dtype(torch.float64)
    try:
        found = Denoiser.load(tower_model, **settings).denoise(volume)
        built_here = DenseFeatureDenoiser(DenoiserConfig((1, 1, 1), 2, 1, residual=True))
        assert Denoiser(built_here, **settings).denoise(volume).dtype == np.float32
        assert next(built_here.parameters()).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("config", [DenoiserConfig((1, 1, 1), 2, 1), PeerConfig("DnCNN", 8, 3, in_channels=1)])
def test_the_network_itself_stays_as_it_is(config: DenoiserConfig | PeerConfig) -> None:
    network = network_from_config(config).train()
    state = {name: values.clone() for name, values in network.state_dict().items()}
    Denoiser(network, device="cpu", backend="eager").denoise(_volume(1))
    assert network.training
    for name, values in network.state_dict().items():
        assert torch.equal(values, state[name])
        assert values.stride() == state[name].stride(), "the layout in memory"
