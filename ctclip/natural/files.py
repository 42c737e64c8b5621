"""Photographs in, denoised photographs out, with the depth and the format that they had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ctclip.atomic import atomic_path
from ctclip.data.images import IMAGE_SUFFIXES, is_image
from ctclip.errors import ConfigError, DataError
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
        ConfigError: when the target is the source or lies inside it, exists, or is of the wrong kind.
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
        jobs = [(path, target / path.name) for path in sorted(source.iterdir()) if path.is_file() and is_image(path)]
    destination = target.resolve()
    onto_itself = any(final.resolve() == path.resolve() for path, final in jobs)
    if onto_itself or (source.is_dir() and destination.is_relative_to(source.resolve())):
        raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
    for _, final in jobs:
        _require_place(final)
    taken = [final for _, final in jobs if final.exists()]
    if taken and not overwrite:
        raise ConfigError(f"{taken[0]} exists; give --overwrite to replace it")
    return jobs


def _require_place(final: Path) -> None:
    """Where a file can be written, once the folders above it are made."""
    above = next(each for each in final.parents if each.exists())
    if not above.is_dir():
        raise ConfigError(f"the output {above} is a file, expected a folder; choose another")
    if final.is_dir():
        raise ConfigError(f"the output {final} is a folder, expected a file; move it away")


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
