from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctclip.data.volumes import Volume, read_volume, write_volume
from ctclip.errors import DataError
from ctclip.transforms import SaveImageCTd
from ctclip.transforms.load import CTReader


def test_a_folder_is_answered_with_what_lists_its_slices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found a folder, .* ctclip.data.sources.find_items makes that list"):
        CTReader().read(str(tmp_path))


def test_a_volume_of_another_grid_than_its_file_is_not_saved(tmp_path: Path) -> None:
    source = tmp_path / "ct.nii.gz"
    write_volume(source, Volume(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), np.dtype(np.int16)))
    save = SaveImageCTd("pred", "source", str(tmp_path / "out"), model_name="any", model_sha256="")
    with pytest.raises(DataError, match=r"has \(3, 4, 6\) slices, rows and columns, its source \(3, 4, 5\); .*Invertd"):
        save({"pred": torch.zeros(1, 6, 4, 3), "source": str(source)})
    assert not (tmp_path / "out").exists()
    save({"pred": torch.full((1, 5, 4, 3), 7.0), "source": str(source)})
    assert (read_volume(tmp_path / "out" / "ct.nii.gz").hu == 7).all()
