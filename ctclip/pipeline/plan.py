"""What would become of a series; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctclip.atomic import require_replaceable
from ctclip.dicom import Series
from ctclip.dicom.write import SLICE_FILES
from ctclip.errors import ConfigError
from ctclip.pipeline.earlier import Earlier, earlier_result
from ctclip.pipeline.job import SeriesJob
from ctclip.pipeline.series import derivation_of, derived_folder

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser


@dataclass(frozen=True)
class Plan:
    """What would become of a series.

    Args:
        what: in words.
        fails: whether it would fail.
    """

    what: str
    fails: bool = False


def plan_series(series: Series, job: SeriesJob, denoiser: Denoiser | None) -> Plan:
    """What :func:`~ctclip.pipeline.denoise_series` would do with a series, as far as it can be told beforehand.

    Args:
        series: from a scan.
        job: where to, and how.
        denoiser: the model, after which the result is called; ``None`` where there cannot be an earlier one.
    """
    if series.failure:
        return _failing(series.failure)
    if denoiser is None:
        return Plan("denoise")
    earlier = earlier_result(series, job, derivation_of(job, denoiser))
    final = derived_folder(series, job, denoiser)
    if earlier.state is Earlier.NONE or (final.is_dir() and not any(final.iterdir())):
        return Plan("denoise")
    if earlier.state is Earlier.COMPLETE:
        return Plan("keep (done by an earlier run)")
    if earlier.state is Earlier.FOREIGN and not job.overwrite:
        return _failing("its folder exists; give --overwrite to replace it")
    try:
        require_replaceable(final, SLICE_FILES)
    except ConfigError as error:
        return _failing(str(error))
    if earlier.state is Earlier.LACKING:
        return Plan(f"denoise again (an earlier run had {earlier.has})")
    return Plan("denoise again (replaces an earlier result)")


def _failing(why: str) -> Plan:
    return Plan(f"fail ({why})", fails=True)
