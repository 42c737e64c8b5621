"""What a rule is: it sees one slice after the other, each with its source, and says at the end whether it was kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ctclip.dicom import CTSlice, sop_instance_uid
from ctclip.dicom.uids import printable_uid
from ctclip.verification.change import Change, change_of

__all__ = ["Check", "Every", "Finding", "Pair", "broken_slices", "of_both", "of_derived"]


@dataclass(frozen=True)
class Finding:
    """A rule and whether a series keeps it; ``detail`` says where it does not, without patient data."""

    rule: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Pair:
    """A derived slice, and its source where the source is at hand."""

    path: Path
    derived: CTSlice
    source_path: Path | None
    source: CTSlice | None

    @property
    def name(self) -> str:
        """What a message calls the derived slice."""
        return printable_uid(sop_instance_uid(self.derived.header))

    @cached_property
    def change(self) -> Change | None:
        """What was changed in the pixels; None where there is no source of the same size."""
        return None if self.source is None else change_of(self.derived, self.source)


class Check(Protocol):
    """A rule that sees one slice after the other."""

    def add(self, pair: Pair) -> None:
        """The next slice."""

    def finding(self) -> Finding:
        """What came out, after the last slice."""


class Every:
    """A rule that every slice must keep."""

    def __init__(self, rule: str, holds: Callable[[Pair], bool]) -> None:
        self._rule, self._holds = rule, holds
        self._broken, self._first = 0, ""

    def add(self, pair: Pair) -> None:
        """Ask whether it holds."""
        if not self._holds(pair):
            self._first = self._first or pair.name
            self._broken += 1

    def finding(self) -> Finding:
        """How many slices break it."""
        return Finding(self._rule, not self._broken, broken_slices(self._broken, self._first))


def broken_slices(count: int, first: str) -> str:
    """Which slices break a rule, in words; "" for none."""
    return f"{count} slices, the first is {first}" if count else ""


def of_derived(holds: Callable[[CTSlice], bool]) -> Callable[[Pair], bool]:
    """A rule that needs no source."""
    return lambda pair: holds(pair.derived)


def of_both(holds: Callable[[CTSlice, CTSlice], bool]) -> Callable[[Pair], bool]:
    """A rule on a derived slice and its source, which holds where there is none."""
    return lambda pair: pair.source is None or holds(pair.derived, pair.source)
