"""From the description in a checkpoint to the network that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ctclip.errors import ConfigError
from ctclip.networks.config import DenoiserConfig, config_of_all_fields, config_of_fields
from ctclip.networks.denoiser import DenseFeatureDenoiser
from ctclip.networks.peers import PeerConfig, PeerDenoiser

NetworkConfig = DenoiserConfig | PeerConfig
Network = DenseFeatureDenoiser | PeerDenoiser


def as_config(config: NetworkConfig | dict[str, Any]) -> NetworkConfig:
    """A config as it is, or one from a mapping of its fields, where missing fields take their defaults.

    Raises:
        ConfigError: for an unknown field, or a value out of range.
    """
    if isinstance(config, NetworkConfig):
        return config
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"network_config must be a mapping of the network's fields, found {config!r}; leave it out, or change "
            "one field, as with --network_config#decoder_width 32"
        )
    is_peer = "architecture" in config
    return config_of_fields(PeerConfig, config) if is_peer else config_of_fields(DenoiserConfig, config)


def config_from_dict(values: dict[str, Any]) -> NetworkConfig:
    """The inverse of a config's ``to_dict``.

    Raises:
        ConfigError: for unknown or missing keys, so that a newer checkpoint is never half understood.
    """
    is_peer = "architecture" in values
    return config_of_all_fields(PeerConfig, values) if is_peer else config_of_all_fields(DenoiserConfig, values)


def network_from_config(config: NetworkConfig) -> Network:
    """A network in float32 to load weights into; PyTorch's random numbers go on as if it had drawn none."""
    with torch.random.fork_rng(devices=[]):
        network = PeerDenoiser(config) if isinstance(config, PeerConfig) else DenseFeatureDenoiser(config)
    return network.float()  # whatever torch.set_default_dtype says
