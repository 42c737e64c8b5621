"""The page and the numbers of a quality control: one series before and after denoising, without a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctclip.metrics.acceptance import BIAS, EDGE_SLOPE, STRUCTURE, TEXTURE, Criterion
from ctclip.metrics.tissue import TISSUES_HU, TissueChange
from ctclip.report.charts import IDENTITY_COLOUR, Style, curve_charts, method_styles
from ctclip.report.content import Curve
from ctclip.report.html import NPS_LABEL, environment
from ctclip.report.images import DIFFERENCE_HU, difference_data_uri, png_data_uri
from ctclip.report.labels import MISSING, count, number, signed
from ctclip.report.records import json_text
from ctclip.report.tables import Cell, Column, Row, Table
from ctclip.units import BONE_HU_WINDOW, LUNG_HU_WINDOW, SOFT_TISSUE_HU_WINDOW, HUWindow

PICTURE_WINDOWS_HU: dict[str, HUWindow] = {
    "soft tissue": SOFT_TISSUE_HU_WINDOW,
    "lung": LUNG_HU_WINDOW,
    "bone": BONE_HU_WINDOW,
}

BEFORE, AFTER = "before", "after"

NOISE_UNIT, SLOPE_UNIT, FREQUENCY_UNIT = "HU", "HU/mm", "1/mm"


@dataclass(frozen=True)
class Change:
    """A quantity before and after denoising.

    Args:
        before: NaN where it could not be measured.
        after: likewise.
    """

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After over before; NaN where one is unknown or before is 0."""
        return self.after / self.before if self.before else float("nan")

    @property
    def percent(self) -> float:
        """Change in percent of before."""
        return 100 * (self.ratio - 1)


@dataclass(frozen=True)
class QCSummary:
    """What was measured on a series; NaN where it could not be.

    Args:
        slices: number of slices of the series.
        measured: the slices that were measured, numbered from 1.
        tissues: noise SD (median over slices) and bias (mean over slices) by tissue, HU.
        edges_hu_per_mm: mean slope across borders by their contrast, median over slices.
        nps_mean_frequency_per_mm: of the noise in soft tissue of all measured slices.
        structure: median over slices of the correlation of the removed part with anatomy, about -1 to 1.
        structure_worst: the largest of them.
        structure_worst_slice: its slice; ``None`` without any.
    """

    slices: int
    measured: tuple[int, ...]
    tissues: dict[str, TissueChange]
    edges_hu_per_mm: dict[str, Change]
    nps_mean_frequency_per_mm: Change
    structure: float
    structure_worst: float
    structure_worst_slice: int | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is beyond the limits, one sentence each; empty when nothing is, or nothing could be measured."""
        return tuple(each.text for each in self._findings() if each.known and not each.passed)

    @property
    def limits(self) -> int:
        """How many limits there are."""
        return len(self._findings())

    @property
    def limits_checked(self) -> int:
        """How many of them could be checked; the others need what the series does not show, such as bone."""
        return sum(each.known for each in self._findings())

    def _findings(self) -> list[_Finding]:
        ratio = self.nps_mean_frequency_per_mm.ratio
        structure = (
            f"anatomy shows in what was removed: residual structure {self.structure_worst:.2f} in slice "
            f"{self.structure_worst_slice} ({STRUCTURE.limit}); look at the differences"
        )
        texture = f"noise is blotchier: NPS mean frequency {ratio:.2f} of that before ({TEXTURE.limit})"
        return [
            _Finding(STRUCTURE, self.structure_worst, structure),
            *(
                _Finding(
                    BIAS,
                    abs(each.bias_hu),
                    f"CT numbers of {tissue} changed by {each.bias_hu:+.2f} HU ({BIAS.limit})",
                )
                for tissue, each in self.tissues.items()
            ),
            *(
                _Finding(
                    EDGE_SLOPE,
                    each.percent,
                    f"edges of {contrast} changed in steepness by {each.percent:.1f} % ({EDGE_SLOPE.limit})",
                )
                for contrast, each in self.edges_hu_per_mm.items()
            ),
            _Finding(TEXTURE, ratio, texture),
        ]


@dataclass(frozen=True)
class _Finding:
    """A value against its limit, and what to say when it is beyond."""

    criterion: Criterion
    value: float
    text: str

    @property
    def known(self) -> bool:
        return not np.isnan(self.value)

    @property
    def passed(self) -> bool:
        return self.criterion.passes(self.value)


@dataclass(frozen=True)
class QCSlice:
    """A slice to be shown.

    Args:
        slice_number: from 1.
        before_hu: (rows, columns), padding below every window.
        after_hu: the same, denoised.
    """

    slice_number: int
    before_hu: np.ndarray
    after_hu: np.ndarray


@dataclass(frozen=True)
class QCReport:
    """Everything that the page shows.

    Args:
        facts: model, settings and UIDs by name; numbers, texts, or lists and mappings of them.
        summary: the measures.
        nps: spectra "before" and "after"; none where the noise could not be measured.
        shown: slices for pictures.
    """

    facts: Mapping[str, Any]
    summary: QCSummary
    nps: Sequence[Curve]
    shown: Sequence[QCSlice]


@dataclass(frozen=True)
class _Pictures:
    """A slice in one window: label and picture."""

    window: str
    uris: dict[str, str]


def qc_json(report: QCReport) -> str:
    """All but the pictures as JSON; null where a number is not known."""
    found = report.summary
    content = asdict(found) | {
        "facts": dict(report.facts),
        "tissues": {
            name: asdict(each) | {"noise_change_percent": _noise(each).percent} for name, each in found.tissues.items()
        },
        "edges_hu_per_mm": {
            name: asdict(each) | {"change_percent": each.percent} for name, each in found.edges_hu_per_mm.items()
        },
        "nps_mean_frequency_per_mm": asdict(found.nps_mean_frequency_per_mm)
        | {"ratio": found.nps_mean_frequency_per_mm.ratio},
        "nps_hu2_mm2": {each.method: {"frequency_per_mm": each.x, "nps_hu2_mm2": each.y} for each in report.nps},
        "limits": found.limits,
        "limits_checked": found.limits_checked,
        "warnings": found.warnings,
        "shown": [each.slice_number for each in report.shown],
    }
    return json_text(content)


def qc_page(report: QCReport) -> str:
    """The HTML of the report: one file that needs no network and no scripts."""
    styles = {BEFORE: Style(IDENTITY_COLOUR, ()), **method_styles([AFTER])}
    page = environment().get_template("qc.html")
    return page.render(
        summary=report.summary,
        slices=count(report.summary.slices, "slice"),
        measured=count(len(report.summary.measured), "slice"),
        tissues=_tissue_table(report.summary),
        detail=_detail_table(report.summary),
        nps=curve_charts(report.nps, styles, y_label=NPS_LABEL),
        styles=styles,
        shown=[(each.slice_number, _pictures(each)) for each in report.shown],
        difference_hu=DIFFERENCE_HU,
        facts={name.replace("_", " "): _text(value) for name, value in report.facts.items()},
    )


def _noise(tissue: TissueChange) -> Change:
    return Change(tissue.noise_before_hu, tissue.noise_after_hu)


def _pictures(shown: QCSlice) -> list[_Pictures]:
    return [
        _Pictures(
            signed(f"{name}, {window[0]:g} to {window[1]:g} HU"),
            {
                BEFORE: png_data_uri(shown.before_hu, window),
                AFTER: png_data_uri(shown.after_hu, window),
                "difference": difference_data_uri(shown.before_hu, shown.after_hu, window),
            },
        )
        for name, window in PICTURE_WINDOWS_HU.items()
    ]


def _tissue_table(found: QCSummary) -> Table:
    columns = [
        Column("noise before", "SD, HU"),
        Column("noise after", "SD, HU"),
        Column("noise change", "%"),
        Column("bias", "HU"),
    ]
    rows = [
        Row(
            tissue,
            signed("{:g} to {:g} HU".format(*TISSUES_HU[tissue])),
            [
                Cell(number(each.noise_before_hu, NOISE_UNIT)),
                Cell(number(each.noise_after_hu, NOISE_UNIT)),
                Cell(_with_sign(_noise(each).percent, "%")),
                _judged(BIAS, abs(each.bias_hu), _with_sign(each.bias_hu, BIAS.unit)),
            ],
        )
        for tissue, each in found.tissues.items()
    ]
    return Table("in flat places of the measured slices", columns, rows)


def _detail_table(found: QCSummary) -> Table:
    columns = [Column(BEFORE, ""), Column(AFTER, ""), Column("change", "")]
    edges = [
        _change_row(f"edges of about {contrast}", SLOPE_UNIT, each, _percent_cell(EDGE_SLOPE, each.percent))
        for contrast, each in found.edges_hu_per_mm.items()
    ]
    nps = found.nps_mean_frequency_per_mm
    ratio = _judged(TEXTURE, nps.ratio, f"ratio {number(nps.ratio, TEXTURE.unit)}")
    worst = _judged(STRUCTURE, found.structure_worst, number(found.structure_worst, STRUCTURE.unit))
    where = f"worst: slice {found.structure_worst_slice}" if found.structure_worst_slice else ""
    return Table(
        "on the measured slices",
        columns,
        [
            *edges,
            _change_row("NPS mean frequency", FREQUENCY_UNIT, nps, ratio),
            Row("residual structure", where, [Cell(""), Cell(""), worst]),
        ],
    )


def _change_row(name: str, unit: str, change: Change, verdict: Cell) -> Row:
    return Row(name, unit, [Cell(number(change.before, unit)), Cell(number(change.after, unit)), verdict])


def _percent_cell(criterion: Criterion, percent: float) -> Cell:
    return _judged(criterion, percent, f"{_with_sign(percent, '%')} %")


def _judged(criterion: Criterion, value: float, text: str) -> Cell:
    if np.isnan(value):
        return Cell(MISSING, ("not measured",))
    return Cell(text, (criterion.limit,), "passed" if criterion.passes(value) else "failed")


def _with_sign(value: float, unit: str) -> str:
    return ("+" if value > 0 else "") + number(value, unit)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
