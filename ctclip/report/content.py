"""What a report says, as plain data: who fills it in knows files and models, the report does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ctclip.errors import DataError

IDENTITY = "identity"
"""The method that returns the low-dose image; its row is the first of every table."""


@dataclass(frozen=True)
class Measure:
    """A measured quantity; a number without its window means nothing.

    Args:
        metric: such as "psnr_db"; further words say more, such as "bias_hu liver".
        unit: such as "dB"; "" for a ratio.
        window: to which both images are clipped, such as "[-160,240] HU"; "" when nothing is clipped.
        data_range_hu: width of the window; ``None`` without one.
    """

    metric: str
    unit: str
    window: str = ""
    data_range_hu: float | None = None

    @property
    def name(self) -> str:
        """Name of the column in tables, such as "psnr_db [-160,240] HU range 400"."""
        if self.data_range_hu is None:
            return self.metric
        return f"{self.metric} {self.window} range {self.data_range_hu:g}"


@dataclass(frozen=True)
class Method:
    """A method that was judged.

    Args:
        name: in tables and charts.
        description: what it is, with its settings.
        sha256: of a model; "" for what has none.
    """

    name: str
    description: str
    sha256: str = ""


@dataclass(frozen=True)
class SummaryRow:
    """Mean over patients of one measure.

    Args:
        method: name of the method.
        measure: what was measured.
        mean: over patients.
        ci_low: lower end of its 95 % confidence interval; NaN with too few patients.
        ci_high: upper end.
        sd: over patients.
        patients: number of patients that have a value.
        slices: number of their slices that have one.
    """

    method: str
    measure: Measure
    mean: float
    ci_low: float
    ci_high: float
    sd: float
    patients: int
    slices: int


@dataclass(frozen=True)
class PatientRow:
    """Mean over the slices of one patient.

    Args:
        method: name of the method.
        patient: a label that tells nothing about the person.
        values: by measure; NaN where nothing could be measured.
    """

    method: str
    patient: str
    values: dict[Measure, float]


@dataclass(frozen=True)
class SliceRow:
    """One slice.

    Args:
        method: name of the method.
        patient: as in :class:`PatientRow`.
        scan: label of the scan.
        index: of the slice in the scan, from 0.
        values: by measure; NaN where nothing could be measured.
    """

    method: str
    patient: str
    scan: str
    index: int
    values: dict[Measure, float]


@dataclass(frozen=True)
class ComparisonRow:
    """A method against another one, over the patients that both have.

    Args:
        method: name of the method.
        against: name of the other one.
        measure: what was measured.
        difference: mean of (method - other).
        ci_low: lower end of its 95 % confidence interval; NaN with too few patients.
        ci_high: upper end.
        p_value: of Wilcoxon's signed-rank test; NaN with too few patients.
        patients: number of patients.
    """

    method: str
    against: str
    measure: Measure
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    patients: int


@dataclass(frozen=True)
class AcceptanceRow:
    """A method against one criterion.

    Args:
        method: name of the method.
        criterion: what is judged.
        unit: of the value.
        value: NaN when it could not be measured.
        limit: in words, such as "-30 to -50 %".
        passed: whether the value is within the limit.
        place: where it was found, such as "soft tissue"; "" where there is nothing to say.
    """

    method: str
    criterion: str
    unit: str
    value: float
    limit: str
    passed: bool
    place: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve over spatial frequency.

    Args:
        method: name of the method.
        label: of the chart that it belongs to, such as "rod of 300 HU".
        x: frequency in 1/mm.
        y: HU^2 mm^2 for noise power spectra, 1 at frequency 0 for task transfer functions.
    """

    method: str
    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Panel:
    """One slice in every version.

    Args:
        scan: label of the scan.
        slice_label: such as "slice 20 of 40".
        window_hu: in which it is shown.
        input_hu: (rows, columns); apart from the methods, one of which may be called "input".
        reference_hu: the same shape.
        outputs_hu: by method, the same shape each; the page begins with the input and the first of them.
    """

    scan: str
    slice_label: str
    window_hu: tuple[float, float]
    input_hu: np.ndarray
    reference_hu: np.ndarray
    outputs_hu: dict[str, np.ndarray]


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Args:
        title: of the page.
        settings: by name.
        versions: of programs and libraries, by name.
        methods: all that have rows or curves, in the order of tables and charts.
        problems: what was left out and why, one line each.
        summary: means over patients.
        patients: one row per method and patient.
        slices: one row per method and slice; written as CSV only.
        comparisons: methods in pairs.
        nps: noise power spectra.
        ttf: task transfer functions.
        acceptance: methods against criteria.
        panels: images; on the page only.
        phantom_noise_hu: of the input phantom of ``nps``, ``ttf`` and ``acceptance``; NaN without one.

    Raises:
        DataError: when a row belongs to a method that is not in ``methods``.
    """

    title: str
    settings: dict[str, str]
    versions: dict[str, str]
    methods: list[Method]
    summary: list[SummaryRow]
    patients: list[PatientRow]
    slices: list[SliceRow]
    problems: list[str] = field(default_factory=list)
    comparisons: list[ComparisonRow] = field(default_factory=list)
    nps: list[Curve] = field(default_factory=list)
    ttf: list[Curve] = field(default_factory=list)
    acceptance: list[AcceptanceRow] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    phantom_noise_hu: float = math.nan

    def __post_init__(self) -> None:
        of_methods = (self.summary, self.patients, self.slices, self.comparisons, self.nps, self.ttf, self.acceptance)
        unknown = {row.method for rows in of_methods for row in rows} - set(self.method_names)
        if unknown:
            raise DataError(
                f"the report has rows of {', '.join(sorted(unknown))}, expected only its methods "
                f"{', '.join(self.method_names)}: add the missing ones to them"
            )

    @property
    def method_names(self) -> list[str]:
        """The identity first, then as in ``methods``."""
        return sorted((method.name for method in self.methods), key=lambda name: name != IDENTITY)

    @property
    def measures(self) -> list[Measure]:
        """Those of the summary, in their order."""
        return list(dict.fromkeys(row.measure for row in self.summary))
