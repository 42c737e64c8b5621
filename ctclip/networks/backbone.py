"""Another frozen backbone in the place of CLIP's image tower: a measurement of what the choice of encoder does."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ctclip.errors import ConfigError
from ctclip.networks.config import DenoiserConfig
from ctclip.networks.encoder import FreezableEncoder

TAP_STRIDES = (2, 4, 8, 16)


class BackboneEncoder(FreezableEncoder):
    """Features F1..F4 of a ``timm`` model with the pyramid of CLIP's ResNet. Parameter names are timm's.

    Unlike CLIP's tower, which the paper feeds the raw image, the backbone gets it standardised with the mean and
    standard deviation that timm states for it.

    Args:
        config: with ``backbone``; its ``tap_channels`` are what the backbone must have at strides 2, 4, 8 and 16.
        frozen: ``False`` only for training it too.
        drifting_batchnorm: see :class:`~ctclip.networks.encoder.DenseFeatureEncoder`.

    Raises:
        ConfigError: when timm has no such model, or its pyramid is another one.
    """

    def __init__(self, config: DenoiserConfig, *, frozen: bool = True, drifting_batchnorm: bool = False) -> None:
        super().__init__(drifting_batchnorm=drifting_batchnorm)
        import timm

        name = config.backbone or ""
        try:
            body: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ConfigError(f"timm gives no feature pyramid for {name!r}: {error}") from error
        strides, channels = tuple(body.feature_info.reduction()), tuple(body.feature_info.channels())
        if (strides, channels) != (TAP_STRIDES, config.tap_channels):
            raise ConfigError(
                f"{name} has features of {channels} channels at strides {strides}, expected "
                f"{config.tap_channels} at {TAP_STRIDES}"
            )
        self.body: nn.Module = body
        self.mean: torch.Tensor
        self.std: torch.Tensor
        for statistic in ("mean", "std"):
            values = torch.tensor(timm.get_pretrained_cfg_value(name, statistic)).view(1, 3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)
        if frozen:
            self.freeze()

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """F1..F4 of (B, 3, H, W) in [0, 1], as those of :class:`~ctclip.networks.encoder.DenseFeatureEncoder`."""
        return self.body((image - self.mean) / self.std)
