"""Photographs in, denoised photographs out, with the depth and the format that they had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.atomic import atomic_path
from ctclip.data.images import IMAGE_SUFFIXES, is_image
from ctclip.errors import ConfigError, DataError
from ctclip.files import is_of_the_system, require_new_file
from ctclip.natural.methods import RGB_CHANNELS, ImageMethod
from ctclip.natural.sets import DEEP_MODES, read_image

JPEG_QUALITY = 95


def image_jobs(source: Path, target: Path, *, overwrite: bool = False) -> list[tuple[Path, Path]]:
    """Which image goes where.

    Args:
        source: an image, or a folder of images.
        target: an image file for an image; otherwise a folder, in which the results have the names of the images.
        overwrite: replace earlier results.

    Raises:
        ConfigError: when the target lies inside the source or is of the wrong kind, and as
            :func:`~ctclip.files.require_new_file`.
        DataError: when there is no source.
    """
    if not source.exists():
        raise DataError(f"no such file: {source}")
    if source.is_file():
        _require_known_format(target)
        jobs = [(source, target if is_image(target) and not target.is_dir() else target / source.name)]
    elif is_image(target) and not target.is_dir():
        raise ConfigError(f"the input is a folder, so the output must be one too, found {target.name}")
    else:
        images = [path for path in sorted(source.iterdir()) if is_image(path) and not is_of_the_system(path.name)]
        jobs = [(path, target / path.name) for path in images if path.is_file()]
    if source.is_dir() and Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source)):
        raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
    if target.is_file() and not is_image(target):
        raise ConfigError("the output is a file, expected a folder")
    another = "folder" if source.is_dir() else "file"
    for path, final in jobs:
        require_new_file(path, final, overwrite=overwrite, another=another)
    return jobs


def _require_known_format(target: Path) -> None:
    """A name such as "out.webp" is not that of a folder."""
    from PIL import Image

    if not is_image(target) and target.suffix.lower() in Image.registered_extensions() and not target.is_dir():
        raise ConfigError(
            f"found {target.suffix} for the output, expected one of {', '.join(IMAGE_SUFFIXES)}, or a folder"
        )


def denoise_image_file(source: Path, target: Path, method: ImageMethod, *, strength: float) -> float:
    """Denoise one image file.

    Args:
        source: PNG, JPEG, BMP or TIFF; grey or RGB with 8 bits, grey with 16 bits. Its colour profile is kept;
            transparency and other metadata are left out.
        target: the file to write; its name says the format.
        method: what denoises.
        strength: 0 gives the image back, 1 the method's result.

    Returns:
        the RMS change in grey values of 255.

    Raises:
        DataError: when the file cannot be read, or the target's format cannot hold its depth.
    """
    image = read_image(source)
    _require_depth(target.suffix, deep=_depth_and_profile(source)[0])
    denoised = np.clip(method.denoise(image[np.newaxis])[0], 0, 1)
    result = image + strength * (denoised - image)
    write_like(source, target, result)
    return float(np.sqrt(np.mean((result - image) ** 2)) * 255)


def write_like(source: Path, target: Path, image: np.ndarray) -> None:
    """Write an image with the depth and the colour profile of another file.

    Args:
        source: a file that :func:`~ctclip.natural.sets.read_image` can read.
        target: the file to write, under its name only when it is complete; the name says the format.
        image: (rows, columns, 1 or 3 channels) in [0, 1].

    Raises:
        DataError: when the format cannot hold 16 bits and the source has them.
    """
    deep, profile = _depth_and_profile(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as partial:
        _write(image, partial, target.suffix, deep=deep, profile=profile)


def _depth_and_profile(source: Path) -> tuple[bool, bytes | None]:
    """Whether a file has 16 bits, and its colour profile."""
    from PIL import Image

    with Image.open(source) as original:
        return original.mode in DEEP_MODES, original.info.get("icc_profile")


def _require_depth(suffix: str, *, deep: bool) -> None:
    if deep and suffix.lower() not in (".png", ".tif", ".tiff"):
        raise DataError(f"{suffix} holds 8 bits, the image has 16; write it as .png or .tif")


def _write(image: np.ndarray, path: Path, suffix: str, *, deep: bool, profile: bytes | None) -> None:
    from PIL import Image

    _require_depth(suffix, deep=deep)
    values = np.round(image * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    picture = Image.fromarray(values if values.shape[-1] == RGB_CHANNELS else values[..., 0])
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if suffix.lower() in (".jpg", ".jpeg") else {}
    if profile:
        options["icc_profile"] = profile
    picture.save(path, **options)
