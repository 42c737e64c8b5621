"""The feature analysis: every encoder, every noise, every feature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctclip.errors import DataError
from ctclip.features.similarity import cosine_similarity, linear_cka
from ctclip.networks import FreezableEncoder
from ctclip.settings import PAD_MULTIPLE

CROP_PX = 256
"""Largest side of the middle part of an image that is looked at; a multiple of 32."""

AddNoise = Callable[[np.ndarray], np.ndarray]
"""(rows, columns, channels) in [0, 1] to the noisy image."""


@dataclass(frozen=True)
class Similarity:
    """One feature of one encoder under one noise, means over images.

    Args:
        encoder: its name.
        noise: family and level.
        feature: "F1" to "F4".
        cosine: of clean and noisy image.
        cosine_different: of two different clean images.
        cka: of clean and noisy image.
        cka_different: of two different clean images.
    """

    encoder: str
    noise: str
    feature: str
    cosine: float
    cosine_different: float
    cka: float
    cka_different: float


def middle_parts(images: Sequence[np.ndarray], names: Sequence[str] = ()) -> list[np.ndarray]:
    """The middle of every image, all of one size, so that different images can be compared.

    Args:
        images: (rows, columns, channels).
        names: of the images, for errors.

    Raises:
        DataError: for fewer than two images, or one with a side below 32 pixels.
    """
    if len(images) < 2:
        raise DataError(f"found {len(images)} image; expected at least 2, to compare different ones")
    smallest = smallest_of(images)
    rows, columns = images[smallest].shape[:2]
    side = min(CROP_PX, min(rows, columns) // PAD_MULTIPLE * PAD_MULTIPLE)
    if side == 0:
        name = names[smallest] if names else "an image"
        raise DataError(f"{name} has {rows} x {columns} pixels, expected {PAD_MULTIPLE} at least each; leave it out")
    starts = [((image.shape[0] - side) // 2, (image.shape[1] - side) // 2) for image in images]
    return [image[r : r + side, c : c + side] for image, (r, c) in zip(images, starts, strict=True)]


def smallest_of(images: Sequence[np.ndarray]) -> int:
    """Which image has the shortest side, and sets the size of :func:`middle_parts`."""
    return min(range(len(images)), key=lambda index: min(images[index].shape[:2]))


@torch.inference_mode()
def compare_features(
    name: str,
    encoder: FreezableEncoder,
    images: Sequence[np.ndarray],
    noises: dict[str, AddNoise],
    image_done: Callable[[], None] | None = None,
) -> list[Similarity]:
    """Similarity of every feature under every noise, and of different images.

    Args:
        name: of the encoder.
        encoder: in eval mode.
        images: (rows, columns, channels) in [0, 1], of one size; a channel alone is repeated.
        noises: what is added, by name.
        image_done: called after every noisy image.

    Returns:
        one row per noise and feature.
    """
    encoder.eval()
    clean = [_features(encoder, image) for image in images]
    different = [_pairwise(first, clean[(index + 1) % len(clean)]) for index, first in enumerate(clean)]
    cosine_different, cka_different = np.mean(different, axis=0).T
    rows = []
    for noise, add_noise in noises.items():
        found = []
        for image, features in zip(images, clean, strict=True):
            found.append(_pairwise(features, _features(encoder, add_noise(image))))
            if image_done:
                image_done()
        for index, (cosine, cka) in enumerate(np.mean(found, axis=0)):
            rows.append(
                Similarity(
                    name,
                    noise,
                    f"F{index + 1}",
                    float(cosine),
                    float(cosine_different[index]),
                    float(cka),
                    float(cka_different[index]),
                )
            )
    return rows


def _features(encoder: FreezableEncoder, image: np.ndarray) -> list[torch.Tensor]:
    batch = torch.as_tensor(image, dtype=torch.float32).movedim(-1, 0)[None].expand(-1, 3, -1, -1)
    return [feature[0] for feature in encoder(batch)]


def _pairwise(first: list[torch.Tensor], second: list[torch.Tensor]) -> list[tuple[float, float]]:
    return [(cosine_similarity(a, b), linear_cka(a, b)) for a, b in zip(first, second, strict=True)]
