"""``ctclip`` as a process, with the faults that a test asks for in its environment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ctclip.pipeline import DenoiserSpec, series

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.dicom import CTSlice

READ_SLICE = series.read_slice


def _read_slowly(path: Path) -> CTSlice:
    time.sleep(float(os.environ["CTCLIP_TEST_SECONDS_PER_SLICE"]))
    return READ_SLICE(path)


class SlowSpec(DenoiserSpec):
    """Slows its process down, which may be a worker of Ray."""

    def load(self) -> Denoiser:
        series.read_slice = _read_slowly
        return super().load()


def main() -> None:
    """Run the command line."""
    if limit := os.environ.get("CTCLIP_TEST_MAX_FILE_BYTES"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    if os.environ.get("CTCLIP_TEST_SECONDS_PER_SLICE"):
        import ctclip.pipeline
        from tests.cli import run_ctclip  # not __main__, which workers do not have

        ctclip.pipeline.DenoiserSpec = run_ctclip.SlowSpec  # type: ignore[misc]
    from ctclip.cli.main import run

    run()


if __name__ == "__main__":
    main()
