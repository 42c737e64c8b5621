"""What an earlier run has left where a series is to be written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ctclip.dicom import Denoising, Series, derived_instance_uid, derived_series_uid
from ctclip.dicom.uids import instance_uids
from ctclip.pipeline.job import SeriesJob

__all__ = ["Earlier", "EarlierResult", "earlier_result"]


class Earlier(Enum):
    """What there is, by what becomes of it."""

    NONE = auto()
    """Nothing: the series is made."""

    COMPLETE = auto()
    """A result of all slices, which is kept."""

    LACKING = auto()
    """A result that lacks something, which is made again."""

    FOREIGN = auto()
    """What is replaced only when the user says so: slices that are no longer in the export, or, when the run does not
    resume an earlier one, whatever it is."""


@dataclass(frozen=True)
class EarlierResult:
    """What there is, and for :attr:`Earlier.LACKING` what it has instead of what it should have."""

    state: Earlier
    has: str = ""


def earlier_result(series: Series, job: SeriesJob, derivation: Denoising) -> EarlierResult:
    """Look for a result of the same series, model and settings; nothing is written.

    Args:
        series: the source.
        job: where to look, and whether to resume what is there.
        derivation: model and settings.
    """
    derived = derived_series_uid(series.uid, derivation)
    final = job.target / derived
    if not final.exists():
        return EarlierResult(Earlier.NONE)
    if not job.resume or not final.is_dir():
        return EarlierResult(Earlier.FOREIGN)
    expected = {derived_instance_uid(item.sop_instance_uid, derivation) for item in series.slices}
    found = instance_uids(final)
    whole = {uid for uid, complete in found.items() if complete}
    if not found.keys() <= expected:
        return EarlierResult(Earlier.FOREIGN)
    if whole != expected:
        return EarlierResult(Earlier.LACKING, f"{len(whole)} of now {series.slice_count} slices")
    if job.qc_folder is not None and not (job.qc_folder / f"{derived}.json").exists():
        return EarlierResult(Earlier.LACKING, "no quality report")
    return EarlierResult(Earlier.COMPLETE)
