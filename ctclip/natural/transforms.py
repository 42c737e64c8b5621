"""Loading and saving of photographs for MONAI: as ``ctclip denoise`` reads and writes them."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils.enums import TransformBackends

from ctclip.errors import ConfigError, DataError
from ctclip.files import require_new_file
from ctclip.hu_window import require_finite_result
from ctclip.natural.files import write_like
from ctclip.natural.methods import RGB_CHANNELS
from ctclip.natural.sets import read_image


class LoadPhotographd(MapTransform):
    """Reads image files with :func:`~ctclip.natural.sets.read_image`, as (C, rows, columns) float32 in [0, 1].

    Args:
        keys: items with a file name.
        rgb: make grey images RGB; without it they keep their one channel.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, keys: KeysCollection, rgb: bool = False, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rgb = rgb

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            image = np.moveaxis(read_image(Path(loaded[key])), -1, 0)
            repeats = RGB_CHANNELS if self.rgb and len(image) == 1 else 1
            loaded[key] = torch.from_numpy(np.repeat(image, repeats, axis=0))
        return loaded


class SavePhotographd(MapTransform):
    """Writes (C, rows, columns) in [0, 1] under the name of the image that it was read from, in its format and depth.

    What lies beyond [0, 1] is clipped. An image must have the rows and columns of its source, and 1 or 3 channels:
    others are a DataError, and so are values that are not finite, and a source outside ``data_root_dir``.

    Args:
        keys: images to write.
        source_key: item with the file name that the image was read from.
        data_root_dir: the folder that holds the sources; folders below it are kept.
        output_dir: where to write; made when missing.
        overwrite: replace earlier results.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str,
        data_root_dir: str,
        output_dir: str,
        overwrite: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.root, self.folder = Path(os.path.abspath(data_root_dir)), Path(output_dir)
        self.source_key, self.overwrite = source_key, overwrite

    def require_new(self, sources: Iterable[str | os.PathLike]) -> None:
        """Refuse, before a network has run, images whose results could not be written.

        Args:
            sources: their file names.

        Raises:
            ConfigError: when the result of one of them exists and is not to be replaced, or cannot be.
        """
        for source in sources:
            self._new_file(Path(source))

    def _new_file(self, source: Path) -> Path:
        target = self.folder / self._below_root(source)
        if self.folder.resolve().is_relative_to(self.root.resolve()):
            raise ConfigError("the output lies inside the input, which is never modified; choose another output_dir")
        require_new_file(source, target, overwrite=self.overwrite, another="output_dir", option="--overwrite True")
        return target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        source = Path(data[self.source_key])
        target = self._new_file(source)
        for key in self.key_iterator(dict(data)):
            image = torch.as_tensor(data[key]).detach().cpu().float().numpy()
            _require_shape_of(source, image)
            require_finite_result(image)
            write_like(source, target, np.clip(np.moveaxis(image, 0, -1), 0, 1))
        return dict(data)

    def _below_root(self, source: Path) -> Path:
        place = Path(os.path.abspath(source))
        if not place.is_relative_to(self.root):
            raise DataError(
                f"{source.name} does not lie below data_root_dir, {self.root}; give the folder that holds all images"
            )
        return place.relative_to(self.root)


def _require_shape_of(source: Path, image: np.ndarray) -> None:
    size = read_image(source).shape[:2]
    if image.ndim != 3 or image.shape[0] not in (1, RGB_CHANNELS) or image.shape[1:] != size:
        raise DataError(
            f"the result has shape {image.shape}, expected 1 or {RGB_CHANNELS} channels of {size}, the rows and "
            f"columns of {source.name}; bring it back to them first"
        )
