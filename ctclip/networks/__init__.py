"""The network: frozen dense-feature encoder, feature augmentation, learnable decoder. Tensors in [0, 1] only."""

from __future__ import annotations

from ctclip.networks.augmentation import ProgressiveFeatureAugmentation
from ctclip.networks.config import DenoiserConfig
from ctclip.networks.decoder import DenseFeatureDecoder
from ctclip.networks.denoiser import DenseFeatureDenoiser
from ctclip.networks.encoder import DenseFeatureEncoder

__all__ = [
    "DenoiserConfig",
    "DenseFeatureDecoder",
    "DenseFeatureDenoiser",
    "DenseFeatureEncoder",
    "ProgressiveFeatureAugmentation",
]
