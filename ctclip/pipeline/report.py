"""What a run did, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctclip import __version__
from ctclip.dicom import Scan
from ctclip.pipeline.job import SeriesResult

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser


def report(
    results: Sequence[SeriesResult], denoiser: Denoiser, *, strength: float, found: Scan | None
) -> dict[str, Any]:
    """Everything about a run as plain values for JSON; no patient data, and ``None`` where a number is not known.

    Device and settings are those of the results: workers of a cluster may have others than ``denoiser``.
    """
    import torch

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
        "model": denoiser.model_name,
        "model_sha256": denoiser.model_sha256,
        "hu_window": list(denoiser.hu_window),
        "device": _all_of([result.device for result in results]) or str(denoiser.device),
        "settings": _all_of([result.settings for result in results]) or denoiser.parameters,
        "strength": strength,
        "series": series,
        "skipped_files": found.skip_summary() if found else {},
        "skipped_series": {s.uid: s.skip_reason for s in found.series if s.skip_reason} if found else {},
    }


def _all_of(names: Sequence[str]) -> str:
    return ", ".join(sorted({name for name in names if name}))
