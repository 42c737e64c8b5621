"""Temporary folders: what a killed process leaves is removed, what a running one uses is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ctclip.dicom import opened_export
from ctclip.temporary import ABANDONED_AFTER_S, UNPACKED_PREFIX, temporary_folder
from tests.dicom.fake import fake_slice, write

HOLD = """
import sys, time
from ctclip.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "000001").write_text("patient")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders there")
def test_what_a_killed_run_has_unpacked_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    foreign = tmp_path / "ctclip-results"
    foreign.mkdir()
    assert left.name.startswith(UNPACKED_PREFIX)
    assert left.stat().st_mode & 0o077 == 0
    long_ago = time.time() - ABANDONED_AFTER_S - 1
    for folder in (left, foreign):
        os.utime(folder, (long_ago, long_ago))
    with temporary_folder():
        assert (left / "000001").read_text() == "patient", "in use: stays, however old"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with temporary_folder() as own:
        assert sorted(tmp_path.iterdir()) == sorted([foreign, own])
    assert list(tmp_path.iterdir()) == [foreign]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders there")
def test_it_is_removed_too_by_a_run_that_unpacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(fake_slice(), tmp_path / "in" / "a")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with temporary_folder() as own:
        left, new = own.with_name(f"{own.name}-left"), own.with_name(f"{own.name}-new")
    for folder in (left, new):
        folder.mkdir()
        (folder / "000001").write_text("patient")
    long_ago = time.time() - ABANDONED_AFTER_S - 1
    os.utime(left, (long_ago, long_ago))
    with opened_export(tmp_path / "in"):
        assert list((tmp_path / "temporary").iterdir()) == [new], "a new one may not be locked yet"
