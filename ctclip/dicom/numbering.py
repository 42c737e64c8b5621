"""SeriesNumbers of derived series: none twice in a study, the same in every run."""

from __future__ import annotations

from ctclip.dicom.scan import Scan

__all__ = ["derived_series_number", "derived_series_numbers"]

SERIES_NUMBER_OFFSET = 1000
"""A derived series is numbered its source's number plus this: far from the numbers that scanners give, and easy to
read."""

MAX_SERIES_NUMBER = 2**31 - 1
"""Largest number that an Integer String holds (PS3.5 6.2)."""


def derived_series_number(source_number: int | None, taken: frozenset[int]) -> int:
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


def derived_series_numbers(found: Scan) -> dict[str, int]:
    """SeriesNumber of what is derived from each series of an export, by its UID.

    No two of one study are equal, nor equal to one that the export holds. All series count, whichever are processed, so
    that a series has the same number in every run.
    """
    numbers: dict[str, int] = {}
    by_study: dict[str, set[int]] = {}
    for series in found.series:
        given = by_study.setdefault(series.study_uid, set())
        numbers[series.uid] = derived_series_number(series.series_number, found.series_numbers | given)
        given.add(numbers[series.uid])
    return numbers
