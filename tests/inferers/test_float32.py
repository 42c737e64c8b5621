from __future__ import annotations

import pytest
import torch

from ctclip.inferers import exact_float32


def _convolution() -> str:
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else {True: "tf32", False: "ieee"}[cudnn.allow_tf32]


def test_a_gpu_rounds_nothing_inside_and_what_it_did_outside() -> None:
    before = _convolution()
    with exact_float32("cuda"):
        assert _convolution() == "ieee"
    assert _convolution() == before
    with pytest.raises(KeyError), exact_float32(torch.device("cuda:1")):
        raise KeyError
    assert _convolution() == before


def test_other_devices_leave_it_alone() -> None:
    before = _convolution()
    with exact_float32("cpu"):
        assert _convolution() == before


def test_programs_that_set_it_the_new_way_can_go_on() -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("before PyTorch 2.9")
    before = _convolution()
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        with exact_float32("cuda"):
            assert _convolution() == "ieee"
        assert _convolution() == "ieee"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
