"""How long the command takes before it works: whole processes."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import ctclip_command, run_quietly
from benchmarks.phantom_slices import write_series
from benchmarks.report import Case, Row
from benchmarks.settings import Settings
from benchmarks.timing import interleaved, ratio, spread

TORCH = "python -c 'import torch'"


def startup(settings: Settings) -> Case:
    """Time processes from their start to their end."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "series"
        write_series(source, 1)
        targets = (Path(folder) / f"out_{index}" for index in count())

        def denoise_one_slice() -> None:
            run_quietly(ctclip_command("denoise", source, next(targets), "--device", settings.device))

        candidates = {
            "python -c pass": lambda: run_quietly([sys.executable, "-c", "pass"]),
            TORCH: lambda: run_quietly([sys.executable, "-c", "import torch"]),
            "ctclip --help": lambda: run_quietly(ctclip_command("--help")),
            "ctclip denoise, one slice": denoise_one_slice,
        }
        for warm_up in candidates.values():  # the first start reads the libraries from the disk
            warm_up()
        seconds = interleaved(candidates, repeats=settings.repeats)
    note = f"Wall time of whole processes, files in the disk cache, median of {settings.repeats} rounds."
    return Case("Start-up", note, [_row(name, values, seconds[TORCH]) for name, values in seconds.items()])


def _row(name: str, seconds: list[float], reference: list[float]) -> Row:
    longer = ratio(seconds, reference)
    return {
        "process": name,
        "s": spread(seconds).median,
        "times as long as importing torch": longer.median,
        "lowest": longer.low,
        "highest": longer.high,
    }
