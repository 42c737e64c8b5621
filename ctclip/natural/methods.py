"""What denoises natural images: a network, with or without adaptation to the noise, or a classical filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctclip.errors import ConfigError
from ctclip.natural.adaptive import AdaptiveDenoiser

if TYPE_CHECKING:
    import torch

DenoiseImages = Callable[[np.ndarray], np.ndarray]
"""(images, rows, columns, channels) in [0, 1] to the same."""

RGB_CHANNELS = 3

BM3D = "bm3d"

BASELINES = {
    "identity": "the noisy image itself",
    "median": "median 3x3",
    BM3D: "CBM3D, or BM3D for grey images, given the measured SD of the noise",
}


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method by its name and settings, so that another process can make it.

    Args:
        name: of a baseline; or of a model, or its checkpoint file.
        is_model: which of both.
        adapt: bring the image to the model's training noise first.
        encoder_weights: for checkpoints without an encoder.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32" or "bf16".
        backend: what runs a model, see :func:`~ctclip.backend.find_backend`.
        shown_as: in tables, in place of the name.
    """

    name: str
    is_model: bool
    adapt: bool = False
    encoder_weights: str = ""
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    shown_as: str = ""

    @property
    def label(self) -> str:
        """For tables: the name, and whether the model adapts."""
        name = self.shown_as or (Path(self.name).stem if self.is_model else self.name)
        return f"{name}, adapted" if self.adapt else name


@dataclass(frozen=True)
class ImageMethod:
    """A method that is ready to run.

    Args:
        label: for tables.
        description: what it is.
        sha256: of a model's weights.
        denoise: what it does.
    """

    label: str
    description: str
    sha256: str
    denoise: DenoiseImages


def through_rgb_network(network: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """Run an RGB network on (B, C, H, W) with 1 or 3 channels; a grey image is all three at once."""
    result = network(batch.expand(-1, RGB_CHANNELS, -1, -1))
    return result if batch.shape[1] == RGB_CHANNELS else result.mean(dim=1, keepdim=True)


@cache
def make_method(spec: MethodSpec) -> ImageMethod:
    """The method that a spec describes; made once per process.

    Raises:
        ConfigError: for an unknown baseline, or a package that is not installed.
        WeightsError: when a model is missing, damaged, or not for natural images.
    """
    return _model(spec) if spec.is_model else _baseline(spec)


def _baseline(spec: MethodSpec) -> ImageMethod:
    filters = {"identity": _identity, "median": _median, BM3D: _bm3d}
    if spec.name not in filters:
        raise ConfigError(f"unknown baseline {spec.name!r}; expected one of {', '.join(filters)}")
    if spec.name == BM3D:
        from ctclip.evaluation.baselines import require_bm3d

        require_bm3d()
    one = filters[spec.name]
    return ImageMethod(spec.label, BASELINES[spec.name], "", lambda images: np.stack([one(each) for each in images]))


def _identity(image: np.ndarray) -> np.ndarray:
    return image


def _median(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.median_filter(image, size=(3, 3, 1))


def _bm3d(image: np.ndarray) -> np.ndarray:
    from bm3d import bm3d, bm3d_rgb

    from ctclip.natural.noise_level import MEDIAN_OF_CHI2, measure_noise

    noise = measure_noise(image)
    if noise is None:
        raise ConfigError(f"bm3d needs images in which the noise can be measured, found {image.shape[:2]} pixels")
    sd = noise.sd / MEDIAN_OF_CHI2**0.5
    denoised = bm3d_rgb(image, sd) if image.shape[-1] == RGB_CHANNELS else bm3d(image[..., 0], sd)
    return np.asarray(denoised).reshape(image.shape)


def _model(spec: MethodSpec) -> ImageMethod:
    import torch

    from ctclip.devices import find_device, is_out_of_memory
    from ctclip.errors import DataError, WeightsError
    from ctclip.prepared import prepare_network
    from ctclip.weights import load_model

    loaded = load_model(spec.name, encoder_weights=spec.encoder_weights or None)
    config = loaded.network.config
    if loaded.hu_window is not None:
        raise WeightsError(f"{loaded.name} is a model for CT; images need one of natural_clip_denoising")
    device = find_device(spec.device)
    prepared = prepare_network(loaded.network, device, precision=spec.precision, backend=spec.backend)
    network = prepared.module

    @torch.inference_mode()
    def denoise(images: np.ndarray) -> np.ndarray:
        batch = torch.as_tensor(images, dtype=torch.float32, device=device).movedim(-1, 1)
        if config.in_channels == RGB_CHANNELS:
            result = through_rgb_network(network, batch)
        else:  # a colour image goes through a grey network per channel
            result = network(batch.flatten(0, 1)[:, None]).reshape(batch.shape)
        return result.movedim(1, -1).float().cpu().numpy()

    def denoise_or_say_why_not(images: np.ndarray) -> np.ndarray:
        try:
            return denoise(images)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows, columns = images.shape[1:3]
            raise DataError(
                f"out of memory on {device}: {rows} x {columns} pixels do not fit; make it smaller"
            ) from None

    description = f"{config.encoder_name}; {device}, {prepared.precision}, {prepared.backend}"
    if not spec.adapt:
        return ImageMethod(spec.label, description, loaded.sha256, denoise_or_say_why_not)
    channels = config.in_channels
    description += "; adapted to the noise at every brightness" + ("" if channels == RGB_CHANNELS else ", grey")
    adaptive = AdaptiveDenoiser(denoise_or_say_why_not, in_channels=channels)
    return ImageMethod(spec.label, description, loaded.sha256, adaptive)
