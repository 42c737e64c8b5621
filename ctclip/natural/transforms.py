"""Loading and saving of photographs for MONAI: as ``ctclip denoise`` reads and writes them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils.enums import TransformBackends

from ctclip.errors import ConfigError
from ctclip.files import require_new_file
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
        self.root, self.folder = Path(data_root_dir), Path(output_dir)
        self.source_key, self.overwrite = source_key, overwrite

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        source = Path(data[self.source_key])
        target = self.folder / source.relative_to(self.root)
        if self.folder.resolve().is_relative_to(self.root.resolve()):
            raise ConfigError("the output lies inside the input, which is never modified; choose another output_dir")
        require_new_file(source, target, overwrite=self.overwrite, another="output_dir", option="--overwrite True")
        for key in self.key_iterator(dict(data)):
            image = torch.as_tensor(data[key]).detach().cpu().float().numpy()
            write_like(source, target, np.clip(np.moveaxis(image, 0, -1), 0, 1))
        return dict(data)
