"""What a run did, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctclip import __version__
from ctclip.atomic import partial_name
from ctclip.dicom import Scan
from ctclip.errors import ConfigError, one_line
from ctclip.pipeline.job import SeriesResult

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser

NOT_ASKED_FOR = "not asked for"
"""Why a series is skipped that could be denoised."""


def require_writable(path: Path) -> None:
    """Make the folder of a report and write into it, so that what stops the report is known before the work.

    Raises:
        ConfigError: when nothing can be written there.
    """
    trial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ConfigError(f"--report cannot be written: {one_line(error)}; choose another file") from error


def report(
    results: Sequence[SeriesResult],
    denoiser: Denoiser | None,
    *,
    strength: float,
    found: Scan | None,
    error: str | None = None,
) -> dict[str, Any]:
    """Everything about a run as plain values for JSON; no patient data, and ``None`` where something is not known.

    Device and settings are those of the results: workers of a cluster may have others than ``denoiser``.

    Args:
        results: of the series or the volume.
        denoiser: ``None`` when the run failed before it was loaded.
        strength: 0 to 1.
        found: the scan of an export.
        error: why the run as a whole failed.
    """
    import torch

    taken = {result.source for result in results}
    series = [
        {
            name: (None if isinstance(value, float) and np.isnan(value) else value)
            for name, value in vars(result).items()
        }
        for result in results
    ]
    return {
        "ctclip": __version__,
        "torch": torch.__version__,
        "model": denoiser and denoiser.model_name,
        "model_sha256": denoiser and denoiser.model_sha256,
        "hu_window": denoiser and list(denoiser.hu_window),
        "device": _all_of([result.device for result in results]) or (denoiser and str(denoiser.device)),
        "settings": _all_of([result.settings for result in results]) or (denoiser and denoiser.parameters),
        "strength": strength,
        "error": error,
        "series": series,
        "skipped_files": found.skip_summary() if found else {},
        "skipped_series": {s.uid: s.skip_reason or NOT_ASKED_FOR for s in found.series if s.uid not in taken}
        if found
        else {},
    }


def _all_of(names: Sequence[str]) -> str:
    return ", ".join(sorted({name for name in names if name}))
