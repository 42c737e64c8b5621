"""Which source slice a derived one comes from, and whether each has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from ctclip.dicom import Series, frame_uid
from ctclip.dicom.lenient import int_of, items_of, text_of
from ctclip.verification.checks import Finding, Pair, broken_slices

__all__ = ["Complete", "NewUIDs", "slices_by_uid", "source_uid"]

IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID")


def slices_by_uid(sources: Sequence[Series]) -> dict[str, Path]:
    """The file of each source slice."""
    return {item.sop_instance_uid: item.path for series in sources for item in series.slices}


def source_uid(header: Dataset) -> str:
    """The SOPInstanceUID under which ctclip reads what a derived slice names as its source."""
    item = next(iter(items_of(header, "SourceImageSequence")), Dataset())
    uid, frame = text_of(item, "ReferencedSOPInstanceUID"), int_of(item, "ReferencedFrameNumber")
    return frame_uid(uid, frame) if frame else uid


class Complete:
    """One derived slice for each slice of the source series, and the other way round."""

    def __init__(self, sources: Sequence[Series]) -> None:
        self._sources = sources
        self._named: list[str] = []
        self._missing = 0

    def add(self, pair: Pair) -> None:
        """Note what it names."""
        self._named.append(source_uid(pair.derived.header))
        self._missing += pair.source is None

    @property
    def has_sources(self) -> bool:
        """Whether every slice so far has a source slice of its own."""
        return not self._missing and not self._shared

    @property
    def _shared(self) -> int:
        return len(self._named) - len(set(self._named))

    def finding(self) -> Finding:
        """Whether every slice has its own."""
        faults = {
            "named source slices are not in the source": self._missing,
            "slices name the one that another names": self._shared,
        }
        detail = "; ".join(f"{count} of {len(self._named)} {fault}" for fault, count in faults.items() if count)
        return Finding("every slice has its own source slice", self.has_sources, detail)

    def findings(self) -> list[Finding]:
        """Both directions; the second only where the first holds."""
        return [self.finding(), *([self._nothing_left_out()] if self.has_sources else [])]

    def _nothing_left_out(self) -> Finding:
        named = set(self._named)
        by_series = ({item.sop_instance_uid for item in series.slices} for series in self._sources)
        left_out = sum(len(slices - named) for slices in by_series if slices & named)
        detail = f"{left_out} source slices have none" if left_out else ""
        return Finding("every slice of the source series has a derived slice", not left_out, detail)


class NewUIDs:
    """UIDs that no slice and no series of the source has."""

    def __init__(self, sources: Sequence[Series]) -> None:
        # an export may hold the derived series as well
        others = [series for series in sources if not series.made_by]
        self._taken = {series.uid for series in others} | set(slices_by_uid(others))
        self._broken, self._first = 0, ""

    def add(self, pair: Pair) -> None:
        """Compare the UIDs of a slice."""
        own = {} if pair.source is None else {name: text_of(pair.source.header, name) for name in IDENTITY}
        stated = {name: text_of(pair.derived.header, name) for name in IDENTITY}
        if any(uid in self._taken or uid == own.get(name) for name, uid in stated.items()):
            self._first = self._first or pair.name
            self._broken += 1

    def finding(self) -> Finding:
        """How many slices have an old one."""
        rule = "SOPInstanceUID and SeriesInstanceUID are new"
        return Finding(rule, not self._broken, broken_slices(self._broken, self._first))
