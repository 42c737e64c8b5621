"""One job: find the series, denoise them slice by slice, write derived series, report. Nothing half-written remains."""

from ctclip.pipeline.choose import choose_series
from ctclip.pipeline.job import DenoiserSpec, SeriesJob, SeriesResult
from ctclip.pipeline.plan import Plan, plan_series
from ctclip.pipeline.run_report import NOT_ASKED_FOR, report, require_writable
from ctclip.pipeline.series import denoise_series
from ctclip.pipeline.strict import require_readable, require_undamaged
from ctclip.pipeline.volume import denoise_volume_file

__all__ = [
    "NOT_ASKED_FOR",
    "DenoiserSpec",
    "Plan",
    "SeriesJob",
    "SeriesResult",
    "choose_series",
    "denoise_series",
    "denoise_volume_file",
    "plan_series",
    "report",
    "require_readable",
    "require_undamaged",
    "require_writable",
]
