"""Mutated files never give a traceback, a hang, an allocation that the file cannot justify, or a path of their own."""

from __future__ import annotations

import os
import random
import resource
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctclip.dicom import (
    Scan,
    derived_series_numbers,
    derived_series_uid,
    opened_export,
    read_slice,
    write_derived_slices,
)
from ctclip.dicom.uids import is_uid
from ctclip.errors import CtclipError
from ctclip.inspection import inspect_series
from tests.dicom.fake import fake_derivation
from tests.fuzz.mutations import bases, mutate

INPUTS = int(os.environ.get("CTCLIP_FUZZ_INPUTS", "1000"))

MAX_SECONDS = 5.0
"""For one file of 5 kB; the slowest takes some hundredths of it."""

MAX_NEW_BYTES = 64 << 20
"""Memory that a file of 5 kB may ask for."""


def use(folder: Path, target: Path) -> str:
    """All that the commands do with a file; the name of what came out. Warnings of numpy count as failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            with opened_export(folder / "file") as found:
                return _use_series(found, target)
        except CtclipError:
            return "refused"


def _use_series(found: Scan, target: Path) -> str:
    outcome = "skipped"
    numbers = derived_series_numbers(found)
    for series in found.series:
        inspect_series(series)
        assert is_uid(series.uid)
        assert is_uid(derived_series_uid(series.uid, fake_derivation()))
        try:
            slices = [read_slice(item.path) for item in series.slices]
            denoised = ((ct, np.clip(ct.hu * np.float32(0.5), -1e6, 1e6)) for ct in slices)
            for _ in write_derived_slices(denoised, target, fake_derivation(), series_number=numbers[series.uid]):
                pass
            outcome = "written"
        except CtclipError:
            outcome = "refused"
    return outcome


def test_mutated_files(tmp_path: Path) -> None:
    chance = random.Random(20)
    originals = bases()
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    outcomes = {"skipped": 0, "refused": 0, "written": 0}
    slowest = 0.0
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(INPUTS):
        content = mutate(chance.choice(originals), chance)
        (source / "file").write_bytes(content)
        start = time.monotonic()
        try:
            outcomes[use(source, target)] += 1
        except Exception as error:
            (tmp_path / "failed").write_bytes(content)
            pytest.fail(f"input {number} raised {type(error).__name__}: {error}; it is in {tmp_path / 'failed'}")
        slowest = max(slowest, time.monotonic() - start)
        for path in target.iterdir():
            path.unlink()
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) * 1024
    assert slowest < MAX_SECONDS
    assert grown_bytes < 4 * MAX_NEW_BYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"], "no file anywhere else"
    assert min(outcomes.values()) > INPUTS / 100, f"the mutations reach every outcome: {outcomes}"


def test_a_header_cannot_ask_for_more_memory_than_the_file_justifies(tmp_path: Path) -> None:
    chance = random.Random(1)
    originals = bases()
    for number in range(60):
        content = mutate(chance.choice(originals), chance)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_bytes(content)
        (folder / "out").mkdir()
        tracemalloc.start()
        try:
            use(folder, folder / "out")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MAX_NEW_BYTES


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=600), marked=st.booleans())
def test_any_bytes_at_all(tmp_path_factory: pytest.TempPathFactory, content: bytes, marked: bool) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "file").write_bytes((b"\0" * 128 + b"DICM" if marked else b"") + content)
    (folder / "out").mkdir()
    assert use(folder, folder / "out") in ("skipped", "refused", "written")
