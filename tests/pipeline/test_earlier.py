"""What an earlier run has left, and what becomes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ctclip.dicom import derived_series_uid, read_slice, scan, write_derived_slices
from ctclip.pipeline import SeriesJob
from ctclip.pipeline.earlier import Earlier, EarlierResult, earlier_result
from tests.dicom.fake import fake_derivation, write_stack


def test_what_is_made_again_is_told_from_what_is_kept_and_what_is_not_replaced_unasked(tmp_path: Path) -> None:
    paths = write_stack(tmp_path / "in", [0, 2])
    series, derivation = scan(tmp_path / "in").series[0], fake_derivation()
    job = SeriesJob(tmp_path / "out", 1, resume=True)
    folder = job.target / derived_series_uid(series.uid, derivation)
    assert earlier_result(series, job, derivation) == EarlierResult(Earlier.NONE)
    folder.mkdir(parents=True)
    assert earlier_result(series, job, derivation) == EarlierResult(Earlier.LACKING, "0 of now 2 slices")
    slices = ((ct, ct.hu) for ct in map(read_slice, paths))
    assert len(list(write_derived_slices(slices, folder, derivation, series_number=9))) == 2
    assert earlier_result(series, job, derivation) == EarlierResult(Earlier.COMPLETE)
    with_report = replace(job, qc_folder=tmp_path / "qc")
    assert earlier_result(series, with_report, derivation) == EarlierResult(Earlier.LACKING, "no quality report")
    assert earlier_result(series, replace(job, resume=False), derivation) == EarlierResult(Earlier.FOREIGN)
    fewer = replace(series, stacks=(series.slices[:1],))
    assert earlier_result(fewer, job, derivation) == EarlierResult(Earlier.FOREIGN), "of a slice that is gone"
    shutil.rmtree(folder)
    folder.touch()
    assert earlier_result(series, job, derivation) == EarlierResult(Earlier.FOREIGN), "a file"
