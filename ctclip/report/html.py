"""The page of a report: one file that needs no network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ctclip.report.charts import box_plots, curve_charts, method_styles
from ctclip.report.content import Panel, Report
from ctclip.report.images import DIFFERENCE_HU, png_data_uri
from ctclip.report.labels import count, signed
from ctclip.report.tables import acceptance_table, comparison_tables, summary_tables

NPS_LABEL, TTF_LABEL = "NPS, HU² mm²", "TTF"

INPUT, REFERENCE = "input (low dose)", "reference (full dose)"
"""Labels of pictures, beside the names of methods."""


@dataclass(frozen=True)
class Pictures:
    """A panel for the page.

    Args:
        title: scan and slice.
        window: in which it is shown, in words.
        gain: grey levels of the difference per grey level of the images.
        images: label and picture of each; two may have the same label.
    """

    title: str
    window: str
    gain: float
    images: list[tuple[str, str]]


def environment() -> Environment:
    """The templates of the package. Everything that is put into them is escaped, but for the charts by the filter
    "drawing": matplotlib has escaped their text."""
    templates = Environment(
        loader=PackageLoader("ctclip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["drawing"] = Markup
    return templates


def render_page(report: Report) -> str:
    """The HTML of a report."""
    styles = method_styles(report.method_names)
    page = environment().get_template("page.html")
    return page.render(
        report=report,
        patients=count(len({row.patient for row in report.patients}), "patient"),
        slices=count(len({(row.patient, row.scan, row.index) for row in report.slices}), "slice"),
        summary=summary_tables(report),
        acceptance=acceptance_table(report),
        comparisons=comparison_tables(report),
        boxes=box_plots(report),
        styles=styles,
        nps=curve_charts(report.nps, styles, y_label=NPS_LABEL),
        ttf=curve_charts(report.ttf, styles, y_label=TTF_LABEL),
        panels=[_pictures(panel) for panel in report.panels],
        difference_hu=DIFFERENCE_HU,
        phantom_noise="" if math.isnan(report.phantom_noise_hu) else f"{report.phantom_noise_hu:.1f} HU",
    )


def _pictures(panel: Panel) -> Pictures:
    low, high = panel.window_hu
    images_hu = [(INPUT, panel.input_hu), *panel.outputs_hu.items(), (REFERENCE, panel.reference_hu)]
    return Pictures(
        title=f"{panel.scan}, {panel.slice_label}",
        window=signed(f"{low:g} to {high:g} HU"),
        gain=(high - low) / (2 * DIFFERENCE_HU),
        images=[(label, png_data_uri(image, panel.window_hu)) for label, image in images_hu],
    )
