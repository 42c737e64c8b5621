"""All rules on one derived series, a slice and its source at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ctclip.dicom import Series, opened_export, read_slice, scan
from ctclip.dicom.contents import Scan
from ctclip.errors import CtclipError, SeriesError
from ctclip.files import is_of_the_system
from ctclip.verification import dciodvfy
from ctclip.verification.checks import Check, Finding, Pair
from ctclip.verification.elements import checks_of_elements
from ctclip.verification.pixels import checks_of_pixels
from ctclip.verification.sources import Complete, NewUIDs, slices_by_uid, source_uid
from ctclip.verification.statements import checks_of_statements

__all__ = ["check_against", "check_series"]

DECODED = "every slice can be decoded"


def check_series(derived: Path, source: Path | None = None) -> list[Finding]:
    """Check a derived series, by itself and against its source; holds one slice and its source at a time.

    Args:
        derived: folder of the series.
        source: folder or file that holds the source slices, and may hold others.

    Returns:
        one finding per rule.

    Raises:
        SeriesError: when the folder holds no series, or several, or when a source slice cannot be read.
    """
    if source is None:
        return check_against(derived, None)
    with opened_export(source) as found:
        return check_against(derived, found.series)


def check_against(derived: Path, sources: Sequence[Series] | None) -> list[Finding]:
    """As :func:`check_series`, for a source that has been scanned already, or for none."""
    paths, only_slices = _only_series(derived)
    files = slices_by_uid(sources or ())
    own = checks_of_statements()
    complete = None if sources is None else Complete(sources)
    compared: list[Check] = []
    if sources is not None:
        compared = [NewUIDs(sources), *checks_of_elements(), *checks_of_pixels()]
    validated: list[Check] = [_Validated()] if dciodvfy.is_installed() else []
    checks = (*own, *([complete] if complete else []), *compared, *validated)
    try:
        for path in paths:
            _check_slice(path, files, checks)
    except _UnreadableError as error:
        return [only_slices, Finding(DECODED, False, str(error))]
    findings = [only_slices, Finding(DECODED, True), *(check.finding() for check in own)]
    if complete:
        findings += complete.findings()
        # without its sources nothing can be said of a series
        findings += [check.finding() for check in compared if complete.has_sources]
    return findings + [check.finding() for check in validated]


def _check_slice(path: Path, files: Mapping[str, Path], checks: Iterable[Check]) -> None:
    """Show one slice to every check; nothing of its size stays in memory."""
    try:
        ct = read_slice(path)
    except CtclipError as error:
        raise _UnreadableError(str(error)) from None
    source_path = files.get(source_uid(ct.header))
    pair = Pair(path, ct, source_path, None if source_path is None else read_slice(source_path))
    for check in checks:
        check.add(pair)


class _UnreadableError(Exception):
    """A slice of the derived series cannot be decoded."""


def _only_series(folder: Path) -> tuple[list[Path], Finding]:
    """The slices of the series, and whether there is nothing else beside them: it may be a slice that was lost."""
    found = scan(folder)
    if len(found.series) != 1:
        raise SeriesError(_not_one_series(found))
    paths = [item.path for item in found.series[0].slices]
    places = {path.parent for path in paths}
    beside = [item for item in found.skipped if item.path.parent in places and not is_of_the_system(item.path.name)]
    others = Counter(item.reason for item in beside)
    return paths, Finding("every file in the folder is a slice of the series", not others, _counted(others))


def _not_one_series(found: Scan) -> str:
    skipped = _counted(found.skip_summary()) if not found.series else ""
    reasons = f": {skipped}" if skipped else ""
    return f"expected the folder of one derived series, found {len(found.series)} series{reasons}"


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())


class _Validated:
    """No error of dciodvfy that the source does not have already: sources fail too."""

    def __init__(self) -> None:
        self._detail = ""

    def add(self, pair: Pair) -> None:
        if self._detail:
            return
        new = dciodvfy.new_errors(pair.path, pair.source_path)
        if new:
            self._detail = f"slice {pair.name}: {new[0]}"

    def finding(self) -> Finding:
        return Finding("dciodvfy finds no new errors", not self._detail, self._detail)
