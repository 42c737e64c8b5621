"""What a scan finds in a folder: series of slices, and the files that belong to none, with a reason for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "DUPLICATE",
    "EMPTY",
    "IN_ZIP",
    "MADE_BY_CTCLIP",
    "SHARED_UID",
    "UNREADABLE",
    "Scan",
    "Series",
    "SkippedFile",
    "SliceFile",
    "UsedNumber",
]

UNREADABLE = "unreadable DICOM header"

EMPTY = "empty, or zeros where a DICOM file starts"
"""What a full disk or a broken transfer leaves of a slice."""

IN_ZIP = "zip file in a folder: unpacked only when it is given by itself"
"""Why an archive is skipped."""

DUPLICATE = "duplicate SOPInstanceUID"
"""Why a copy of a slice is skipped."""

MADE_BY_CTCLIP = "denoised by ctclip already; name it with --series to take it all the same"
"""Why an earlier result is left out; simulated low dose is not."""

SHARED_UID = "share their SOPInstanceUID with a different slice"
"""Why a series is, whose slices nobody can tell apart."""


@dataclass(frozen=True)
class SkippedFile:
    """A file that belongs to no CT series. ``reason`` holds no patient data; ``damaged``: perhaps a slice;
    ``series_uid`` and ``sop_instance_uid``: what it states, "" when its header cannot be read."""

    path: Path
    reason: str
    damaged: bool = False
    series_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True)
class SliceFile:
    """One slice of a CT series.

    ``position_mm`` is ImagePositionPatient along the slice normal. It is NaN, and rows and columns may be 0, when the
    header is damaged: such a slice is kept so that reading it fails loudly, rather than leaving a hole in the series.
    """

    path: Path
    sop_instance_uid: str
    position_mm: float
    instance_number: int | None
    rows: int
    columns: int


@dataclass(frozen=True)
class Series:
    """All slices of one SeriesInstanceUID.

    Attributes:
        uid: SeriesInstanceUID, or a stand-in that is reported in ``warnings`` when the files have none.
        series_number: the smallest SeriesNumber that a slice states.
        stacks: groups of slices with the same matrix, orientation, pixel spacing and frame of reference, each sorted by
            position along the normal (then InstanceNumber, then UID). The largest stack comes first, damaged slices
            last.
        study_uid: StudyInstanceUID, "" when missing.
        warnings: what is unusual, for information only.
        skip_reason: None for a series that is denoised by default, otherwise why it is not.
        selectable: whether the user may ask for the series in spite of ``skip_reason``.
        left_out: for each skipped CT image of this series that is no localizer, why it is: perhaps a slice, and a hole.
        made_by: what ctclip did last to it, see :func:`~ctclip.dicom.derivation.made_by`.
        failure: why denoising it fails, as far as the scan tells; "" when it knows nothing against it.
    """

    uid: str
    series_number: int | None
    stacks: tuple[tuple[SliceFile, ...], ...]
    study_uid: str
    warnings: tuple[str, ...] = ()
    skip_reason: str | None = None
    selectable: bool = True
    left_out: tuple[str, ...] = ()
    made_by: str = ""
    failure: str = ""

    @property
    def slices(self) -> tuple[SliceFile, ...]:
        """All slices, stack after stack."""
        return tuple(item for stack in self.stacks for item in stack)

    @property
    def slice_count(self) -> int:
        """Number of slices in all stacks."""
        return sum(len(stack) for stack in self.stacks)


class UsedNumber(NamedTuple):
    """A SeriesNumber in use: in which study, and by what, see :func:`~ctclip.dicom.derivation.made_by`."""

    study_uid: str
    number: int
    made_by: str = ""


@dataclass(frozen=True)
class Scan:
    """What a folder holds: series sorted by number and UID, skipped files sorted by path, all SeriesNumbers in use."""

    series: tuple[Series, ...]
    skipped: tuple[SkippedFile, ...]
    series_numbers: frozenset[UsedNumber]

    @property
    def usual(self) -> tuple[Series, ...]:
        """Series that are used unless others are named; where there is none, ctclip's own results: they are meant."""
        by_default = tuple(series for series in self.series if series.skip_reason is None)
        return by_default or tuple(series for series in self.series if series.skip_reason == MADE_BY_CTCLIP)

    def skip_summary(self) -> dict[str, int]:
        """Count the skipped files by reason, most frequent first."""
        counts = Counter(item.reason for item in self.skipped)
        return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
