"""The noise level as an additional input: a network that is told how much of the noise is to go.

A blind network cannot know which part of the noise in a slice was added. This one gets a map of the SD of what is to be
taken out, beside the image and beside each of the encoder's features; it is trained to give the slice back with its own
noise in it. ``python -m benchmarks.compare_recipes`` trains it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import MapTransform
from torch.nn import functional as F

from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser
from ctclip.networks.config import ENCODER_IMAGE_CHANNELS
from ctclip.networks.decoder import DenseFeatureDecoder
from ctclip.networks.denoiser import pad_to_multiple
from ctclip.units import MODEL_HU_WINDOW
from ctclip.weights.encoder import load_encoder_weights

LEVEL_SCALE = 100
"""Makes the map's values, 0.002 to 0.03, as large as those of the features."""


class NoiseLevelDenoiser(DenseFeatureDenoiser):
    """Takes two channels, the slice in [0, 1] and the SD of the noise to take out in the same unit.

    Args:
        config: for one slice.
        encoder_weights: weights file of the frozen encoder.
        augmentation_gamma: see :class:`DenseFeatureDenoiser`.
    """

    def __init__(self, config: dict[str, Any], *, encoder_weights: str, augmentation_gamma: float) -> None:
        super().__init__(DenoiserConfig(**config), augmentation_gamma=augmentation_gamma)
        load_encoder_weights(self.encoder, Path(encoder_weights))
        channels = (ENCODER_IMAGE_CHANNELS, *self.config.tap_channels)
        self.decoder = DenseFeatureDecoder(
            [each + 1 for each in channels],
            self.config.out_channels,
            width=self.config.decoder_width,
            align_corners=self.config.align_corners,
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 2, H, W) to (B, 1, H, W)."""
        height, width = image.shape[-2:]
        noisy, level = pad_to_multiple(image, self.pad_multiple).split(1, dim=1)
        f0 = self._encoder_image(noisy)
        features = [f0, *self.augmentation(self.encoder(f0))]
        levels = [F.adaptive_avg_pool2d(level * LEVEL_SCALE, each.shape[-2:]) for each in features]
        clean = noisy + self.decoder([torch.cat(pair, dim=1) for pair in zip(features, levels, strict=True)])
        return clean[..., :height, :width]


class AddedNoiseLeveld(MapTransform):
    """Makes a constant map of the SD of what was added to an image, (1, H, W): in HU before, in [0, 1] after scaling.

    Args:
        image, clean: keys of the image in HU with and without the noise.
        level: key of the map.
    """

    def __init__(self, image: str, clean: str, level: str) -> None:
        super().__init__([image, clean])
        self.image, self.clean, self.level = image, clean, level

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        added = data[self.image] - data[self.clean]
        return {**data, self.level: (added.std() / (MODEL_HU_WINDOW[1] - MODEL_HU_WINDOW[0])).expand_as(added)}


def with_level_maps(parser: ConfigParser) -> None:
    """Let a training bundle's pipelines append the map to the image."""
    training = parser["train#preprocessing#transforms"]
    names = [each["_target_"].rsplit(".", 1)[-1] for each in training]
    noise, scaling = names.index("OneOf"), names.index("ScaleHUWindowd")
    training.insert(scaling + 1, JOIN)
    training[names.index("SelectItemsd")]["keys"] = ["image", "label", "level"]
    training.insert(noise + 1, LEVEL | {"clean": "before_noise"})
    training.insert(noise, {"_target_": "CopyItemsd", "keys": "image", "names": "before_noise"})
    parser["train#preprocessing#transforms"] = training
    validation = parser["validate#preprocessing#transforms"]
    names = [each["_target_"].rsplit(".", 1)[-1] for each in validation]
    scaling = names.index("ScaleHUWindowd")
    validation.insert(scaling + 1, JOIN)
    validation.insert(scaling, LEVEL | {"clean": "label"})
    parser["validate#preprocessing#transforms"] = validation


LEVEL = {"_target_": "benchmarks.noise_level_map.AddedNoiseLeveld", "image": "image", "level": "level"}
JOIN = {"_target_": "ConcatItemsd", "keys": ["image", "level"], "name": "image"}
