"""Checkpoints published with the paper (``net_g_latest.pth``) as ctclip checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ctclip.errors import WeightsError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, network_from_config
from ctclip.units import MODEL_HU_WINDOW, HUWindow
from ctclip.weights.formats import (
    PARALLEL_PREFIX,
    is_state_dict,
    read_checkpoint_dict,
    require_finite_weights,
    require_no_encoder,
    without_prefix,
)

LAYER4 = "encoder.layer4."
"""Computed and thrown away by the published code; its 60 keys are the only ones that are dropped."""

DECODER_CONV = re.compile(r"up_path\.(\d+)\.conv_block\.block\.(\d+)\.weight")
RENAMED = {"last.weight": "decoder.last.weight", "first.weight": "input_conv.weight"}


def read_published(path: Path) -> tuple[DenseFeatureDenoiser, HUWindow | None]:
    """The network in a published checkpoint, with the encoder's BatchNorm buffers as they were saved, and its HU
    window.

    The buffers matter: training moved them, so the saved encoder is no longer exactly CLIP's.

    Args:
        path: a PyTorch file ``{"params": state_dict}``, or the state dict alone; with ``module.`` in front or without.

    Returns:
        the network in eval mode, in the *reference* configuration; the HU window is ``None`` for colour networks.

    Raises:
        WeightsError: when the file is no such checkpoint, or its weights are not finite.
    """
    content = read_checkpoint_dict(path)
    require_no_encoder(content, path.name)
    params = content.get("params", content)
    if not is_state_dict(params):
        raise WeightsError(
            f"{path.name} is no published checkpoint: expected a state dict under 'params', "
            f"found {sorted(map(str, content))[:5]}"
        )
    params = without_prefix(params, PARALLEL_PREFIX)
    config = _config(params, path.name)
    network = network_from_config(config)
    assert isinstance(network, DenseFeatureDenoiser)
    state = {_rename(name): values for name, values in params.items() if not name.startswith(LAYER4)}
    expected = network.state_dict()
    wrong = sorted(set(state) ^ set(expected)) or [name for name in state if state[name].shape != expected[name].shape]
    if wrong:
        raise WeightsError(
            f"{path.name} does not hold the published network: {len(wrong)} of {len(expected)} "
            f"entries are missing, unexpected or "
            f"of another shape, for example {wrong[0]}"
        )
    require_finite_weights(state, path.name)
    network.load_state_dict(state)
    return network.eval(), MODEL_HU_WINDOW if config.in_channels == 1 else None


def _rename(name: str) -> str:
    """A published name as ctclip spells it; encoder names are the same."""
    match = DECODER_CONV.fullmatch(name)
    if match:
        return f"decoder.blocks.{match[1]}.{match[2]}.weight"
    return RENAMED.get(name, name)


def _config(params: Mapping[str, Any], source: str) -> DenoiserConfig:
    """The reference configuration with the sizes that the tensors show."""
    try:
        last, stem = (_convolution(params, name, source) for name in ("last.weight", "encoder.conv3.weight"))
        blocks = tuple(_count_blocks(params, layer) for layer in (1, 2, 3))
        return DenoiserConfig.reference(
            in_channels=1 if "first.weight" in params else 3,
            encoder_layers=blocks,
            encoder_width=stem.shape[0],
            decoder_width=last.shape[1],
            encoder_name="encoder of a published checkpoint (CLIP RN50 with BatchNorm statistics moved by training)",
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{source} does not hold the published network: {error} is missing or empty") from error


def _convolution(params: Mapping[str, torch.Tensor], name: str, source: str) -> torch.Tensor:
    """A convolution's weight, whose shape is about to tell the network's size."""
    weight = params[name]
    if weight.ndim != 4:
        raise WeightsError(
            f"{source} does not hold the published network: {name} has the shape {tuple(weight.shape)}, expected the "
            "four dimensions of a convolution's weight"
        )
    return weight


def _count_blocks(params: Mapping[str, Any], layer: int) -> int:
    prefix = f"encoder.layer{layer}."
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in params if name.startswith(prefix))
