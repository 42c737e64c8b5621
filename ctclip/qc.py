"""Quality control of one denoised series: measures, pictures and warnings, from a few slices of the stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctclip.atomic import atomic_path
from ctclip.dicom import CTSlice
from ctclip.dicom.lenient import floats_of
from ctclip.dicom.uids import is_uid
from ctclip.errors import ConfigError
from ctclip.metrics.edges import BORDERS_HU_PER_PX, border_slopes
from ctclip.metrics.nps import RadialNPS, tissue_nps, uniform_tissue
from ctclip.metrics.residual import residual_structure_without_reference
from ctclip.metrics.tissue import REACH_PX, TISSUES_HU, TissueChange, tissue_changes
from ctclip.report.content import Curve
from ctclip.report.qc import AFTER, BEFORE, Change, QCReport, QCSlice, QCSummary, qc_json, qc_page
from ctclip.sampling import evenly_spread

__all__ = ["QCSummary", "QualityControl"]

MEASURED_SLICES = 12
"""Slices that are measured: about 0.15 s each on a CPU, so that a long series takes no longer than a short one."""

SHOWN_SLICES = 3

MIN_REGIONS = 8
"""Fewer regions of uniform tissue than this give no usable spectrum."""

MAX_OVER_SOFT_TISSUE = 3.0
"""A tissue whose flattest fifth varies by more times the noise of soft tissue shows its structure there, not noise: the
skull by 30 times, lungs and fat of real scans by at most 2.5."""

SQUARE_WITHIN_MM = 1e-3
"""Largest difference of row and column spacing of square pixels."""

SOFT_TISSUE_BEFORE = f"soft tissue {BEFORE}"
"""What the noise of soft tissue, of :data:`~ctclip.metrics.tissue.TISSUES_HU`, is called in a row."""

Row = dict[str, float]


class QualityControl:
    """Collects what a report needs while slices pass by; holds three slices and the numbers of twelve.

    Args:
        slice_count: number of slices of the series.
    """

    def __init__(self, slice_count: int) -> None:
        self._slice_count = slice_count
        self._measured = evenly_spread(slice_count, MEASURED_SLICES)
        self._shown = {self._measured[i] for i in evenly_spread(len(self._measured), SHOWN_SLICES)}
        self._seen = 0
        self._rows: dict[int, Row] = {}
        self._pictures: list[QCSlice] = []
        self._pixel_mm = float("nan")
        self._regions: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, ct: CTSlice, stored: np.ndarray) -> None:
        """Take the next slice of the series; most are only counted.

        Args:
            ct: the slice before; its padding is neither measured nor shown.
            stored: what was written, stored values of (rows, columns).
        """
        index = self._seen
        self._seen += 1
        if index not in self._measured:
            return
        before_hu, after_hu = ct.before_and_after_hu(stored)
        # no square on which a measure of a pixel depends may reach into padding
        valid = ~ndimage.maximum_filter(ct.padding, REACH_PX)
        pixel_mm = _pixel_mm(ct)
        self._rows[index + 1] = _measure(before_hu, after_hu, valid, pixel_mm)
        self._keep_regions(index + 1, before_hu, after_hu, valid, pixel_mm)
        if index in self._shown:
            self._pictures.append(QCSlice(index + 1, before_hu, after_hu))

    def write(self, folder: Path, facts: Mapping[str, Any], *, name: str) -> QCSummary:
        """Write ``folder/<name>.html`` and ``folder/<name>.json``, each complete or not at all.

        Args:
            folder: made when missing; files of these names in it are replaced.
            facts: what the page says about model, settings and UIDs, by name: numbers, texts, or lists and mappings of
                them; ``None`` is null. They go into the files as they are: nothing in them may tell who the patient is.
            name: the derived SeriesInstanceUID.

        Returns:
            the measures, with warnings.

        Raises:
            ConfigError: when the name is no UID; it might be a patient's.
            OSError: when the files cannot be written.
        """
        if not is_uid(name):
            raise ConfigError("the name of a QC report is no UID, expected up to 64 digits and dots")
        spectra = self._spectra()
        report = QCReport(facts, self._summary(spectra), _curves(spectra), self._pictures)
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in ((".html", qc_page(report)), (".json", qc_json(report))):
            with atomic_path(folder / f"{name}{ending}") as path:
                path.write_text(text, encoding="utf-8")
        return report.summary

    def _keep_regions(
        self, number: int, before_hu: np.ndarray, after_hu: np.ndarray, valid: np.ndarray, pixel_mm: float
    ) -> None:
        """Spectra of different pixels cannot be averaged: the first slice decides."""
        if np.isnan(self._pixel_mm):
            self._pixel_mm = pixel_mm
        if pixel_mm == self._pixel_mm:
            self._regions[number] = uniform_tissue(before_hu, after_hu, valid)

    def _spectra(self) -> dict[str, RadialNPS]:
        # A slice without soft tissue finds "noise" in structure, which would outweigh the spectra of all others.
        most_hu = MAX_OVER_SOFT_TISSUE * self._median(SOFT_TISSUE_BEFORE)
        regions = [each for number, each in self._regions.items() if self._rows[number][SOFT_TISSUE_BEFORE] <= most_hu]
        if not regions:
            return {}
        before, after = (np.concatenate(part) for part in zip(*regions, strict=True))
        if len(before) < MIN_REGIONS:
            return {}
        return {label: tissue_nps(each, self._pixel_mm) for label, each in ((BEFORE, before), (AFTER, after))}

    def _summary(self, spectra: Mapping[str, RadialNPS]) -> QCSummary:
        structures = {n: row["structure"] for n, row in self._rows.items() if np.isfinite(row["structure"])}
        worst = max(structures, key=structures.__getitem__, default=None)
        frequencies = {label: each.mean_frequency_per_mm for label, each in spectra.items()}
        unknown = float("nan")
        return QCSummary(
            slices=self._slice_count,
            measured=tuple(self._rows),
            tissues={tissue: TissueChange(*self._noise(tissue), self._mean(f"{tissue} bias")) for tissue in TISSUES_HU},
            edges_hu_per_mm={
                contrast: Change(self._median(f"{contrast} {BEFORE}"), self._median(f"{contrast} {AFTER}"))
                for contrast in BORDERS_HU_PER_PX
            },
            nps_mean_frequency_per_mm=Change(frequencies.get(BEFORE, unknown), frequencies.get(AFTER, unknown)),
            structure=self._median("structure"),
            structure_worst=structures[worst] if worst is not None else unknown,
            structure_worst_slice=worst,
        )

    def _noise(self, tissue: str) -> tuple[float, float]:
        """SD before and after; NaN where it is the structure of the tissue."""
        before, after = self._median(f"{tissue} {BEFORE}"), self._median(f"{tissue} {AFTER}")
        structure = before > MAX_OVER_SOFT_TISSUE * self._median(SOFT_TISSUE_BEFORE)
        return (float("nan"), float("nan")) if structure else (before, after)

    def _known(self, name: str) -> list[float]:
        return [row[name] for row in self._rows.values() if np.isfinite(row[name])]

    def _median(self, name: str) -> float:
        known = self._known(name)
        return float(np.median(known)) if known else float("nan")

    def _mean(self, name: str) -> float:
        known = self._known(name)
        return float(np.mean(known)) if known else float("nan")


def _measure(before_hu: np.ndarray, after_hu: np.ndarray, valid: np.ndarray, pixel_mm: float) -> Row:
    row = {"structure": residual_structure_without_reference(before_hu, after_hu, valid)}
    for tissue, change in tissue_changes(before_hu, after_hu, valid).items():
        row[f"{tissue} {BEFORE}"], row[f"{tissue} {AFTER}"] = change.noise_before_hu, change.noise_after_hu
        row[f"{tissue} bias"] = change.bias_hu
    for contrast, slope in border_slopes(before_hu, after_hu, valid).items():
        row[f"{contrast} {BEFORE}"] = slope.before_hu_per_px / pixel_mm
        row[f"{contrast} {AFTER}"] = slope.after_hu_per_px / pixel_mm
    return row


def _curves(spectra: Mapping[str, RadialNPS]) -> list[Curve]:
    return [
        Curve(label, "noise in soft tissue", each.frequency_per_mm, each.nps_hu2_mm2) for label, each in spectra.items()
    ]


def _pixel_mm(ct: CTSlice) -> float:
    """Side of the square pixels; NaN when they are not square or their size is not stated."""
    spacing = floats_of(ct.header, "PixelSpacing", 2)
    if spacing is None or abs(spacing[0] - spacing[1]) > SQUARE_WITHIN_MM or spacing[0] <= 0:
        return float("nan")
    return spacing[0]
