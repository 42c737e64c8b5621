"""Which series of an export are denoised."""

from __future__ import annotations

from collections.abc import Sequence

from ctclip.data.detached import how_to_convert
from ctclip.data.images import IMAGE_SUFFIXES, other_formats
from ctclip.data.volumes import is_volume
from ctclip.dicom import Scan, Series
from ctclip.dicom.derivation import DENOISED_BY
from ctclip.errors import ConfigError, SeriesError

ALL = "all"
"""In place of UIDs: every series that can be denoised."""


def choose_series(found: Scan, wanted: Sequence[str]) -> list[Series]:
    """The series to denoise: by default all axial CT series; ``["all"]`` adds the ones that are off by default.

    Args:
        found: of the input.
        wanted: SeriesInstanceUIDs, or "all", or both, or nothing.

    Raises:
        ConfigError: when a UID is empty.
        SeriesError: when a UID is not there or can never be denoised, or when nothing is left to denoise.
    """
    by_uid = {series.uid: series for series in found.series}
    if "" in wanted:
        raise ConfigError(f"--series is empty; expected a SeriesInstanceUID or {ALL!r}. Is a variable not set?")
    asked = [uid for uid in dict.fromkeys(wanted) if uid != ALL]
    missing = [uid for uid in asked if uid not in by_uid]
    if missing:
        raise SeriesError(f"series {missing[0]} is not in the input; 'ctclip denoise SRC DST --dry-run' lists what is")
    unusable = [by_uid[uid] for uid in asked if not by_uid[uid].selectable]
    if unusable:
        raise SeriesError(f"series {unusable[0].uid} cannot be denoised: {unusable[0].skip_reason}")
    if ALL in wanted:
        repeated = {series.uid for series in found.series if series.made_by == DENOISED_BY} - set(asked)
        chosen = [series for series in found.series if series.selectable and series.uid not in repeated]
    elif asked:
        chosen = [by_uid[uid] for uid in asked]
    else:
        chosen = [series for series in found.series if series.skip_reason is None]
    if not chosen:
        reasons = [f"{count} x {reason}" for reason, count in found.skip_summary().items()]
        reasons += [f"series of {series.slice_count} slices: {series.skip_reason}" for series in found.series]
        if any(is_volume(item.path) for item in found.skipped):
            reasons.append("volumes are taken one at a time: give the file")
        remedy = how_to_convert(item.path for item in found.skipped)
        if remedy:
            reasons.append(remedy)
        if any(item.path.suffix.lower() in IMAGE_SUFFIXES for item in found.skipped):
            reasons.append("photographs are taken from a folder that holds nothing else, or give the file")
        others = other_formats(item.path for item in found.skipped)
        if others:
            reasons.append(f"pictures are read from {', '.join(IMAGE_SUFFIXES)}, not from {', '.join(others)}")
        raise SeriesError(f"no axial CT series in the input; found {'; '.join(reasons) or 'no DICOM files'}")
    return chosen
