"""``python -m benchmarks``: its arguments, its results, and the processes that it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.commands import run_quietly
from benchmarks.memory import MEASURE
from benchmarks.report import Case
from benchmarks.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "speed"], "invalid choice: 'speed'"),
        (["--repeats", "0"], "expected a whole number of at least 1, found '0'"),
        (["--slices", "many"], "expected a whole number of at least 1, found 'many'"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_wrong_arguments_end_with_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        command.main(["--device", "cuda"])
    assert ended.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("name", command.CASES)
def test_every_case_can_be_found(name: str) -> None:
    assert callable(command._case(name))


def test_results_are_kept_when_a_later_case_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(settings: Settings) -> Case:
        return Case("One", f"{settings.repeats} rounds", [{"a": 1}])

    def fail(settings: Settings) -> Case:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(command, "_case", lambda name: run if name == "startup" else fail)
    with pytest.raises(RuntimeError, match="no such thing"):
        command.main(["--cases", "startup", "memory", "--repeats", "3", "--output", str(tmp_path)])
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["cases"] == {"startup": {"title": "One", "note": "3 rounds", "rows": [{"a": 1}]}}


def test_a_failing_process_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"exit code 3: bad"):
        run_quietly([sys.executable, "-c", "import sys; sys.exit(print('bad', file=sys.stderr) or 3)"])


def test_peak_memory_is_that_of_the_command_and_not_of_its_caller() -> None:
    """The caller of this test holds torch, hundreds of MiB; a bare Python needs about ten."""
    bare, hundred_mib = (_peak_kib(code) for code in ("pass", "bytearray(100 * 2**20).count(1)"))
    assert bare < 60 * 1024
    assert 95 * 1024 < hundred_mib - bare < 110 * 1024


def _peak_kib(code: str) -> int:
    command_line = [sys.executable, str(MEASURE), sys.executable, "-c", code]
    return int(subprocess.run(command_line, capture_output=True, text=True, check=True).stdout)
