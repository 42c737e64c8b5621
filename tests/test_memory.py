"""Memory that the process no longer uses, in processes of their own: the setting stays until one ends."""

import subprocess
import sys

import pytest

from ctclip.cli import main as program

MEASURE = """
import sys
from ctclip.memory import keep_freed_memory

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024

def take_and_free():
    blocks = [bytes(b"x") * (40 << 20) for _ in range(5)]

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident_mb()
take_and_free()
print(resident_mb() - before)
take_and_free()
print(resident_mb() - before)
"""


def _kept_mb(how: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", MEASURE, how], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept_and_used_again() -> None:
    """200 MB, taken and freed twice."""
    once, twice = _kept_mb("keep")
    assert 190 < once < 210
    assert twice - once < 10


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_the_library_alone_changes_nothing() -> None:
    assert max(_kept_mb("leave")) < 50


def test_programs_keep_what_they_free(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(program, "keep_freed_memory", lambda: done.append("kept"))
    monkeypatch.setattr(program, "app", lambda: done.append("run"))
    monkeypatch.setattr(program, "ENDING", [])
    program.run()
    assert done == ["kept", "run"]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_go_on_as_before(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctclip import memory

    monkeypatch.setattr(memory.sys, "platform", system)
    assert memory.keep_freed_memory() is False
