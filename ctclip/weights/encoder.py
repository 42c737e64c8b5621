"""CLIP's image tower from a file, strictly: nothing is skipped silently and nothing stays random."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ctclip.errors import WeightsError
from ctclip.networks import BackboneEncoder, FreezableEncoder
from ctclip.weights.checkpoint import ENCODER_PREFIX
from ctclip.weights.formats import (
    PARALLEL_PREFIX,
    VISUAL_PREFIX,
    read_state,
    require_finite_weights,
    without_prefix,
)

UNUSED_VISUAL = ("layer4.", "attnpool.")
"""Parts of CLIP's image tower that the denoiser does not have."""

TEXT_TOWER = (
    "transformer.",
    "token_embedding.",
    "ln_final.",
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
)
"""Entries of a whole CLIP model that are no part of its image tower."""

OPTIONAL_SUFFIX = "num_batches_tracked"
"""The one kind of entry that some formats leave out; it does not influence the network in eval mode."""

SHOWN_KEYS = 4
"""How many keys an error message names."""


def load_encoder_weights(encoder: FreezableEncoder, path: Path, *, from_denoiser: bool = False) -> None:
    """Load an encoder's weights: CLIP's image tower, or the timm model of a :class:`BackboneEncoder`.

    Files may be of any of the formats of :func:`~ctclip.weights.formats.read_state`; float16 values become float32.
    Accepted names: CLIP's, with ``visual.`` in front (whole CLIP models), without (the image tower alone), under
    ``state_dict``, and with ``module.`` in front of either; for a backbone timm's own.

    Args:
        encoder: gets the weights.
        path: of the file.
        from_denoiser: accept the encoder in a denoiser's checkpoint, of ctclip or published, too. Its encoder may be
            none of CLIP's, so the caller must know which one it has to be.

    Raises:
        WeightsError: when keys are missing or unexpected, shapes differ, or the file is recognisably something else
            (timm names, an ImageNet ResNet); the message says what was found and what was expected.
    """
    found, kind = read_state(path)
    if isinstance(encoder, BackboneEncoder):
        load_encoder_state(encoder.body, _used_by(encoder.body, found), path.name)
    else:
        found = (from_denoiser and _encoder_of_denoiser(found)) or found
        load_encoder_state(encoder, image_tower_state(found, f"{path.name} ({kind})"), path.name)


def image_tower_state(found: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """The image tower's entries under the encoder's own names, without ``layer4`` and the attention pool.

    Raises:
        WeightsError: when the names are those of another kind of model.
    """
    found = without_prefix(found, PARALLEL_PREFIX)
    if any(name.startswith(VISUAL_PREFIX) for name in found):
        strangers = [name for name in found if not name.startswith((VISUAL_PREFIX, *TEXT_TOWER))]
        if strangers:
            raise WeightsError(f"{source} holds entries that are no part of CLIP: {_some(strangers)}")
        found = {name: values for name, values in found.items() if name.startswith(VISUAL_PREFIX)}
        found = without_prefix(found, VISUAL_PREFIX)
    _refuse_other_models(found, source)
    return {name: values for name, values in found.items() if not name.startswith(UNUSED_VISUAL)}


def _encoder_of_denoiser(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    inside = {name: values for name, values in found.items() if name.startswith(ENCODER_PREFIX)}
    return without_prefix(inside, ENCODER_PREFIX)


def _used_by(body: nn.Module, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries of a timm model, without the stages and the classifier that come after the last feature."""
    found = without_prefix(found, PARALLEL_PREFIX)
    parts = {name.split(".")[0] for name in body.state_dict()}
    return {name: values for name, values in found.items() if name.split(".")[0] in parts}


def load_encoder_state(encoder: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Copy a state dict with the encoder's own names into it, strictly.

    Raises:
        WeightsError: for missing or unexpected keys (``num_batches_tracked`` may be missing), wrong shapes and values
            that are not finite.
    """
    expected = encoder.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(OPTIONAL_SUFFIX)]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        raise WeightsError(
            f"{source} does not fit the encoder: {len(missing)} keys missing ({_some(missing)}), "
            f"{len(unexpected)} unexpected "
            f"({_some(unexpected)}); expected the {len(expected)} keys of the encoder up to its last feature"
        )
    wrong = [name for name in state if state[name].shape != expected[name].shape]
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"{source} does not fit the encoder: {len(wrong)} shapes differ, {name} is "
            f"{tuple(state[name].shape)}, expected "
            f"{tuple(expected[name].shape)}; is it another model, for example RN50x4 in place of RN50?"
        )
    require_finite_weights(state, source)
    encoder.load_state_dict(expected | state)


def _refuse_other_models(state: dict[str, torch.Tensor], source: str) -> None:
    """Name the two look-alikes that people try, which a list of missing keys would not explain."""
    if any(name.startswith(("stem.conv", "stages.", "trunk.stem", "trunk.stages")) for name in state):
        raise WeightsError(
            f"{source} uses timm's names ({_some(state)}); expected CLIP's own names such as "
            f"visual.conv1.weight: use OpenAI's "
            "RN50.pt or open_clip's file of the same model"
        )
    stem = state.get("conv1.weight")
    if stem is not None and stem.shape[-1] == 7:
        raise WeightsError(
            f"{source} is an ImageNet ResNet, not CLIP: conv1.weight is {tuple(stem.shape)}, "
            f"expected CLIP's stem of three 3x3 "
            "convolutions (conv1, conv2, conv3)"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return (", ".join(names[:SHOWN_KEYS]) or "none") + more
