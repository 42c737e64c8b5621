"""The charts of the page, as SVG to be put into HTML: no network, sharp in print, text that can be searched."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctclip.report.content import IDENTITY, Curve, Measure, Report
from ctclip.report.figures import plain_text
from ctclip.report.labels import metric_label, window_label

IDENTITY_COLOUR = "#6b7280"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a07800", "#56b4e9", "#7b3fa0", "#8c2d2d")
"""Told apart by colour-blind readers: those of Okabe and Ito 2008, yellow darkened for white paper, and two more."""

DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (1, 2))
"""When the colours are used up they begin again with other dashes."""

WIDTH_IN, CURVE_HEIGHT_IN = 4.4, 2.9
BOX_HEIGHT_IN, AXIS_HEIGHT_IN = 0.3, 0.6
"""Height of one method in a box plot, and of the axis below."""

NAME_WIDTH = 20
"""Letters of a method's name in one line of a box plot."""

MOST_STEPS, ROUND_STEPS = 5, (1, 2, 5, 10)
"""Of the axis of a box plot: labels of many digits must not touch. Steps of 2.5 would need one more."""

POINT_SPREAD = 0.2
"""Patients are drawn up to so far above and below the middle of their box, whose height is 1."""


@dataclass(frozen=True)
class Style:
    """How a method looks in every chart.

    Args:
        colour: of lines, boxes and points.
        dashes: lengths of dashes and gaps; empty for a solid line.
    """

    colour: str
    dashes: tuple[int, ...]


@dataclass(frozen=True)
class Chart:
    """A drawing with its text.

    Args:
        title: what it shows.
        note: the conditions.
        svg: an ``<svg>`` element.
    """

    title: str
    note: str
    svg: str


def method_styles(names: Sequence[str]) -> dict[str, Style]:
    """The style of each method: grey for the identity, a colour for each other one."""
    others = [name for name in names if name != IDENTITY]
    styles = {
        name: Style(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, name in enumerate(others)
    }
    return {name: styles.get(name, Style(IDENTITY_COLOUR, ())) for name in names}


def box_plots(report: Report) -> list[Chart]:
    """One chart per measure, methods below each other, one point per patient; measures without values are left out."""
    styles = method_styles(report.method_names)
    charts = []
    for measure in report.measures:
        values = _patient_values(report, measure)
        if values:
            title = f"{metric_label(measure)}, {measure.unit}" if measure.unit else metric_label(measure)
            charts.append(Chart(title, window_label(measure), _box_plot(values, styles, salt=measure.name)))
    return charts


def curve_charts(curves: Sequence[Curve], styles: dict[str, Style], *, y_label: str) -> list[Chart]:
    """One chart per label, one line per method.

    Args:
        curves: over frequency in 1/mm.
        styles: from :func:`method_styles`.
        y_label: of the vertical axis.
    """
    labels = dict.fromkeys(curve.label for curve in curves)
    return [
        Chart(label, "", _lines([curve for curve in curves if curve.label == label], styles, y_label))
        for label in labels
    ]


def _patient_values(report: Report, measure: Measure) -> dict[str, dict[str, float]]:
    """Finite values by method and patient."""
    found: dict[str, dict[str, float]] = {}
    for name in report.method_names:
        rows = [row for row in report.patients if row.method == name]
        values = {row.patient: float(row.values.get(measure, np.nan)) for row in rows}
        known = {patient: value for patient, value in values.items() if np.isfinite(value)}
        if known:
            found[name] = known
    return found


def _box_plot(values: dict[str, dict[str, float]], styles: dict[str, Style], *, salt: str) -> str:
    patients = list(dict.fromkeys(patient for known in values.values() for patient in known))
    offsets = dict(zip(patients, np.linspace(-POINT_SPREAD, POINT_SPREAD, len(patients) + 2)[1:-1], strict=True))
    with _plain_text():
        figure = Figure(figsize=(WIDTH_IN, AXIS_HEIGHT_IN + BOX_HEIGHT_IN * len(values)), layout="constrained")
        axes = figure.subplots()
        drawn = axes.boxplot(
            [list(known.values()) for known in values.values()],
            orientation="horizontal",
            widths=0.65,
            showfliers=False,
            patch_artist=True,
        )
        for index, (name, known) in enumerate(values.items()):
            colour = styles[name].colour
            drawn["boxes"][index].set(facecolor=to_rgba(colour, 0.18), edgecolor=colour)
            lines = (drawn["medians"][index], *drawn["whiskers"][2 * index :][:2], *drawn["caps"][2 * index :][:2])
            for line in lines:
                line.set_color(colour)
            heights = [index + 1 + offsets[patient] for patient in known]
            axes.plot(list(known.values()), heights, "o", color=colour, markersize=3, markeredgewidth=0, alpha=0.8)
        axes.set_yticks(range(1, len(values) + 1), [textwrap.fill(name, NAME_WIDTH) for name in values])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(MOST_STEPS, steps=ROUND_STEPS))
        _tidy(axes)
        return _svg(figure, salt)


def _lines(curves: Sequence[Curve], styles: dict[str, Style], y_label: str) -> str:
    with _plain_text():
        figure = Figure(figsize=(WIDTH_IN, CURVE_HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            style = styles[curve.method]
            axes.plot(curve.x, curve.y, color=style.colour, linestyle=(0, style.dashes) if style.dashes else "-")
        axes.set(xlabel="spatial frequency, 1/mm", ylabel=y_label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        _tidy(axes)
        return _svg(figure, y_label + curves[0].label)


@contextmanager
def _plain_text() -> Iterator[None]:
    """Text stays text, of one size, and a dollar sign in a name begins no formula."""
    with plain_text(), matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9, "lines.linewidth": 1.5}):
        yield


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]


def _svg(figure: Figure, salt: str) -> str:
    """An ``<svg>`` element whose ids differ from those of charts with another salt."""
    file = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = file.getvalue()
    # in HTML the namespaces are known, and the names of groups would appear once per chart
    element = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text[text.index("<svg") :], count=2)
    return re.sub(r'<g id="[^"]*"', "<g", element)
