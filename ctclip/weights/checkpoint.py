"""ctclip's own checkpoints: tensors plus a header that says what they are."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ctclip.atomic import atomic_path
from ctclip.errors import ConfigError, WeightsError
from ctclip.networks import DenseFeatureDenoiser, Network, NetworkConfig, as_config, config_from_dict
from ctclip.settings import require_hu_window
from ctclip.units import MODEL_HU_WINDOW, HUWindow
from ctclip.weights.formats import is_state_dict, read_checkpoint_dict, require_no_encoder

FORMAT = 1
"""Version of the header; a reader refuses what it does not know."""

ENCODER_PREFIX = "encoder."
MODEL_KEY, HEADER_KEY = "model", "ctclip"


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_window(value: object) -> bool:
    return value is None or (
        isinstance(value, list | tuple) and len(value) == 2 and all(type(each) in (int, float) for each in value)
    )


HEADER_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "config": (_is_mapping, "the fields of a network's config by name"),
    "hu_window": (_is_window, "two numbers in HU, or None"),
    "encoder_sha256": (lambda value: isinstance(value, str | None), "a text, or None"),
    "provenance": (_is_mapping, "plain values by name"),
}
"""What each field of a header must be: a file may hold anything."""


@dataclass
class CheckpointHeader:
    """What a checkpoint says about its tensors, stored under ``"ctclip"`` beside the state dict under ``"model"``.

    Has ``state_dict`` and ``load_state_dict``, so MONAI's CheckpointSaver writes complete ctclip checkpoints from
    ``save_dict={"model": network, "ctclip": header}``.

    Args:
        config: the network's architecture, as an object or as a mapping of its fields.
        hu_window: what the network sees as [0, 1]; ``None`` for natural images.
        encoder_sha256: :func:`state_sha256` of the encoder; set when the encoder's tensors are *not* in the checkpoint.
        provenance: how the weights came about, for people to read: plain keys and values.

    Raises:
        ConfigError: for a config or a window that is out of range.
    """

    config: NetworkConfig
    hu_window: HUWindow | None = MODEL_HU_WINDOW
    encoder_sha256: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = as_config(self.config)
        if self.hu_window is not None:
            require_hu_window(self.hu_window)
            low, high = self.hu_window
            self.hu_window = (float(low), float(high))

    def state_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the file."""
        return {
            "format": FORMAT,
            "config": self.config.to_dict(),
            "hu_window": list(self.hu_window) if self.hu_window else None,
            "encoder_sha256": self.encoder_sha256,
            "provenance": self.provenance,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Accept the header of a checkpoint that is being resumed.

        Raises:
            WeightsError: when it describes another network.
        """
        found = CheckpointHeader.from_dict(values)
        if found.config != self.config:
            raise WeightsError(f"the checkpoint holds another network: {found.config}, expected {self.config}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CheckpointHeader:
        """Inverse of :meth:`state_dict`.

        Raises:
            WeightsError: when the header is of another format or incomplete.
        """
        if values.get("format") != FORMAT:
            raise WeightsError(
                f"checkpoint format {values.get('format')!r} is unknown, expected {FORMAT}; update ctclip"
            )
        for name, (fits, expected) in HEADER_FIELDS.items():
            found = reprlib.repr(values[name]) if name in values else "nothing"
            if name not in values or not fits(values[name]):
                raise WeightsError(
                    f"the checkpoint's header is damaged: {name} must be {expected}, found {found}; get the file again"
                )
        try:
            return cls(
                config=config_from_dict(values["config"]),
                hu_window=values["hu_window"],
                encoder_sha256=values["encoder_sha256"],
                provenance=values["provenance"],
            )
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise WeightsError(f"the checkpoint's header is damaged: {error}") from error


def state_sha256(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of a state dict: the same for every file format and key order.

    ``num_batches_tracked`` is left out: some formats do not carry it, and it does not influence the network.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked"):
            continue
        values = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    network: Network,
    path: str | Path,
    *,
    hu_window: HUWindow | None = MODEL_HU_WINDOW,
    provenance: dict[str, Any] | None = None,
    include_encoder: bool = True,
    half: bool = False,
) -> None:
    """Write a checkpoint under its final name only when it is complete.

    Args:
        network: what to save.
        path: the file to write.
        hu_window: what the network sees as [0, 1]; ``None`` for natural images.
        provenance: how the weights came about.
        include_encoder: ``False`` leaves the encoder out and records its hash: for encoders that must not be passed on.
        half: store floating-point tensors as float16, half the size; they are read back as float32.

    Raises:
        ConfigError: when a network without an encoder shall leave it out, and for values too large for float16.
    """
    state = dict(network.state_dict())
    encoder_sha256 = None
    if not include_encoder:
        if not isinstance(network, DenseFeatureDenoiser):
            raise ConfigError(f"{network.config.encoder_name}: there is no encoder to leave out")
        encoder_sha256 = state_sha256(network.encoder.state_dict())
        state = {name: values for name, values in state.items() if not name.startswith(ENCODER_PREFIX)}
    if half:
        state = {name: _half(name, values) for name, values in state.items()}
    header = CheckpointHeader(network.config, hu_window, encoder_sha256, provenance or {})
    with atomic_path(Path(path)) as partial:
        torch.save({MODEL_KEY: state, HEADER_KEY: header.state_dict()}, partial)


def _half(name: str, values: torch.Tensor) -> torch.Tensor:
    if not values.is_floating_point():
        return values
    halved = values.half()
    if (halved.isinf() & values.isfinite()).any():
        raise ConfigError(
            f"{name} holds values up to {values.abs().max():g}, float16 at most {torch.finfo(torch.float16).max:g}; "
            "leave out --half"
        )
    return halved


def read_checkpoint(path: str | Path) -> tuple[CheckpointHeader, dict[str, torch.Tensor]]:
    """Header and float32 state dict of a ctclip checkpoint, without building a network.

    Raises:
        WeightsError: when the file is missing, damaged or no ctclip checkpoint.
    """
    path = Path(path)
    content = read_checkpoint_dict(path)
    if HEADER_KEY not in content or MODEL_KEY not in content:
        require_no_encoder(content, path.name)
        published = not {"params", "last.weight", "module.last.weight"}.isdisjoint(content)
        hint = "; 'ctclip weights import' turns a published checkpoint into one" if published else ""
        raise WeightsError(f"{path.name} is no ctclip checkpoint: it holds {sorted(map(str, content))[:5]}{hint}")
    state = content[MODEL_KEY]
    if not isinstance(content[HEADER_KEY], dict) or not is_state_dict(state):
        raise WeightsError(f"{path.name} is damaged: expected a header and tensors by name")
    header = CheckpointHeader.from_dict(content[HEADER_KEY])
    return header, {name: values.float() if values.is_floating_point() else values for name, values in state.items()}
