"""The one description of a denoising network, saved inside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

from ctclip.errors import ConfigError

Config = TypeVar("Config")

ENCODER_IMAGE_CHANNELS = 3
"""CLIP's image tower takes RGB; CT gives it one slice three times, or three neighbouring slices."""

INPUT_ADAPTERS = ("repeat", "conv")

LATER_FIELDS = ("head_width", "backbone")
"""Fields that checkpoints of earlier versions do not have."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Architecture of a :class:`~ctclip.networks.DenseFeatureDenoiser`.

    Args:
        encoder_layers: residual blocks in ``layer1``..``layer3`` of the encoder (RN50: 3, 4, 6).
        encoder_width: channels after the encoder's stem (RN50: 64). The taps F1..F4 have 1, 4, 8 and 16 times as many.
        decoder_width: the decoder's blocks have 8, 4, 2, 1 and 1 times as many channels.
        in_channels: channels of the noisy image: 1 (grey, or one CT slice) or 3 (RGB, or three neighbouring slices).
        out_channels: channels of the clean image.
        align_corners: corner convention of the bilinear up-sampling. ``True`` for checkpoints published with the paper;
            ``False`` gives results that do not depend on the image size.
        residual: the decoder predicts a correction that is added to the image (its middle channel when ``out_channels``
            is 1) instead of the clean image itself.
        input_adapter: how one channel becomes the encoder's three: ``"repeat"``, or ``"conv"``, the learned 1x1
            convolution of the published CT network. Without effect for three input channels.
        encoder_name: what the encoder is, for people to read, e.g. ``"CLIP RN50 (openai)"``.
        head_width: channels of the last block, which works on all pixels of the image, instead of ``decoder_width``.
        backbone: name of a ``timm`` model that takes the place of CLIP's image tower, e.g. ``"resnet50"``; its feature
            pyramid must be that of ``encoder_width``. For comparisons.

    Raises:
        ConfigError: when a value is out of range or two values contradict each other.
    """

    encoder_layers: tuple[int, int, int] = (3, 4, 6)
    encoder_width: int = 64
    decoder_width: int = 64
    in_channels: int = 1
    out_channels: int = 1
    align_corners: bool = False
    residual: bool = False
    input_adapter: str = "repeat"
    encoder_name: str = "unnamed"
    head_width: int | None = None
    backbone: str | None = None

    def __post_init__(self) -> None:
        _require_types(self)
        object.__setattr__(self, "encoder_layers", tuple(self.encoder_layers))
        if len(self.encoder_layers) != 3 or min(self.encoder_layers) < 1:
            raise ConfigError(f"encoder_layers needs three counts of at least 1, found {self.encoder_layers}")
        if self.encoder_width < 2 or self.encoder_width % 2:
            raise ConfigError(f"encoder_width must be even and at least 2, found {self.encoder_width}")
        for name in ("decoder_width", "head_width"):
            width = getattr(self, name)
            if width is not None and width < 1:
                raise ConfigError(f"{name} must be at least 1, found {width}")
        if self.in_channels not in (1, ENCODER_IMAGE_CHANNELS):
            raise ConfigError(f"in_channels must be 1 or {ENCODER_IMAGE_CHANNELS}, found {self.in_channels}")
        if self.out_channels not in (1, self.in_channels):
            raise ConfigError(f"out_channels must be 1 or in_channels={self.in_channels}, found {self.out_channels}")
        if self.input_adapter not in INPUT_ADAPTERS:
            raise ConfigError(f"input_adapter must be one of {INPUT_ADAPTERS}, found {self.input_adapter!r}")

    @classmethod
    def reference(cls, *, in_channels: int = 1, **changes: Any) -> DenoiserConfig:
        """The published network: learned 1x1 input for CT, ``align_corners``, no residual; for RN50 unless changed."""
        adapter = "conv" if in_channels == 1 else "repeat"
        values = {
            "in_channels": in_channels,
            "out_channels": in_channels,
            "align_corners": True,
            "input_adapter": adapter,
        }
        return cls(**{**values, **changes})

    @classmethod
    def for_encoder(cls, name: str, **changes: Any) -> DenoiserConfig:
        """The default network on one of open_clip's ResNet image towers, e.g. ``"RN50"``, ``"RN101"`` or ``"RN50x4"``.

        The decoder gets the encoder's width unless ``decoder_width`` is given.

        Raises:
            ConfigError: when open_clip has no such model, or it is no ResNet.
        """
        layers, width = open_clip_resnet_shape(name)
        values = {
            "encoder_layers": layers,
            "encoder_width": width,
            "decoder_width": width,
            "encoder_name": f"CLIP {name}",
        }
        return cls(**{**values, **changes})

    @property
    def tap_channels(self) -> tuple[int, int, int, int]:
        """Channels of F1..F4."""
        return tuple(self.encoder_width * factor for factor in (1, 4, 8, 16))  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a checkpoint."""
        values = asdict(self)
        values["encoder_layers"] = list(self.encoder_layers)
        for name in LATER_FIELDS:
            if values[name] is None:  # so that checkpoints without it stay readable for earlier versions
                del values[name]
        return values


def config_of_all_fields(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A config from a checkpoint's description, the inverse of its ``to_dict``.

    Raises:
        ConfigError: for unknown or missing fields, so that a newer checkpoint is never half understood;
            :data:`LATER_FIELDS` may be missing. Also for a value out of range.
    """
    known = {field.name for field in fields(cast("Any", kind))}
    unknown, missing = sorted(set(values) - known), sorted(known - set(LATER_FIELDS) - set(values))
    if unknown or missing:
        raise ConfigError(f"network config does not fit this version of ctclip: unknown {unknown}, missing {missing}")
    return kind(**values)


def config_of_fields(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A config from a mapping of its fields, where missing ones take their defaults.

    Raises:
        ConfigError: for an unknown field, a missing one without default, or a value out of range.
    """
    try:
        return kind(**values)
    except TypeError as error:
        known = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
        raise ConfigError(f"network config does not fit: {error}; its fields are {known}") from error


def _require_types(config: DenoiserConfig) -> None:
    """A checkpoint or a config file may hold anything."""
    sizes = [config.encoder_width, config.decoder_width, config.in_channels, config.out_channels]
    if config.head_width is not None:
        sizes.append(config.head_width)
    layers = config.encoder_layers
    if not isinstance(layers, (list, tuple)):
        raise ConfigError(f"encoder_layers needs three counts of at least 1, found {layers!r}")
    require_whole_numbers(*layers, *sizes)
    for name in ("align_corners", "residual"):
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name} must be true or false, found {getattr(config, name)!r}")
    if not isinstance(config.encoder_name, str):
        raise ConfigError(f"encoder_name must be a text, found {config.encoder_name!r}")
    if not isinstance(config.backbone, str | None):
        raise ConfigError(f"backbone must be the name of a timm model, or none, found {config.backbone!r}")


def require_whole_numbers(*sizes: Any) -> None:
    """Refuse sizes of a network that are anything else.

    Raises:
        ConfigError: with all of them.
    """
    if not all(type(each) is int for each in sizes):
        raise ConfigError(f"layers, widths and channels of a network are whole numbers, found {list(sizes)}")


def open_clip_resnet_shape(name: str) -> tuple[tuple[int, int, int], int]:
    """Blocks of ``layer1``..``layer3`` and the width of one of open_clip's ResNet towers.

    Raises:
        ConfigError: when open_clip has no such model, or its image tower is no ResNet.
    """
    import open_clip

    found = open_clip.get_model_config(name)
    resnets = [model for model in open_clip.list_models() if model.startswith("RN")]
    if found is None or not isinstance(found["vision_cfg"]["layers"], (list, tuple)):
        raise ConfigError(f"unknown encoder {name!r}; open_clip's ResNet image towers are {', '.join(resnets)}")
    layers = found["vision_cfg"]["layers"]
    return tuple(layers[:3]), found["vision_cfg"]["width"]
