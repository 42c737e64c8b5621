"""The network: frozen dense-feature encoder, feature augmentation, learnable decoder. Tensors in [0, 1] only."""

from __future__ import annotations

from ctclip.networks.augmentation import ProgressiveFeatureAugmentation
from ctclip.networks.backbone import BackboneEncoder
from ctclip.networks.build import Network, NetworkConfig, as_config, config_from_dict, network_from_config
from ctclip.networks.config import DenoiserConfig
from ctclip.networks.decoder import DenseFeatureDecoder
from ctclip.networks.denoiser import DenseFeatureDenoiser
from ctclip.networks.encoder import DenseFeatureEncoder, FreezableEncoder
from ctclip.networks.fast import FastDenoiser
from ctclip.networks.optimized import has_fast_form, optimized_network
from ctclip.networks.peers import PeerConfig, PeerDenoiser

__all__ = [
    "BackboneEncoder",
    "DenoiserConfig",
    "DenseFeatureDecoder",
    "DenseFeatureDenoiser",
    "DenseFeatureEncoder",
    "FastDenoiser",
    "FreezableEncoder",
    "Network",
    "NetworkConfig",
    "PeerConfig",
    "PeerDenoiser",
    "ProgressiveFeatureAugmentation",
    "as_config",
    "config_from_dict",
    "has_fast_form",
    "network_from_config",
    "optimized_network",
]
