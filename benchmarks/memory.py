"""Peak memory of ``ctclip denoise`` against the number of slices: it should not depend on it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import ctclip_command, run_quietly
from benchmarks.phantom_slices import write_series
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, Settings

FACTOR = 10
MEASURE = Path(__file__).with_name("peak_memory.py")

logger = logging.getLogger(__name__)


def memory(settings: Settings) -> Case:
    """Measure series of ``slices`` and ten times as many slices."""
    peaks_mib = {}
    for slices in (settings.slices, FACTOR * settings.slices):
        peaks_mib[slices] = peak_mib(slices, settings.device)
        logger.info("  %d slices: %.0f MiB", slices, peaks_mib[slices])
    smallest = peaks_mib[settings.slices]
    rows: list[Row] = [
        {"slices": slices, "peak MiB": peak, "times the first": peak / smallest} for slices, peak in peaks_mib.items()
    ]
    note = (
        f"Largest resident memory of a whole `ctclip denoise` process, slices of {IMAGE_SIZE}x{IMAGE_SIZE} "
        f"({IMAGE_SIZE**2 * 2 / 2**20:g} MiB each in the file), measured once. Memory of a GPU is not in it."
    )
    return Case("Peak memory", note, rows)


def peak_mib(slices: int, device: str) -> float:
    """Of the process that denoises a series of so many slices."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "series", Path(folder) / "out"
        write_series(source, slices)
        command = ctclip_command("denoise", source, target, "--device", device)
        return int(run_quietly([sys.executable, str(MEASURE), *command])) / 1024
