"""What a report says must be what it was given: in tables, files and pictures."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ctclip.errors import DataError
from ctclip.report import Report, write_report
from ctclip.report.charts import box_plots
from ctclip.report.content import (
    AcceptanceRow,
    ComparisonRow,
    Curve,
    Measure,
    Method,
    Panel,
    PatientRow,
    SliceRow,
    SummaryRow,
)
from ctclip.report.html import render_page
from ctclip.report.images import png_data_uri
from ctclip.report.tables import summary_tables

PSNR = Measure("psnr_db", "dB", "[-160,240] HU", 400.0)
WIDE = Measure("psnr_db", "dB", "[-1024,3072] HU", 4096.0)
BIAS = Measure("bias_hu fat", "HU")
EVIL = "<script>alert(1)</script>&\"'"
LETTER_PT = 0.64 * 9
"""Width of a digit in the font of the charts."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _report(**changes: object) -> Report:
    values = {"identity": (30.25, 48.5, 0.0), EVIL: (33.5, 47.25, -1.5)}
    summary = [
        SummaryRow(name, measure, value, value - 0.5, value + 0.5, 1.25, 2, 4)
        for name, row in values.items()
        for measure, value in zip((PSNR, WIDE, BIAS), row, strict=True)
    ]
    patients = [
        PatientRow(name, patient, {PSNR: row[0] + shift, WIDE: row[1], BIAS: row[2]})
        for name, row in values.items()
        for patient, shift in (("a1", -1.0), ("b2", 1.0))
    ]
    slices = [
        SliceRow(each.method, each.patient, each.patient + "/1", index, {**each.values, BIAS: math.nan})
        for each in patients
        for index in range(2)
    ]
    frequency = np.linspace(0, 0.7, 5)
    ramp = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) / 4096 * 400 - 160
    content: dict = {
        "title": "Evaluation",
        "settings": {"seed": "0"},
        "versions": {"ctclip": "9.9"},
        "methods": [Method(EVIL, "a filter", "ab" * 32), Method("identity", "nothing")],
        "summary": summary,
        "patients": patients,
        "slices": slices,
        "problems": [f"pair 3 left out {EVIL}"],
        "comparisons": [ComparisonRow(EVIL, "identity", PSNR, 3.25, 3.0, 3.5, 0.0005, 2)],
        "nps": [Curve(name, "noise", frequency, frequency * 100) for name in values],
        "ttf": [Curve(name, "rod of 300 HU", frequency, 1 - frequency) for name in values],
        "acceptance": [
            AcceptanceRow(EVIL, "noise change", "%", -41.26, "-30 to -50 %", True),
            AcceptanceRow(EVIL, "largest bias by tissue", "HU", 0.42, "at most 1 HU", True, "soft tissue"),
            AcceptanceRow(EVIL, "MTF50 change", "%", math.nan, "at most 5 %", False),
        ],
        "panels": [Panel("a1/1", "slice 1", (-160, 240), ramp, ramp, {EVIL: ramp.T})],
    }
    return Report(**{**content, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(_report(), folder)
    return folder


class _Page(HTMLParser):
    """Tags with their attributes, the text, and the cells of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_csv_holds_every_value_with_its_window(folder: Path) -> None:
    with (folder / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[3] == {
        "method": EVIL,
        "metric": "psnr_db",
        "unit": "dB",
        "window": "[-160,240] HU",
        "data_range_hu": "400.0",
        "mean": "33.5",
        "ci_low": "33.0",
        "ci_high": "34.0",
        "sd": "1.25",
        "patients": "2",
        "slices": "4",
    }
    with (folder / "patients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["psnr_db [-160,240] HU range 400"] for row in rows] == ["29.25", "31.25", "32.5", "34.5"]
    with (folder / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0]["bias_hu fat"] == "", "unknown is empty, not nan"


def test_json_is_the_same_without_nan(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["summary"][3]["mean"] == 33.5
    assert content["summary"][3]["window"] == "[-160,240] HU"
    assert [row["place"] for row in content["acceptance"]] == ["", "soft tissue", ""]
    assert content["acceptance"][2]["value"] is None
    assert content["nps"][0]["y"] == pytest.approx([0, 17.5, 35, 52.5, 70])
    assert content["methods"][0]["sha256"] == "ab" * 32
    assert content["comparisons"][0]["p_value"] == 0.0005


def test_the_page_says_the_same(folder: Path) -> None:
    text = " ".join(_Page((folder / "report.html").read_text()).text.split())
    for expected in (
        "2 methods",
        "4 slices of 2 patients",
        "33.50",
        "33.00 to 34.00",
        "+3.25",
        "p < 0.001",
        "−41.3 % passed",  # noqa: RUF001
        "0.42 HU (soft tissue) passed",
        "not measured",
        "[−160,240] HU, data range 400 HU",  # noqa: RUF001
        "[−1024,3072] HU, data range 4096 HU",  # noqa: RUF001
        "not clipped to a window",
        "ab" * 32,
        "Research use only",
    ):
        assert expected in text, expected


def test_the_best_mean_of_a_column_is_marked(folder: Path) -> None:
    cells = re.findall(r'<td class="(\w*)">([^<]+)<', (folder / "report.html").read_text())
    assert {value for kind, value in cells if kind == "best"} == {"33.50", "48.50", "0.00"}


@pytest.mark.parametrize(("noise_hu", "phantom"), [(33.04, "a phantom with 33.0 HU of noise"), (math.nan, "")])
def test_the_acceptance_says_what_its_figures_are(noise_hu: float, phantom: str) -> None:
    text = " ".join(_Page(render_page(_report(phantom_noise_hu=noise_hu))).text.split())
    assert "Bias is what a method adds to the absolute bias of its input" in text
    assert ("phantom with" in text) == bool(phantom)
    assert phantom in text


def test_means_over_different_slices_are_not_compared() -> None:
    """The identity's PSNR in the narrow window misses one of the two patients."""
    report = _report()
    slices = [
        replace(row, values={**row.values, PSNR: math.nan}) if (row.method, row.patient) == ("identity", "a1") else row
        for row in report.slices
    ]
    summary = [
        replace(row, patients=1, slices=2) if (row.method, row.measure) == ("identity", PSNR) else row
        for row in report.summary
    ]
    narrow, wide, _ = summary_tables(_report(slices=slices, summary=summary))
    assert [[cell.kind for cell in row.cells] for row in narrow.rows] == [[""], [""]]
    assert [row.note for row in narrow.rows] == ["1 patient, 2 slices", "2 patients, 4 slices"]
    assert [[cell.kind for cell in row.cells] for row in wide.rows] == [["best"], [""]]


def test_a_mean_over_fewer_slices_than_its_neighbours_says_so() -> None:
    fat, bone = BIAS, Measure("bias_hu bone", "HU")
    summary = [SummaryRow("identity", fat, 1.0, 0.5, 1.5, 1.0, 4, 120), SummaryRow("identity", bone, 2, 1, 3, 1, 2, 60)]
    (table,) = summary_tables(_report(summary=summary))
    (row,) = table.rows
    assert row.note == "4 patients, 120 slices"
    assert [cell.notes for cell in row.cells] == [("0.50 to 1.50",), ("1.00 to 3.00", "2 patients", "60 slices")]


@pytest.mark.parametrize(
    ("low", "high"), [(0.9726, 0.9881), (33.402, 33.417), (-0.1016, -0.0967), (0.0, 0.0), (-1500.0, 2500.0)]
)
def test_labels_of_narrow_ranges_do_not_touch(low: float, high: float) -> None:
    patients = [
        PatientRow(name, patient, {WIDE: value})
        for name in ("identity", EVIL)
        for patient, value in (("a1", low), ("b2", high))
    ]
    (chart,) = box_plots(_report(patients=patients))
    found = re.findall(r'<text [^>]*x="([-0-9.]+)"[^>]*>([-−.0-9]+)</text>', chart.svg)  # noqa: RUF001
    places = sorted((float(x), label) for x, label in found)
    assert len(places) >= 2
    for (x, label), (next_x, next_label) in pairwise(places):
        assert next_x - x > LETTER_PT * (len(label) + len(next_label)) / 2 + LETTER_PT, (label, next_label)


def test_names_from_files_cannot_become_code_or_tags(folder: Path) -> None:
    page = _Page((folder / "report.html").read_text())
    assert "<script>alert" not in (folder / "report.html").read_text()
    assert page.text.count("alert(1)") > 5, "the name is shown as text"
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_page_needs_no_network(folder: Path) -> None:
    page = _Page((folder / "report.html").read_text())
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data") and value
    ]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", (folder / "report.html").read_text())
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in page.tags)


def test_ids_are_unique(folder: Path) -> None:
    ids = [attributes["id"] for _, attributes in _Page((folder / "report.html").read_text()).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_pictures_are_what_their_labels_say_whatever_methods_are_called() -> None:
    """A model file may be called reference.pt."""
    images = {
        name: np.full((2, 2), hu) for name, hu in (("low", 0.0), ("full", 40.0), ("input", 80.0), ("reference", 120.0))
    }
    outputs = {name: images[name] for name in ("input", "reference")}
    page = render_page(_report(panels=[Panel("a1/1", "slice 1", (-160, 240), images["low"], images["full"], outputs)]))
    shown = [(each["alt"], each["src"]) for tag, each in _Page(page).tags if tag == "img"]
    expected = {"input (low dose)": "low", "input": "input", "reference": "reference", "reference (full dose)": "full"}
    assert shown == [(label, png_data_uri(images[name], (-160, 240))) for label, name in expected.items()]


def test_rows_of_unknown_methods_are_refused() -> None:
    with pytest.raises(DataError, match="rows of stranger"):
        _report(nps=[Curve("stranger", "noise", [0, 1], [0, 1])])


def test_an_evaluation_without_physics_or_pictures_still_makes_a_page(tmp_path: Path) -> None:
    write_report(_report(nps=[], ttf=[], acceptance=[], panels=[], comparisons=[], problems=[]), tmp_path)
    text = _Page((tmp_path / "report.html").read_text()).text
    assert text.count("Not measured.") == 3
    assert text.count("None.") == 3


def _shown(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What a browser makes of a page, with its messages."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"needs a browser: {', '.join(BROWSERS)}")
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command = [browser, *always, f"--user-data-dir={profile}", *options, "--dump-dom", page]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


MEASURE = """<script>
const hints = [...document.querySelectorAll("#summary .scroll")].map((box) => {
  const hint = box.querySelector(".hint");
  return [box.scrollWidth > box.clientWidth, hint !== null && getComputedStyle(hint).display !== "none"];
});
document.body.dataset.found = JSON.stringify([document.documentElement.scrollWidth <= innerWidth, hints]);
</script></body>"""


@pytest.mark.parametrize(("width", "wide"), [(400, [True, True]), (1200, [False, False])])
def test_a_wide_table_scrolls_in_its_own_box_and_says_so(width: int, wide: list[bool], tmp_path: Path) -> None:
    """Of the summary's tables that with eight columns on a narrow window; the page itself never is wider."""
    tissues = [Measure(f"bias_hu tissue{index}", "HU") for index in range(8)]
    summary = [SummaryRow("identity", measure, 1, 1, 2, 1, 3, 9) for measure in (PSNR, *tissues)]
    page = tmp_path / "page.html"
    page.write_text(render_page(_report(summary=summary)).replace("</body>", MEASURE), encoding="utf-8")
    shown = _Page(_shown(page, tmp_path / "profile", f"--window-size={width},900").stdout)
    found = next(attributes["data-found"] for tag, attributes in shown.tags if tag == "body")
    assert json.loads(found or "") == [True, [[False, False], wide]]


def test_a_browser_shows_it_without_errors(folder: Path, tmp_path: Path) -> None:
    # the difference is drawn by a script: the page that the browser has made of the file holds its caption
    shown = _shown(folder / "report.html", tmp_path)
    assert "Uncaught" not in shown.stderr
    assert "Content Security Policy" not in shown.stderr
    page = _Page(shown.stdout)
    canvas = next(attributes for tag, attributes in page.tags if tag == "canvas")
    assert (canvas["width"], canvas["height"]) == ("64", "64")
    assert f"{EVIL} − input (low dose), −50 to 50 HU" in page.text  # noqa: RUF001
