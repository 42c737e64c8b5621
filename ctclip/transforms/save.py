"""Saving of denoised CT for MONAI: a volume as a volume, a DICOM series as a derived series."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils.enums import TransformBackends

from ctclip import __version__
from ctclip.atomic import atomic_folder, require_replaceable
from ctclip.backend import pixel_settings
from ctclip.data.scans import paths_of
from ctclip.data.volumes import is_volume_file, read_volume, write_volume
from ctclip.dicom import (
    CTSlice,
    Denoising,
    derived_series_number,
    derived_series_uid,
    read_slice,
    source_series_uid,
    write_derived_slices,
)
from ctclip.dicom.lenient import int_of
from ctclip.dicom.write import SLICE_FILES
from ctclip.errors import ConfigError, DataError, SeriesError
from ctclip.files import require_new_file
from ctclip.hu_window import require_finite_result
from ctclip.settings import EAGER
from ctclip.strength import DEFAULT_STRENGTH, find_strength
from ctclip.units import MODEL_HU_WINDOW, HUWindow


class SaveImageCTd(MapTransform):
    """Writes (1, X, Y, Z) volumes in HU in the form that they were read from.

    A volume file becomes a file of the same name, format and data type, in the same folder below ``output_dir`` as the
    source has below ``data_root_dir``, its axes in the order of the source; two sources are never written to one file.
    A DICOM series becomes a derived
    series, ``<output_dir>/<derived SeriesInstanceUID>/0001.dcm ...``, with the same elements as those of ``ctclip
    denoise``. Integers are rounded and clipped, never wrapped; nothing incomplete keeps a final name. A volume must
    have the grid of its source: another number of slices, rows or columns is a DataError, and so are values that are
    not finite.

    Args:
        keys: the one item with the volume in HU; two would be written to one place.
        source_key: item with the file name, or the file names of the DICOM slices, that the volume was read from.
        output_dir: where to write; made when missing.
        model_name: for the derivation.
        model_sha256: what identifies the model, see :class:`~ctclip.weights.LoadedModel`.
        strength: that the volumes were blended with, see :func:`ctclip.strength.find_strength`.
        precision: "fp32" or "bf16"; part of what identifies a derived series.
        backend: what ran the network, see :func:`~ctclip.backend.find_backend`; part of it too.
        hu_window: what the network sees as [0, 1].
        overwrite: replace earlier results.
        data_root_dir: the folder, or the file in it, that the volumes were found in; ``None`` keeps their names alone,
            as for a volume that lies elsewhere.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        ConfigError: for more than one key, an unknown strength, a precision or a backend that is unknown or "auto", and
            for a window that is empty, upside down or not finite.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str,
        output_dir: str,
        model_name: str,
        model_sha256: str,
        strength: str | float = DEFAULT_STRENGTH,
        precision: str = "fp32",
        backend: str = EAGER,
        hu_window: HUWindow = MODEL_HU_WINDOW,
        overwrite: bool = False,
        data_root_dir: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) > 1:
            raise ConfigError(
                f"SaveImageCTd writes one volume for each source, found the keys {', '.join(map(str, self.keys))}; "
                "give each a SaveImageCTd with an output_dir of its own"
            )
        self.source_key, self.folder, self.overwrite = source_key, Path(output_dir), overwrite
        self.root = None if data_root_dir is None else _folder(Path(data_root_dir))
        self.sources: dict[Path, Path] = {}  # of the files written so far, or to be written
        self.derivation = Denoising(
            model_name=model_name,
            model_sha256=model_sha256,
            strength=find_strength(strength),
            hu_window=hu_window,
            parameters=pixel_settings(precision, backend),
            version=__version__,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sources = paths_of(data[self.source_key])
        for key in self.key_iterator(dict(data)):
            volume_hu = _slices_of(data[key])
            if _is_one_volume(sources):
                self._save_volume(volume_hu, sources[0])
            else:
                self._save_series(volume_hu, sources)
        return dict(data)

    def require_new(self, scans: Iterable[Sequence[str | os.PathLike] | str | os.PathLike]) -> None:
        """Refuse, before a network has run, scans whose results could not be written.

        Args:
            scans: for each the file name, or the file names of its DICOM slices.

        Raises:
            ConfigError: when the result of one of them exists and is not to be replaced, or cannot be.
            DataError: when two volumes would be written to one file.
        """
        for paths in map(paths_of, scans):
            if _is_one_volume(paths):
                self._new_file(paths[0])
            else:
                self._require_new_folder(paths)

    def _new_file(self, source: Path) -> Path:
        target = self._target(source)
        require_new_file(source, target, overwrite=self.overwrite, another="output_dir", option="--overwrite True")
        self.sources[target] = source
        return target

    def _require_new_folder(self, paths: Sequence[Path]) -> None:
        try:
            first = read_slice(paths[0]).header
        except SeriesError:  # which the run tells when it comes to this series
            return
        folder = self._folder_of(first)
        if self.overwrite:
            require_replaceable(folder, SLICE_FILES)
        elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ConfigError(f"{folder} exists; give --overwrite True to replace it")

    def _folder_of(self, first: pydicom.Dataset) -> Path:
        return self.folder / derived_series_uid(source_series_uid(first), self.derivation)

    def _save_volume(self, volume_hu: np.ndarray, source: Path) -> None:
        target = self._new_file(source)
        # Read again: type, order of axes and header are nothing that MONAI's meta data hold.
        original = read_volume(source)
        if volume_hu.shape != original.hu.shape:
            raise DataError(
                f"the volume has {volume_hu.shape} slices, rows and columns, its source {original.hu.shape}; bring it "
                "back to the grid of its file first, with Invertd"
            )
        require_finite_result(volume_hu)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_volume(target, replace(original, hu=volume_hu))

    def _target(self, source: Path) -> Path:
        place = Path(os.path.abspath(source))
        name = Path(source.name)
        if self.root is not None and place.is_relative_to(self.root):
            name = place.relative_to(self.root)
        target = self.folder / name
        if self.sources.get(target, source) != source:
            raise DataError(
                f"two volumes would be written to {target}; put them into different folders below dataset_dir, or "
                "below the folder of the list"
            )
        return target

    def _save_series(self, volume_hu: np.ndarray, sources: list[Path]) -> None:
        if len(volume_hu) != len(sources):
            raise DataError(f"the volume has {len(volume_hu)} slices, its series {len(sources)}")
        first = read_slice(sources[0]).header
        number = derived_series_number(int_of(first, "SeriesNumber"))
        with atomic_folder(self._folder_of(first), replaces=SLICE_FILES if self.overwrite else None) as folder:
            slices = _with_source(sources, volume_hu)
            for _ in write_derived_slices(slices, folder, self.derivation, series_number=number):
                pass


def _is_one_volume(paths: Sequence[Path]) -> bool:
    return len(paths) == 1 and is_volume_file(paths[0])


def _slices_of(image: NdarrayOrTensor) -> np.ndarray:
    """(1, X, Y, Z) as (slices, rows, columns)."""
    if image.ndim != 4 or image.shape[0] != 1:
        raise DataError(f"expected a volume with one channel, (1, X, Y, Z), found shape {tuple(image.shape)}")
    return torch.as_tensor(image).detach().cpu().float().numpy()[0].T


def _folder(data: Path) -> Path:
    """Absolute and without "..", but with the links that lead to the volumes."""
    return Path(os.path.abspath(data.parent if data.is_file() else data))


def _with_source(sources: list[Path], volume_hu: np.ndarray) -> Iterator[tuple[CTSlice, np.ndarray]]:
    for source, hu in zip(sources, volume_hu, strict=True):
        yield read_slice(source), hu
