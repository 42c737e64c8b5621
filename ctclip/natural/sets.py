"""Sets of natural images on disk: clean ones for synthetic noise, and pairs of real noise."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.data.images import IMAGE_SUFFIXES, image_files
from ctclip.errors import DataError

logger = logging.getLogger(__name__)

SOURCES = {
    "CBSD68": "https://github.com/cszn/FFDNet/tree/master/testsets",
    "Kodak24": "https://github.com/cszn/FFDNet/tree/master/testsets (500x500 crops) or https://r0k.us/graphics/kodak",
    "McMaster": "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
    "Urban100": "https://github.com/jbhuang0604/SelfExSR",
    "Set12": "https://github.com/cszn/DnCNN/tree/master/testsets",
    "CC": "https://github.com/csjunxu/MCWNNM-ICCV2017 (folder Real_ccnoise_denoised_part)",
    "PolyU": "https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset (folder CroppedImages)",
    "SIDD": "https://abdokamel.github.io/sidd (sRGB validation blocks, saved as pairs of images)",
}
"""Where the sets can be had that people usually test on."""

PAIR_NAMES = (("_real", "_mean"), ("_noisy", "_gt"), ("_noisy", "_clean"), ("noisy_srgb", "gt_srgb"))
"""How the two files of a pair are told apart: by these parts of their names, case aside."""

PAIR_FOLDERS = (("noisy", "clean"), ("noisy", "gt"), ("input", "target"), ("input", "groundtruth"))
"""Or by these folders, in which the two have the same name."""

GREY_MODES, COLOUR_MODES = ("1", "L", "LA", "La"), ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA")
"""Pillow's names for pixels of 8 bits."""

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Those for grey with 16 bits; "I" has room for more, but is what some versions make of a 16-bit PNG."""

IMAGE_WIDTH, IMAGE_LENGTH, PHOTOMETRIC = 256, 257, 262
"""Tags of TIFF."""

WHITE_IS_ZERO = 0
"""Of its photometric interpretation; Pillow inverts such values of 8 bits, but not those of 16."""

ANIMATED = ("PNG", "GIF", "WEBP")
"""Formats whose further frames Pillow leaves out without a word. (Those of a telephone's JPEG are previews.)"""

LARGEST_DEEP = 65535

LEAST_BITS = 14
"""Grey with 16 bits whose values need no more than so many is mostly of a camera with fewer."""

SHOWN = 5
"""Names of files that one warning holds."""

EXPECTED_PIXELS = "expected grey or RGB with 8 bits, or grey with 16; convert it first"


@dataclass(frozen=True)
class ImageSet:
    """A named set of images.

    Args:
        name: of the folder.
        clean: files of the clean images.
        noisy: files of the same images with real noise; empty when noise is to be added.
    """

    name: str
    clean: tuple[Path, ...]
    noisy: tuple[Path, ...] = ()

    def spread(self, count: int | None) -> ImageSet:
        """``count`` of the images, evenly spread over the set; all of them for ``None`` or a larger count."""
        if count is None or count >= len(self.clean):
            return self
        chosen = np.linspace(0, len(self.clean) - 1, count).round().astype(int)
        noisy = tuple(self.noisy[index] for index in chosen) if self.noisy else ()
        return ImageSet(self.name, tuple(self.clean[index] for index in chosen), noisy)


def find_sets(data: Path, names: Sequence[str], *, real: bool = False) -> tuple[list[ImageSet], list[str]]:
    """The named sets below a folder.

    Args:
        data: the folder.
        names: each the name of a folder in it, the start of one ("Kodak24" finds "Kodak24_500x500"), or a path,
            which is absolute, has a separator ("./Kodak24") or is "." or "..". Only a path finds a hidden folder.
        real: look for pairs of noisy and clean images.

    Returns:
        the sets, and for every one that is missing a line that says so and where to get it.

    Raises:
        DataError: when the folder does not exist, or a folder of pairs holds none.
    """
    if not data.is_dir():
        raise DataError(f"no such folder: {data}; give --data with a folder of image sets")
    found, missing = [], []
    for name in names:
        folder = _folder(data, name)
        if folder is None:
            where = f"; get it at {SOURCES[name]}" if name in SOURCES else ""
            missing.append(f"{name}: no folder of that name in {data}{where}")
            continue
        found.append(_pairs(folder) if real else ImageSet(_name(folder), tuple(image_files(folder))))
    return found, missing


def read_image(path: Path) -> np.ndarray:
    """Rows, columns and 1 or 3 channels of an image file, float32 in [0, 1]; transparency is left out.

    An image that its EXIF data turn is turned: as a viewer shows it. Values that use a quarter of 16 bits or less are a
    warning: against that range their noise is weak.

    Raises:
        DataError: when the file cannot be read as an image, or its values are neither 8 bits nor grey with 16.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode = image.mode
            if mode not in (*GREY_MODES, *COLOUR_MODES, *DEEP_MODES):
                raise DataError(f"{path.name} has pixels of the kind {mode}; {EXPECTED_PIXELS}")
            # Pillow drops half of each value of such files without a word; only its decoder's arguments tell
            if mode in COLOUR_MODES and ";16" in str(image.tile):
                raise DataError(f"{path.name} has colours of 16 bits; {EXPECTED_PIXELS}")
            if _is_stack(image):
                raise DataError(f"{path.name} holds several images of one size, expected one per file; split it first")
            if _is_mixed_up(image):
                raise DataError(f"{path.name} is a turned TIFF file without compression, expected an upright one")
            deep = mode in DEEP_MODES
            inverted = deep and _shows_0_as_white(image)
            upright = _upright(image, path.name)
            values = np.asarray(upright if deep else upright.convert("L" if mode in GREY_MODES else "RGB"))
    # A broken PNG chunk is a SyntaxError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} cannot be read as an image ({type(error).__name__})") from error
    largest = LARGEST_DEEP if deep else 255
    if values.min() < 0 or values.max() > largest:
        raise DataError(f"{path.name} has values from {values.min()} to {values.max()}; {EXPECTED_PIXELS}")
    values = largest - values if inverted else values
    if deep:
        _warn_of_unused_bits(path, int(values.max()))
    scaled = values.astype(np.float32) / largest
    return scaled if scaled.ndim == 3 else scaled[..., np.newaxis]


@cache
def _warn_of_unused_bits(path: Path, largest: int) -> None:
    """Once for each file, however often a benchmark reads it."""
    bits = largest.bit_length()
    if 0 < bits <= LEAST_BITS:
        logger.warning(
            "%s: values up to %d of %d, as of %d bits, so that its noise counts as weak and mostly stays: "
            "stretch it first, for example by %d",
            path.name,
            largest,
            LARGEST_DEEP,
            bits,
            2 ** (16 - bits),
        )


def _upright(image: Any, name: str) -> Any:
    from PIL import ImageOps

    image.load()  # here a fault of the pixels is not yet taken for one of the EXIF data
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error, TypeError, ValueError, KeyError, OSError):
        logger.warning("%s: its EXIF data cannot be read, so it is not turned", name)
        return image


def _shows_0_as_white(image: Any) -> bool:
    return bool(image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO)


def _is_mixed_up(image: Any) -> bool:
    """Whether Pillow would put the pixels of a lying TIFF file into the rows of a standing one."""
    if image.format != "TIFF":
        return False
    stored = image.tag_v2[IMAGE_WIDTH], image.tag_v2[IMAGE_LENGTH]
    return bool(image.size != stored and image.tile[0][0] == "raw")


def _is_stack(image: Any) -> bool:
    """Whether an image is animated, or a TIFF file has a second page that is no thumbnail."""
    if image.format in ANIMATED:
        return bool(getattr(image, "is_animated", False))
    if image.format != "TIFF" or image.n_frames == 1:
        return False
    size = image.size
    image.seek(1)
    second = image.size
    image.seek(0)
    return bool(second == size)


def _folder(data: Path, name: str) -> Path | None:
    has_separator = any(separator in name for separator in (os.sep, os.altsep) if separator)
    if has_separator or Path(name).is_absolute() or name in (os.curdir, os.pardir):
        return Path(name) if Path(name).is_dir() else None
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    exact = [path for path in folders if path.name.lower() == name.lower()]
    longer = [path for path in folders if path.name.lower().startswith(name.lower())]
    return next(iter(exact + longer), None)


def _name(folder: Path) -> str:
    """That of "." too."""
    return Path(os.path.abspath(folder)).name


def _pairs(folder: Path) -> ImageSet:
    files = image_files(folder)
    by_key = {path.relative_to(folder).as_posix().lower(): path for path in files}
    clean_of = _partners(by_key)
    pairs = [(path, clean_of[path]) for path in files if path in clean_of]
    if not pairs:
        shown = " or ".join(f"*{noisy}* beside *{clean}*" for noisy, clean in PAIR_NAMES)
        raise DataError(f"no pairs of noisy and clean images in {folder}; expected names such as {shown}")
    alone = [path for path in files if path not in clean_of and path not in clean_of.values()]
    if alone:
        names = ", ".join(path.relative_to(folder).as_posix() for path in alone[:SHOWN])
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        logger.warning("%s: left out, without a partner of their own: %s%s", folder.name, names, more)
    return ImageSet(_name(folder), tuple(clean for _, clean in pairs), tuple(noisy for noisy, _ in pairs))


def _partners(by_key: dict[str, Path]) -> dict[Path, Path]:
    """The clean image of each noisy one, each used once; one of the same format goes before others."""
    found: dict[Path, Path] = {}
    for find in (dict.get, _other_suffix):
        for key, path in by_key.items():
            candidates = [find(by_key, name) for name in _clean_names(key)]
            free = [each for each in candidates if each is not None and each not in found.values()]
            if free and path not in found:
                found[path] = free[0]
    return found


def _clean_names(key: str) -> list[str]:
    by_name = [key.replace(noisy, clean) for noisy, clean in PAIR_NAMES if noisy in key]
    parts = key.split("/")
    by_folder = [
        "/".join(clean if part == noisy else part for part in parts) for noisy, clean in PAIR_FOLDERS if noisy in parts
    ]
    return by_name + by_folder


def _other_suffix(by_key: dict[str, Path], key: str) -> Path | None:
    """CC and PolyU pairs may differ in their format."""
    stem = key.rsplit(".", 1)[0]
    return next((by_key[stem + suffix] for suffix in IMAGE_SUFFIXES if stem + suffix in by_key), None)
