from __future__ import annotations

import pytest
import torch

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, PeerConfig, PeerDenoiser, optimized_network
from ctclip.networks.float32 import exact_float32


def convolution_precision() -> str:
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else {True: "tf32", False: "ieee"}[cudnn.allow_tf32]


def test_a_gpu_rounds_nothing_inside_and_what_it_did_outside() -> None:
    before = convolution_precision()
    with exact_float32("cuda"):
        assert convolution_precision() == "ieee"
    assert convolution_precision() == before
    with pytest.raises(KeyError), exact_float32(torch.device("cuda:1")):
        raise KeyError
    assert convolution_precision() == before


def test_blocks_of_threads_that_overlap_are_exact_to_the_end() -> None:
    before = convolution_precision()
    first, second = exact_float32("cuda"), exact_float32("cuda")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert convolution_precision() == "ieee"
    second.__exit__(None, None, None)
    assert convolution_precision() == before


def test_other_devices_leave_it_alone() -> None:
    before = convolution_precision()
    with exact_float32("cpu"):
        assert convolution_precision() == before


def test_programs_that_set_it_the_new_way_can_go_on() -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("before PyTorch 2.9")
    before = convolution_precision()
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        with exact_float32("cuda"):
            assert convolution_precision() == "ieee"
        assert convolution_precision() == "ieee"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("bf16", "tf32")])
def test_float32_on_a_gpu_is_exact_only_where_it_was_asked_for(
    precision: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    network = PeerDenoiser(PeerConfig("DnCNN", 8, 3)).eval()
    network.register_forward_hook(lambda *_: seen.append(convolution_precision()))
    exact = exact_float32("cuda")
    monkeypatch.setattr("ctclip.networks.optimized.exact_float32", lambda device: exact)
    optimized_network(network, precision=precision)(torch.rand(1, 3, 8, 8))
    assert seen == [expected]


def test_in_bf16_a_gpu_rounds_nothing_of_the_stem() -> None:
    """With the image in TF32 single pixels were up to 4 HU off."""
    config = DenoiserConfig(encoder_layers=(1, 1, 1), encoder_width=8, decoder_width=8)
    fast = optimized_network(DenseFeatureDenoiser(config), precision="bf16")
    seen: dict[str, str] = {}
    exact = exact_float32("cuda")
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr("ctclip.networks.fast.exact_float32", lambda device: exact)
        for name in ("stem", "deep"):
            getattr(fast, name).register_forward_hook(
                lambda *_, name=name: seen.update({name: convolution_precision()})
            )
        fast(torch.rand(1, 1, 32, 32))
    assert seen == {"stem": "ieee", "deep": "tf32"}
