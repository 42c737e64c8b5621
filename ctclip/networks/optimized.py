"""The fastest form of any network: on which backend, in which precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ctclip.errors import ConfigError
from ctclip.networks.build import Network
from ctclip.networks.denoiser import DenseFeatureDenoiser
from ctclip.networks.encoder import DenseFeatureEncoder
from ctclip.networks.fast import FastDenoiser, inference_copy
from ctclip.networks.float32 import exact_float32
from ctclip.networks.openvino import OpenVINOLayers
from ctclip.settings import COMPILED, EAGER, OPENVINO, require_found


def optimized_network(
    network: Network,
    *,
    precision: str,
    backend: str = EAGER,
    passes: int = 1,
    device: torch.device | None = None,
) -> nn.Module:
    """The fastest form of a network for inference: a copy, the network itself stays as it is.

    Args:
        network: those on CLIP's tower become a :class:`FastDenoiser`, alone or inside a module that keeps "fp32" exact
            on GPUs; others run as they are, under autocast.
        precision: "fp32" or "bf16".
        backend: from :func:`~ctclip.backend.find_backend`; as OpenVINO, "compiled" is for the layers after the stem
            and works for some ten seconds in the first pass of each image size.
        passes: of the network at the same time, in threads.
        device: where the copy runs; ``None``: on the network's device.

    Returns:
        a module in eval mode: (B, C, H, W) float32 in [0, 1] to the same.

    Raises:
        ConfigError: for a network that OpenVINO cannot run, and for an unknown precision or backend, which would run
            as "fp32" and "eager" under another name.
    """
    require_found(precision=precision, backend=backend)
    if not has_fast_form(network):
        if backend == OPENVINO:
            raise ConfigError("backend 'openvino' is for networks on CLIP's ResNet; take 'eager'")
        autocast = _Autocast(network, precision, device)
        return _exact_if_fp32(_compiled(autocast, backend), precision)
    assert isinstance(network, DenseFeatureDenoiser)
    fast = FastDenoiser(network, precision, device, compilable=backend == COMPILED)
    if backend == OPENVINO:
        # Any size will do to trace with.
        sides = fast.pad_multiple, fast.pad_multiple
        example = torch.zeros(1, network.config.in_channels, *sides, dtype=torch.float32)
        with torch.autocast("cpu", enabled=False):
            fast.deep = OpenVINOLayers(fast.deep, fast.features(example), passes=passes)
    fast.deep = _compiled(fast.deep, backend)
    return _exact_if_fp32(fast, precision)


def has_fast_form(network: Network) -> bool:
    """Whether the network is on CLIP's tower, so that :func:`optimized_network` can rearrange it."""
    return isinstance(network, DenseFeatureDenoiser) and isinstance(network.encoder, DenseFeatureEncoder)


def _compiled(module: nn.Module, backend: str) -> nn.Module:
    return _Compiled(module).eval() if backend == COMPILED else module


def _exact_if_fp32(network: nn.Module, precision: str) -> nn.Module:
    return _ExactFloat32(network).eval() if precision == "fp32" else network


class _Compiled(nn.Module):
    """Layers run by PyTorch's compiler, in copies too."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self._compile()

    def _compile(self) -> None:
        # Without the emulation a tensor that is rounded and widened again would be taken for the tensor itself.
        self.layers.compile(options={"emulate_precision_casts": True})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compile()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(*inputs)


class _ExactFloat32(nn.Module):
    """A network whose float32 a GPU must not round to TF32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with exact_float32(image.device):
            return self.network(image)


class _Autocast(nn.Module):
    """Any other network."""

    def __init__(self, network: Network, precision: str, device: torch.device | None) -> None:
        super().__init__()
        copied = inference_copy(network, device)
        self.network = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bf16 = precision == "bf16"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.network(image.contiguous(memory_format=torch.channels_last)).float()
