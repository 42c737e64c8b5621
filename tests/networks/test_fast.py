"""The fast form of a network is the same network."""

from __future__ import annotations

import copy
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ctclip.devices import has_fast_bf16
from ctclip.errors import ConfigError
from ctclip.networks import (
    DenoiserConfig,
    DenseFeatureDenoiser,
    FastDenoiser,
    PeerConfig,
    PeerDenoiser,
    optimized_network,
)

SMALL = {"encoder_layers": (1, 2, 1), "encoder_width": 8, "decoder_width": 8}

CONFIGS = {
    "default": DenoiserConfig(**SMALL),
    "residual": DenoiserConfig(**SMALL, residual=True),
    "three slices": DenoiserConfig(**SMALL, in_channels=3, residual=True),
    "RGB": DenoiserConfig(**SMALL, in_channels=3, out_channels=3),
    "published": DenoiserConfig.reference(**SMALL),
    "narrow head": DenoiserConfig(**SMALL, residual=True, head_width=4),
}


def _network(config: DenoiserConfig) -> DenseFeatureDenoiser:
    """With BatchNorm statistics that differ from 0 and 1, so that a fold that ignores them shows."""
    torch.manual_seed(0)
    network = DenseFeatureDenoiser(config, freeze_encoder=False)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    return network.eval()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_float32_is_equal_up_to_rounding(config: DenoiserConfig) -> None:
    network, image = _network(config), torch.rand(2, config.in_channels, 50, 67)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    with torch.no_grad():
        expected = network(image)
        found = optimized_network(network, precision="fp32")(image)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bfloat16_changes_little(config: DenoiserConfig) -> None:
    network, image = _network(config), torch.rand(2, config.in_channels, 64, 64)
    with torch.no_grad():
        expected = network(image)
        found = optimized_network(network, precision="bf16")(image)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).square().mean().sqrt() < 0.02 * expected.std()


def test_a_constant_image_is_not_rounded_to_bfloat16() -> None:
    """40 HU in a window of 4096: bfloat16 alone would know it to 8 HU."""
    network = _network(CONFIGS["residual"])
    with torch.no_grad():
        network.decoder.last.weight.zero_()
    image = torch.full((1, 1, 32, 32), (40 + 1024) / 4096)
    with torch.no_grad():
        assert torch.equal(optimized_network(network, precision="bf16")(image), image)


def test_differences_in_the_image_that_bfloat16_alone_would_round_away_are_seen() -> None:
    network = _network(CONFIGS["default"])
    with torch.no_grad():
        for weight in network.decoder.parameters():
            weight.zero_()
        joint, second = network.decoder.blocks[-1][0].weight, network.decoder.blocks[-1][2].weight
        joint[0, -3, 1, 0], joint[0, -3, 1, 2] = -1, 1  # from the left neighbour to the right one
        second[0, 0, 1, 1] = network.decoder.last.weight[0, 0, 1, 1] = 1
        ramp = (0.5 + 1e-4 * torch.arange(32)).expand(1, 1, 32, 32)
        found = optimized_network(network, precision="bf16")(ramp)[..., 1:-1]
    torch.testing.assert_close(found, torch.full_like(found, 2e-4), rtol=0.05, atol=0)


def test_other_networks_run_as_they_are() -> None:
    network = PeerDenoiser(PeerConfig("DnCNN", 8, 3)).eval()
    image = torch.rand(1, 3, 20, 20)
    fast = optimized_network(network, precision="fp32")
    assert not isinstance(fast, FastDenoiser)
    with torch.no_grad():
        torch.testing.assert_close(fast(image), network(image), atol=1e-6, rtol=1e-5)


def test_an_image_leaves_in_float32_also_where_the_layers_are_in_bfloat16() -> None:
    """bfloat16 would come in steps of 8 HU."""
    with torch.no_grad():
        found = optimized_network(_network(CONFIGS["default"]), precision="bf16")(torch.rand(1, 1, 64, 64))
    assert (found != found.bfloat16().float()).float().mean() > 0.9


def test_other_networks_in_bfloat16_give_float32_close_to_their_own() -> None:
    network, image = PeerDenoiser(PeerConfig("DnCNN", 8, 3)).eval(), torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        expected, found = network(image), optimized_network(network, precision="bf16")(image)
    assert found.dtype == torch.float32
    assert 1e-5 < (found - expected).abs().max() < 0.02, "more than the rounding of float32"


@pytest.mark.slow
def test_compiled_is_equal_up_to_rounding() -> None:
    network, image = _network(CONFIGS["residual"]), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        eager = optimized_network(network, precision="bf16")(image)
        compiled = optimized_network(network, precision="bf16", backend="compiled")(image)
        exact = network(image)
    assert (compiled - exact).square().mean() < 2 * (eager - exact).square().mean()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_channels_of_zeros_change_nothing(config: DenoiserConfig) -> None:
    fast, image = FastDenoiser(_network(config), "bf16"), torch.rand(1, config.in_channels, 32, 32)
    with torch.no_grad():
        expected = fast(image)
        fast.zero_channels = fast.deep.widen_image(8)
        assert fast.zero_channels == {3: 5, 9: 7}[fast.features(image)[1].shape[1] - fast.zero_channels]
        # up to the last bit of bfloat16, where sums are taken in another order: at most 0.0052 over 40 images
        assert (fast(image) - expected).abs().max() < 1e-2 * expected.std()


@pytest.mark.gpu
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_gpu_gives_what_a_cpu_gives(config: DenoiserConfig) -> None:
    network, image = _network(config), torch.rand(2, config.in_channels, 50, 67)

    def error_of(precision: str, device: str) -> float:
        with torch.inference_mode():
            found = optimized_network(copy.deepcopy(network).to(device), precision=precision)(image.to(device))
            return (found.cpu() - network(image)).square().mean().sqrt().item()

    with torch.inference_mode():
        scale = network(image).std().item()
    assert error_of("fp32", "cuda") < 1e-5 * scale, "TF32 would be 1e-4"
    assert 0 < error_of("bf16", "cuda") < 1.2 * error_of("bf16", "cpu")


BF16_ON_THIS_CPU = pytest.mark.skipif(not has_fast_bf16(torch.device("cpu")), reason="this CPU has no bf16")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=BF16_ON_THIS_CPU)])
def test_openvino_gives_the_same_in_every_size(config: DenoiserConfig, precision: str) -> None:
    pytest.importorskip("openvino")
    network = _network(config)
    eager = optimized_network(network, precision=precision)
    found = optimized_network(network, precision=precision, backend="openvino")
    for size in ((2, 50, 67), (1, 16, 16), (2, 50, 67)):
        image = torch.rand(size[0], config.in_channels, *size[1:])
        with torch.inference_mode():
            exact, expected = network(image), eager(image)
            error = (found(image) - exact).square().mean().sqrt()
        if precision == "fp32":
            assert error < 1e-6 * exact.std() + 1e-6
        else:
            assert 0 < error < 1.5 * (expected - exact).square().mean().sqrt()


def test_openvino_is_called_by_threads_side_by_side() -> None:
    pytest.importorskip("openvino")
    network = optimized_network(_network(CONFIGS["residual"]), precision="fp32", backend="openvino", passes=2)
    images = torch.rand(24, 1, 1, 48, 48).unbind()
    together = threading.Barrier(4)

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network(image)

    expected = [run(image) for image in images]
    with ThreadPoolExecutor(4, initializer=together.wait) as pool:
        for found, alone in zip(pool.map(run, images), expected, strict=True):
            torch.testing.assert_close(found, alone, atol=1e-6, rtol=0)


def test_openvino_is_set_up_by_threads_side_by_side() -> None:
    pytest.importorskip("openvino")
    network, image = _network(CONFIGS["residual"]), torch.rand(1, 1, 32, 32)
    together = threading.Barrier(4)

    def run(_: int) -> torch.Tensor:
        together.wait(60)
        fast = optimized_network(network, precision="fp32", backend="openvino")
        with torch.inference_mode():
            return fast(image)

    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        for found in pool.map(run, range(4)):
            torch.testing.assert_close(found, network(image), atol=1e-5, rtol=1e-5)


def test_openvino_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    calls: list[object] = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *args: calls.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: calls.append(args) or [])
    network = optimized_network(_network(CONFIGS["residual"]), precision="fp32", backend="openvino")
    with torch.inference_mode():
        network(torch.rand(1, 1, 32, 32))
    assert not calls


def test_openvino_refuses_other_networks() -> None:
    with pytest.raises(ConfigError, match="for networks on CLIP's ResNet"):
        optimized_network(PeerDenoiser(PeerConfig("DnCNN", 8, 3)).eval(), precision="fp32", backend="openvino")


@pytest.mark.parametrize(("setting", "value"), [("precision", "fp16"), ("backend", "tensorrt"), ("backend", "auto")])
@pytest.mark.parametrize(
    "network", [_network(CONFIGS["default"]), PeerDenoiser(PeerConfig("DnCNN", 8, 3))], ids=["fast", "peer"]
)
def test_what_it_cannot_do_is_not_replaced_in_silence(network: torch.nn.Module, setting: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{setting} must be one of .*, found '{value}'; take what find_{setting}"):
        optimized_network(network, **{"precision": "fp32", setting: value})


def test_the_fast_form_is_for_one_encoder_and_two_precisions() -> None:
    with pytest.raises(ConfigError, match="^precision must be one of fp32, bf16, found 'fp16'; take what find_precis"):
        FastDenoiser(_network(CONFIGS["default"]), "fp16")
    with pytest.raises(ConfigError, match="^FastDenoiser is for networks on CLIP's ResNet, found one on resnet50; "):
        FastDenoiser(DenseFeatureDenoiser(DenoiserConfig(decoder_width=1, backbone="resnet50")))


def test_other_channels_are_refused_as_by_the_network_itself() -> None:
    network, image = _network(CONFIGS["default"]), torch.rand(1, 3, 32, 32)
    for form in (network, optimized_network(network, precision="fp32")):
        with pytest.raises(
            ValueError, match=r"^expected images of 1 channels, found 3; give stacks of as many slices$"
        ):
            form(image)
