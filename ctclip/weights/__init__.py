"""Weights: where they come from, their formats, their hashes, and the checkpoints that ctclip writes and reads."""

from __future__ import annotations

from ctclip.weights.catalogue import (
    fetch_encoder,
    fetched_encoders,
    find_encoder_file,
    find_model,
)
from ctclip.weights.checkpoint import CheckpointHeader, read_checkpoint, save_checkpoint, state_sha256
from ctclip.weights.encoder import load_encoder_weights
from ctclip.weights.loading import (
    LoadedModel,
    build_network,
    continue_training,
    encoder_weights_of,
    load_model,
    load_network,
    model_labels,
)
from ctclip.weights.published import read_published

__all__ = [
    "CheckpointHeader",
    "LoadedModel",
    "build_network",
    "continue_training",
    "encoder_weights_of",
    "fetch_encoder",
    "fetched_encoders",
    "find_encoder_file",
    "find_model",
    "load_encoder_weights",
    "load_model",
    "load_network",
    "model_labels",
    "read_checkpoint",
    "read_published",
    "save_checkpoint",
    "state_sha256",
]
