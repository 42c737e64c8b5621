"""The forms of layers for GPUs are the same layers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, FastDenoiser
from ctclip.networks.cudnn import FusedBottlenecks, MatrixUpsample, runs_on_cudnn


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 9)])
def test_matrices_up_sample_as_pytorch_does(size: tuple[int, int], align_corners: bool) -> None:
    image = torch.randn(2, 5, *size, dtype=torch.float64).to(memory_format=torch.channels_last)
    expected = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=align_corners)
    found = MatrixUpsample(align_corners=align_corners)(image)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("align_corners", [False, True])
def test_up_sampling_in_bf16_keeps_what_is_the_same_everywhere(align_corners: bool) -> None:
    flat = torch.full((1, 2, 37, 50), 1.2890625, dtype=torch.bfloat16)
    assert torch.equal(MatrixUpsample(align_corners=align_corners)(flat), flat[:1, :1, :1, :1].expand(1, 2, 74, 100))


@pytest.mark.parametrize("align_corners", [False, True])
def test_fused_layers_give_the_same(align_corners: bool) -> None:
    """On a CPU too, where they go on when the GPU's memory does not suffice."""
    torch.manual_seed(0)
    config = DenoiserConfig(
        encoder_layers=(2, 2, 2), encoder_width=8, decoder_width=8, residual=True, align_corners=align_corners
    )
    network, image = DenseFeatureDenoiser(config, freeze_encoder=False), torch.rand(2, 1, 48, 64)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    network.eval()
    with torch.inference_mode():
        exact = network(image)
        for precision, rounding in (("fp32", 1e-5), ("bf16", 1e-2)):
            plain, fused = FastDenoiser(network, precision), FastDenoiser(network, precision)
            fused.deep.fuse()
            assert type(fused.deep.layer1) is not type(plain.deep.layer1)
            assert (fused(image) - exact).abs().max() < rounding * exact.std()
            error, plain_error = ((form(image) - exact).square().mean() for form in (fused, plain))
            assert precision == "fp32" or error < 1.2 * plain_error


def test_only_nvidias_gpus_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu = SimpleNamespace(is_cuda=True, device="cuda")
    capability = [8, 0]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: tuple(capability))
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert runs_on_cudnn(on_a_gpu)
    assert not runs_on_cudnn(torch.zeros(1))
    with torch.backends.cudnn.flags(enabled=False):
        assert not runs_on_cudnn(on_a_gpu)
    capability[:] = 7, 5  # a T4 emulates bf16
    assert not runs_on_cudnn(on_a_gpu)
    capability[:] = 9, 0
    assert runs_on_cudnn(on_a_gpu)
    monkeypatch.setattr(torch.version, "cuda", None)  # PyTorch for AMD
    assert not runs_on_cudnn(on_a_gpu)


@pytest.mark.gpu
def test_they_are_in_use() -> None:
    network = DenseFeatureDenoiser(DenoiserConfig(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=8))

    def layer_of(precision: str, **how: bool) -> torch.nn.Module:
        return FastDenoiser(network, precision, torch.device("cuda"), **how).deep.layer1

    assert isinstance(layer_of("bf16"), FusedBottlenecks)
    for others in (layer_of("fp32"), layer_of("bf16", compilable=True)):
        assert not isinstance(others, FusedBottlenecks)
