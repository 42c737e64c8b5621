"""Denoised results of another tool, and which of them belongs to which pair of scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctclip.data.matching import common_positions, contradict, mismatch, place_of
from ctclip.data.pairs import ScanPair, read_pair, require_same_grid
from ctclip.data.series import read_series
from ctclip.data.volumes import Volume, is_volume_file, read_volume
from ctclip.dicom import SliceFile, scan
from ctclip.dicom.contents import DUPLICATE, SHARED_UID
from ctclip.errors import DataError
from ctclip.files import files_below
from ctclip.units import AIR_HU, PADDING_HU

HOLDS_AIR_HU = AIR_HU / 2
"""A scan that reaches lower holds air or lung, which no denoiser lifts to 0."""


class Predictions:
    """Denoised results of another tool, to be judged by the same measures.

    A DICOM series belongs to a pair when it has slices at all of its positions and agrees with the low-dose scan in
    patient, study, frame of reference and way of reconstruction. A volume does when it is called like the low-dose file
    and lies directly in the folder, or below it in one that is called like the low-dose file's own folder.

    Args:
        folder: searched recursively.

    Raises:
        SeriesError: when the folder is empty.
        DataError: when it holds the same slices twice.
    """

    def __init__(self, folder: Path) -> None:
        found = scan(folder)
        reasons = [*found.skip_summary(), *(series.skip_reason or "" for series in found.series)]
        if any(DUPLICATE in reason or SHARED_UID in reason for reason in reasons):
            raise DataError("predicted slices repeat a SOPInstanceUID; give the results of one tool only")
        self.folder = folder
        self.volumes = [path for path in files_below(folder) if is_volume_file(path)]
        self.stacks = [stack for series in found.series if series.selectable for stack in series.stacks]

    def read(self, pair: ScanPair) -> np.ndarray:
        """The result for a pair, slice by slice.

        Returns:
            (slices, rows, columns) in HU; -2000 where the pair is.

        Raises:
            DataError: when there is none, or more than one, a volume lies on another grid, or values are not finite or
            not in HU.
            SeriesError: when a slice cannot be read.
        """
        predicted = read_series(self._slices(pair)) if pair.is_dicom else self._volume(pair.low[0])
        if not np.isfinite(predicted.hu).all():
            raise DataError("the prediction holds values that are not finite numbers (NaN or infinite)")
        low_hu = read_pair(pair).low_hu
        outside = low_hu == PADDING_HU
        _require_hu_of_prediction(predicted.hu[~outside], low_hu[~outside])
        return np.where(outside, np.float32(PADDING_HU), predicted.hu)

    def _slices(self, pair: ScanPair) -> tuple[Path, ...]:
        fitting = [_slices_at(stack, pair) for stack in self.stacks]
        complete = [paths for paths in fitting if len(paths) == len(pair.low)]
        if len(complete) != 1:
            most = max(map(len, fitting), default=0)
            raise DataError(
                "expected one predicted series with the positions, kernel, patient and study of the low-dose scan, "
                f"found {len(complete)}; keep one result per scan in the folder (at most {most} of {len(pair.low)} "
                "slices fit)"
            )
        return complete[0]

    def _volume(self, low: Path) -> Volume:
        named = [path for path in self.volumes if path.name == low.name]
        near = [path for path in named if path.parent == self.folder or path.parent.name == low.parent.name]
        if len(near) != 1:
            raise DataError(
                f"expected one prediction called {low.name}, found {len(near)}; put it directly into the folder, or "
                "into one below it that is called like the folder of the low-dose file"
            )
        predicted = read_volume(near[0])
        require_same_grid(predicted, read_volume(low))
        return predicted


def _require_hu_of_prediction(predicted_hu: np.ndarray, low_hu: np.ndarray) -> None:
    """Other tools leave results in [0, 1]. A crop without air may well have no value below 0 when it is denoised."""
    if predicted_hu.size and predicted_hu.min() >= 0 and low_hu.min() < HOLDS_AIR_HU:
        raise DataError(
            f"the prediction is not in HU: found {predicted_hu.min():g} to {predicted_hu.max():g} where the low dose "
            f"has {low_hu.min():g} to {low_hu.max():g}; save it in HU"
        )


def _slices_at(stack: Sequence[SliceFile], pair: ScanPair) -> tuple[Path, ...]:
    """The slices at the pair's positions; none when they do not belong to the pair."""
    places = common_positions(pair.positions_mm, [item.position_mm for item in stack])
    if not places:
        return ()
    low, predicted = pair.low[places[0][0]], stack[places[0][1]].path
    one, other = place_of(low), place_of(predicted)
    if contradict(one.study_uid, other.study_uid) or contradict(one.frame_uid, other.frame_uid):
        return ()
    return () if mismatch(low, predicted) else tuple(stack[index].path for _, index in places)
