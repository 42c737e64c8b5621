"""What to do with every series of an export, and what became of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctclip.settings import DEFAULT_OVERLAP, require_settings

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser

SliceDone = Callable[[], None]
"""Called after every slice."""

READING_THREADS = 2
"""That read the slices of one series."""


@dataclass(frozen=True)
class DenoiserSpec:
    """A denoiser by its model and settings, so that another process can load it. See
    :class:`~ctclip.denoise.Denoiser`."""

    model: str
    encoder_weights: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | str = "auto"
    roi_size: int | None = None
    overlap: float = DEFAULT_OVERLAP
    backend: str = "auto"

    def require_settings(self) -> None:
        """What can be refused before anything heavy is imported, see :func:`~ctclip.settings.require_settings`."""
        require_settings(
            model=self.model,
            device=self.device,
            precision=self.precision,
            backend=self.backend,
            roi_size=self.roi_size,
        )

    def load(self) -> Denoiser:
        """The denoiser itself; raises as :meth:`Denoiser.load`."""
        from ctclip.denoise import Denoiser

        return Denoiser.load(
            self.model,
            encoder_weights=self.encoder_weights or None,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            roi_size=self.roi_size,
            overlap=self.overlap,
            backend=self.backend,
        )


@dataclass(frozen=True)
class SeriesJob:
    """What to do with every series of an export.

    Args:
        target: folder for derived series; made when missing.
        strength: 0 to 1.
        series_numbers: SeriesNumber of each derived series, by the source's SeriesInstanceUID; a series that is not in
            it gets its own plus 1000.
        overwrite: replace an earlier result of the same series, model and settings.
        resume: keep such a result when it is of the slices that the source has; its status is "kept". One of fewer, of
            an export that was not complete then, with files that were cut off since, or without the quality report that
            is asked for is replaced; one of other slices fails the series.
        keep_private: copy private elements.
        check: verify each derived series against its source.
        qc_folder: for a quality report of each series.
    """

    target: Path
    strength: float
    overwrite: bool = False
    resume: bool = False
    keep_private: bool = False
    check: bool = False
    qc_folder: Path | None = None
    series_numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass
class SeriesResult:
    """What became of one series or volume; holds no patient data.

    Args:
        source: source SeriesInstanceUID, or "volume".
        slices: number of slices.
        status: "done", "failed", or "kept" for a result of an earlier run.
        message: why it failed.
        derived: derived SeriesInstanceUID.
        seconds: time that it took.
        device: that the network ran on; "" when it did not.
        settings: :attr:`~ctclip.denoise.Denoiser.parameters`.
        noise_before_hu: median over evenly spread slices of the noise SD in flat soft tissue; NaN without any.
        noise_after_hu: the same places after denoising.
        shift_hu: mean change of the mean value there.
        warnings: what was unusual in the input.
        quality_warnings: of the quality report, when one was asked for.
    """

    source: str
    slices: int
    status: str = "done"
    message: str = ""
    derived: str = ""
    seconds: float = 0.0
    device: str = ""
    settings: str = ""
    noise_before_hu: float = float("nan")
    noise_after_hu: float = float("nan")
    shift_hu: float = float("nan")
    warnings: tuple[str, ...] = ()
    quality_warnings: tuple[str, ...] = ()
