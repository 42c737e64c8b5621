"""Images and CT series for the feature analysis, and the noise that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ctclip.data.images import IMAGE_SUFFIXES
from ctclip.errors import ConfigError, DataError
from ctclip.features.study import AddNoise
from ctclip.files import files_below
from ctclip.hu_window import hu_to_unit
from ctclip.natural.noise import parse_noise
from ctclip.natural.sets import read_image
from ctclip.units import MODEL_HU_WINDOW

IMAGE_NOISE = ("gaussian:15,25,50", "spatial:55", "poisson:3.5", "speckle:.04", "saltpepper:.02", "mixture:4")
CT_NOISE = ("white:20,80", "correlated:20,40,80")
"""What is tested unless asked for otherwise."""

CT_FAMILIES = ("white", "correlated")
"""Noise of CT, levels in HU: white, and with the spectrum of filtered back-projection."""


def holds_images(source: Path) -> bool:
    """Whether a file or folder holds photographs rather than CT.

    Raises:
        DataError: for a folder with both: beside CT an image is most likely a picture of it.
    """
    if source.is_file():
        return source.suffix.lower() in IMAGE_SUFFIXES
    files = files_below(source)
    images = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in files)
    ct = sum(_is_ct(path) for path in files) if images else 0
    if ct:
        raise DataError(
            f"{source} holds {images} images beside {ct} DICOM files or CT volumes; give a folder with one of the two"
        )
    return images > 0


def _is_ct(path: Path) -> bool:
    """By the name of a volume, or the content of DICOM, whose names mean nothing."""
    from ctclip.data.volumes import is_volume
    from ctclip.dicom import is_dicom_file

    return is_volume(path) or is_dicom_file(path)


def read_photographs(source: Path, count: int) -> dict[str, np.ndarray]:
    """``count`` images by name, evenly spread over a folder; (rows, columns, channels) in [0, 1].

    Raises:
        DataError: for a single image, or one that cannot be read.
    """
    from ctclip.natural.sets import find_sets

    if source.is_file():
        raise DataError(f"{source.name} is one image; expected a folder with at least 2, to compare different ones")
    sets, _ = find_sets(source, [str(source.absolute())])
    return {path.relative_to(source.absolute()).as_posix(): read_image(path) for path in sets[0].spread(count).clean}


def read_ct(source: Path, count: int) -> list[np.ndarray]:
    """``count`` slices, evenly spread over the first series; (rows, columns, 1) with the models' HU window as [0, 1].

    Raises:
        DataError: when there is no CT, or its values are not HU.
    """
    volume_hu = _first_volume_hu(source)
    chosen = np.linspace(0, len(volume_hu) - 1, min(count, len(volume_hu))).round().astype(int)
    return [hu_to_unit(volume_hu[index], MODEL_HU_WINDOW)[..., np.newaxis] for index in chosen]


def _first_volume_hu(source: Path) -> np.ndarray:
    """(slices, rows, columns)."""
    from ctclip.data.scans import paths_of, read_scan
    from ctclip.data.sources import find_items

    return read_scan(paths_of(find_items(source)[0]["image"]), name_in_errors=True).hu


def noise_for_photographs(texts: Sequence[str]) -> dict[str, AddNoise]:
    """Noise of :mod:`ctclip.natural.noise` by title."""
    return {noise.title: noise.add_to for noise in parse_noise(texts or IMAGE_NOISE)}


def noise_for_ct(texts: Sequence[str]) -> dict[str, AddNoise]:
    """Noise such as ``white:80`` or ``correlated:20,40``, in HU, by title.

    Raises:
        ConfigError: for other families or levels.
    """
    found: dict[str, AddNoise] = {}
    for text in texts or CT_NOISE:
        family, _, levels = text.partition(":")
        try:
            sds_hu = [float(level) for level in levels.split(",")]
        except ValueError:
            sds_hu = []
        if family not in CT_FAMILIES or not sds_hu or not all(0 < sd_hu < np.inf for sd_hu in sds_hu):
            raise ConfigError(f"noise of CT is white:SD or correlated:SD with the SD in HU above 0, found {text!r}")
        for sd_hu in sds_hu:
            found[f"{family}, {sd_hu:g} HU"] = partial(_add_ct_noise, family=family, sd_hu=sd_hu)
    return found


def _add_ct_noise(image: np.ndarray, *, family: str, sd_hu: float) -> np.ndarray:
    """Of even level: it is the same in every part of a slice that is looked at."""
    import torch

    from ctclip.simulation.correlated import correlated_noise

    low, high = MODEL_HU_WINDOW
    sd = sd_hu / (high - low)
    if family == "white":
        return image + np.random.RandomState(0).normal(0, sd, image.shape)
    noise = correlated_noise(image.shape[:2], generator=torch.Generator().manual_seed(0)).numpy()
    return image + sd * noise[..., np.newaxis]
