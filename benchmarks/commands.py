"""The ``ctclip`` command as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def ctclip_command(*arguments: str | Path) -> list[str]:
    """The command that belongs to the Python that runs this.

    Raises:
        FileNotFoundError: when ctclip is not installed there.
    """
    script = Path(sys.executable).with_name("ctclip")
    if not script.is_file():
        raise FileNotFoundError(f"there is no {script.name} command beside {sys.executable}; install ctclip there")
    return [str(script), *map(str, arguments)]


def run_quietly(command: Sequence[str]) -> str:
    """Run a command and give back what it prints.

    Raises:
        RuntimeError: when it fails, with what it says.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout
