"""A small export and a network that costs nothing: what is tested are files, threads and processes."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from ctclip.demo import write_ct_series
from ctclip.phantom import body_phantom_hu, low_dose

SERIES = 3


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Three series of two slices, in the folders 0, 1 and 2."""
    for number in range(SERIES):
        folder = tmp_path / "in" / str(number)
        write_ct_series(folder, low_dose(body_phantom_hu(2, 64), 30))
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID += f".{number}"
            dataset.SeriesNumber = 70 + number
            dataset.SOPInstanceUID += f".{number}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
    return tmp_path / "in"
