"""Encoders by name: those of models, CLIP's, timm's, and a random one."""

from __future__ import annotations

from pathlib import Path

import torch

from ctclip.errors import ConfigError
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, FreezableEncoder
from ctclip.weights import build_network, load_model

RANDOM, TIMM = "random", "timm"

EXPECTED = "a model or checkpoint, RN50:WEIGHTS (or RN101, RN50x4 ...), timm:MODEL:WEIGHTS, or random"


def encoder_of(text: str) -> FreezableEncoder:
    """The encoder that a text names.

    Args:
        text: a model's name or checkpoint, for the encoder in it; ``RN50:WEIGHTS`` for a CLIP tower, where WEIGHTS is
            a file or a tag that has been fetched; ``timm:MODEL:WEIGHTS`` for another backbone; ``random`` for a CLIP
            RN50 without weights (seed 0).

    Raises:
        ConfigError: for a text of another kind.
        WeightsError: when weights are missing or do not fit.
    """
    if text == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build_network(DenoiserConfig(in_channels=3, out_channels=3), random_encoder=True).encoder
    kind, colon, rest = text.partition(":")
    if colon and not Path(text).is_file():
        if kind == TIMM:
            name, _, weights = rest.partition(":")
            config = DenoiserConfig(in_channels=3, out_channels=3, backbone=name)
        else:
            config, weights = DenoiserConfig.for_encoder(kind, in_channels=3, out_channels=3), rest
        if not weights:
            raise ConfigError(f"no weights in {text!r}; expected {EXPECTED}")
        return build_network(config, encoder_weights=weights).encoder
    network = load_model(text).network
    if not isinstance(network, DenseFeatureDenoiser):
        raise ConfigError(f"{text} has no encoder ({network.config.encoder_name}); expected {EXPECTED}")
    return network.encoder
