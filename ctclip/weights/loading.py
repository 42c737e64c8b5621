"""From a model's name or file to a network that is ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ctclip.errors import ConfigError, WeightsError
from ctclip.files import file_sha256
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, Network, network_from_config
from ctclip.units import HUWindow
from ctclip.weights.catalogue import find_encoder_file, find_model
from ctclip.weights.checkpoint import ENCODER_PREFIX, CheckpointHeader, read_checkpoint, state_sha256
from ctclip.weights.encoder import load_encoder_weights
from ctclip.weights.formats import require_finite_weights


@dataclass(frozen=True)
class LoadedModel:
    """A network with what identifies it.

    Args:
        name: the model's name, or its file's.
        network: in eval mode, float32, on the CPU.
        hu_window: what the network sees as [0, 1]; ``None`` for natural images.
        sha256: of the checkpoint file, and of the encoder's values where these came from another file.
        provenance: how the weights came about.
    """

    name: str
    network: Network
    hu_window: HUWindow | None
    sha256: str
    provenance: dict[str, Any]


def load_model(
    model: str | Path, *, encoder_weights: str | Path | None = None, like: CheckpointHeader | None = None
) -> LoadedModel:
    """Load a model by name or file.

    Args:
        model: a name from ``ctclip weights list``, or a ctclip checkpoint file.
        encoder_weights: for checkpoints without an encoder: a CLIP weights file, or an open_clip tag that has been
            fetched.
        like: what the model must agree with in HU window and channels; its other fields do not matter.

    Raises:
        WeightsError: for unknown names, missing or damaged files, weights that are not finite, encoders that do not
            belong to the checkpoint, and models of another kind than ``like``.
        ConfigError: when ``encoder_weights`` is given for a checkpoint that holds its encoder.
    """
    path = find_model(model)
    header, state = read_checkpoint(path)
    if like is not None:
        _require_kind(header, like, path.name)
    network = network_from_config(header.config)
    sha256 = file_sha256(path)
    if header.encoder_sha256 is None:
        if encoder_weights is not None:
            raise ConfigError(f"{path.name} holds its own encoder; leave out the encoder weights")
    else:
        state = state | _encoder_state(network, header, encoder_weights, path.name)
        sha256 = hashlib.sha256(f"{sha256} {header.encoder_sha256}".encode()).hexdigest()
    _load_strictly(network, state, path.name)
    name = str(model) if path.name != Path(model).name else path.stem
    return LoadedModel(name, network.eval(), header.hu_window, sha256, header.provenance)


def encoder_weights_of(models: Sequence[str | Path], encoder_weights: str | Path | None) -> list[str | Path | None]:
    """Which of several models get the encoder weights: those that hold no encoder.

    Args:
        models: as for :func:`load_model`.
        encoder_weights: see there.

    Returns:
        the argument ``encoder_weights`` of :func:`load_model` for each model.

    Raises:
        WeightsError: for unknown names, missing or damaged files.
        ConfigError: when weights are given and every model holds its encoder.
    """
    if encoder_weights is None:
        return [None] * len(models)
    needed = [read_checkpoint(find_model(each))[0].encoder_sha256 is not None for each in models]
    if not any(needed):
        raise ConfigError("no model needs the encoder weights, each holds its own encoder; leave them out")
    return [encoder_weights if each else None for each in needed]


def model_labels(models: Sequence[str | Path]) -> list[str]:
    """Names of several models for tables: their files', after those of their folders where two files have one name.

    Every training calls its model ``model.pt``, so that of two seeds these become ``seed0/model`` and ``seed1/model``.

    Args:
        models: as for :func:`load_model`.
    """
    paths = [Path(each) for each in models]
    stems = [path.stem for path in paths]
    return [
        f"{path.absolute().parent.name}/{stem}" if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]


def load_network(
    model: str | Path, *, encoder_weights: str | Path | None = None, like: CheckpointHeader | None = None
) -> Network:
    """The bare network of a model, in eval mode: (B, C, H, W) in [0, 1] to (B, C', H, W). See :func:`load_model`."""
    return load_model(model, encoder_weights=encoder_weights, like=like).network


def build_network(
    config: DenoiserConfig | dict[str, Any],
    *,
    encoder_weights: str | Path | None = None,
    random_encoder: bool = False,
    augmentation_gamma: float = 0.025,
    drifting_batchnorm: bool = False,
) -> DenseFeatureDenoiser:
    """A new network to train: frozen encoder with the given weights, decoder at random.

    Args:
        config: the architecture.
        encoder_weights: a CLIP weights file, or an open_clip tag that has been fetched ("openai", "yfcc15m", "cc12m").
        random_encoder: the only way to an encoder without weights; for tests and comparisons.
        augmentation_gamma: strength of the feature augmentation.
        drifting_batchnorm: see :class:`~ctclip.networks.encoder.DenseFeatureEncoder`; only for comparisons.

    Raises:
        ConfigError: unless exactly one of ``encoder_weights`` and ``random_encoder`` is given.
    """
    if random_encoder == (encoder_weights is not None):
        raise ConfigError(
            f"give either encoder_weights or random_encoder=True, found encoder_weights={encoder_weights!r} and "
            f"random_encoder={random_encoder}"
        )
    network = DenseFeatureDenoiser(config, augmentation_gamma=augmentation_gamma, drifting_batchnorm=drifting_batchnorm)
    if encoder_weights is not None:
        load_encoder_weights(network.encoder, find_encoder_file(encoder_weights, network.config))
    return network


def continue_training(
    config: DenoiserConfig | dict[str, Any],
    *,
    pretrained: str | Path,
    augmentation_gamma: float = 0.025,
    drifting_batchnorm: bool = False,
) -> DenseFeatureDenoiser:
    """A network to train further: all weights from a ctclip checkpoint, encoder frozen.

    Args:
        config: the architecture that the checkpoint must have.
        pretrained: a ctclip checkpoint with its encoder.
        augmentation_gamma: strength of the feature augmentation.
        drifting_batchnorm: see :class:`~ctclip.networks.encoder.DenseFeatureEncoder`; only for comparisons.

    Raises:
        WeightsError: when the checkpoint is missing or damaged, or holds another network.
    """
    path = Path(pretrained)
    if not path.is_file():
        raise WeightsError(
            f"nothing to continue from: {path} does not exist; run the first stage first (pretrain.json, or "
            "pretrain_compact.json for natural images), or give --pretrained FILE"
        )
    header, state = read_checkpoint(path)
    network = DenseFeatureDenoiser(config, augmentation_gamma=augmentation_gamma, drifting_batchnorm=drifting_batchnorm)
    if header.config != network.config:
        raise WeightsError(f"{path} holds another network: found {header.config}, expected {network.config}")
    if header.encoder_sha256 is not None:
        raise WeightsError(
            f"{path} holds the decoder only, expected one with its encoder; join the two with 'ctclip weights "
            f"export {path} whole.pt --encoder-weights FILE' and give whole.pt"
        )
    _load_strictly(network, state, path.name)
    return network


def _encoder_state(
    network: Network, header: CheckpointHeader, encoder_weights: str | Path | None, source: str
) -> dict[str, torch.Tensor]:
    """The encoder's part of the state of a checkpoint that holds the decoder only, from a file of its own."""
    if not isinstance(network, DenseFeatureDenoiser):
        raise WeightsError(f"the header of {source} is damaged: it names an encoder for {header.config}")
    if encoder_weights is None:
        raise WeightsError(
            f"{source} holds the decoder only; give the weights of its encoder ({network.config.encoder_name}) with "
            "--encoder-weights FILE"
        )
    # whose encoder it is tells the hash
    load_encoder_weights(network.encoder, find_encoder_file(encoder_weights, network.config), from_denoiser=True)
    state = network.encoder.state_dict()
    found = state_sha256(state)
    if found != header.encoder_sha256:
        raise WeightsError(
            f"these encoder weights do not belong to {source}: their SHA-256 is {found[:12]}..., expected "
            f"{str(header.encoder_sha256)[:12]}... ({network.config.encoder_name})"
        )
    return {ENCODER_PREFIX + name: values for name, values in state.items()}


def _require_kind(found: CheckpointHeader, expected: CheckpointHeader, source: str) -> None:
    kinds = [_kind(header) for header in (found, expected)]
    if kinds[0] != kinds[1]:
        raise WeightsError(
            f"{source} is another kind of model: it is for {kinds[0]}, expected one for {kinds[1]}; "
            f"give {_option_for(found, expected)}"
        )


def _option_for(found: CheckpointHeader, expected: CheckpointHeader) -> str:
    """The option of a bundle that makes a model of the same images fit, else the one that chooses the model."""
    if found.hu_window != expected.hu_window:
        return "another --model_file"
    channels = {name: getattr(found.config, name) for name in ("in_channels", "out_channels")}
    changed = [name for name, count in channels.items() if count != getattr(expected.config, name)]
    return " ".join(f"--network_config#{name} {channels[name]}" for name in changed)


def _kind(header: CheckpointHeader) -> str:
    """What a network takes and gives, in words."""
    images = "natural images" if header.hu_window is None else "CT of {:g} to {:g} HU".format(*header.hu_window)
    return f"{images}, {header.config.in_channels} channels to {header.config.out_channels}"


def _load_strictly(network: Network, state: dict, source: str) -> None:
    require_finite_weights(state, source)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise WeightsError(f"{source} does not fit the network that its header describes: {detail}") from error
