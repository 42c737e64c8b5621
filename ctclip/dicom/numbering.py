"""SeriesNumbers of derived series: none twice in a study, and the same in the next run."""

from __future__ import annotations

from collections import defaultdict

from ctclip.dicom.contents import Scan
from ctclip.dicom.derivation import DENOISED_BY

__all__ = ["derived_series_number", "derived_series_numbers"]

SERIES_NUMBER_OFFSET = 1000
"""A derived series is numbered its source's number plus this: far from the numbers that scanners give, and easy to
read."""

MAX_SERIES_NUMBER = 2**31 - 1
"""Largest number that an Integer String holds (PS3.5 6.2)."""


def derived_series_number(source_number: int | None, taken: frozenset[int] = frozenset()) -> int:
    """Return the first free SeriesNumber from the source's number plus 1000 on, from 1000 on without a source number.

    Args:
        source_number: SeriesNumber of the source, None when it has none.
        taken: numbers in use in the study.
    """
    number = (source_number or 0) + SERIES_NUMBER_OFFSET
    if not 0 < number <= MAX_SERIES_NUMBER:
        number = SERIES_NUMBER_OFFSET
    while number in taken:
        number = number + 1 if number < MAX_SERIES_NUMBER else SERIES_NUMBER_OFFSET
    return number


def derived_series_numbers(found: Scan, made_by: str = DENOISED_BY) -> dict[str, int]:
    """SeriesNumber of what is derived from each series of an export, by its UID.

    No two of one study are equal, nor equal to one that another series of the study has. Earlier results of the same
    kind do not count, and all other series do, whichever are processed: a series has the same number in every run, as
    long as the study gains no other series with that number.

    Args:
        found: the export.
        made_by: the kind of the results, a start of their DerivationDescription.
    """
    taken: dict[str, set[int]] = defaultdict(set)
    for used in found.series_numbers:
        if used.made_by != made_by:
            taken[used.study_uid].add(used.number)
    numbers: dict[str, int] = {}
    for series in sorted(found.series, key=lambda series: series.made_by == made_by):  # earlier results come last
        in_study = taken[series.study_uid]
        numbers[series.uid] = derived_series_number(series.series_number, frozenset(in_study))
        in_study.add(numbers[series.uid])
    return numbers
