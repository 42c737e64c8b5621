"""The generalisation matrix as a page with heat maps, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctclip.report.content import IDENTITY, Method
from ctclip.report.html import environment
from ctclip.report.labels import number, signed

MATRIX_FILES = ("matrix.html", "matrix.csv")

DEEPEST_DB = 8.0
"""Gain or loss of the deepest colour."""


@dataclass(frozen=True)
class Condition:
    """One kind of noise at one dose.

    Args:
        domain: of the noise; "" at full dose, where nothing is added.
        texture: of the noise; "" where it has none.
        dose: fraction of the scan's dose.
    """

    domain: str
    texture: str
    dose: float

    @property
    def noise(self) -> str:
        """Such as "projection, smooth"."""
        return ", ".join(part for part in (self.domain, self.texture) if part) or "nothing added"


@dataclass(frozen=True)
class Cell:
    """A method under a condition on a scan, with one seed; means over slices.

    Args:
        method: name.
        scan: label without patient data.
        condition: noise and dose.
        seed: of the noise.
        quality: "psnr_db", "ssim", "rmse_hu" and "mae_hu" in one window.
    """

    method: str
    scan: str
    condition: Condition
    seed: int
    quality: dict[str, float]


@dataclass(frozen=True)
class Field:
    """A field of a heat map: text, small print, and the colour behind it."""

    text: str
    note: str = ""
    colour: str = "transparent"


@dataclass(frozen=True)
class HeatMap:
    """One per method: a row per scan and the mean of them, a column per condition."""

    method: str
    rows: list[tuple[str, list[Field]]]


def write_matrix(
    cells: Sequence[Cell],
    folder: Path,
    *,
    window_hu: tuple[float, float],
    settings: dict[str, str],
    methods: Sequence[Method],
    versions: dict[str, str],
    problems: Sequence[str],
) -> None:
    """Write ``matrix.html`` and ``matrix.csv``.

    Args:
        cells: with those of "identity".
        folder: exists; files of these names in it are replaced.
        window_hu: of the metrics.
        settings: by name.
        methods: those of the cells.
        versions: of programs and libraries, by name.
        problems: what was left out and why.
    """
    low, high = window_hu
    suffix = f" [{low:g},{high:g}] HU range {high - low:g}"
    with (folder / "matrix.csv").open("w", newline="", encoding="utf-8") as file:
        metrics = list(cells[0].quality)
        writer = csv.writer(file)
        writer.writerow(["method", "scan", "noise", "texture", "dose", "seed", *(name + suffix for name in metrics)])
        for each in cells:
            where = each.condition
            values = [each.quality[name] for name in metrics]
            writer.writerow([each.method, each.scan, where.domain, where.texture, where.dose, each.seed, *values])
    page = environment().get_template("matrix.html")
    text = page.render(
        conditions=list(dict.fromkeys(each.condition for each in cells)),
        maps=heat_maps(cells),
        window=signed(f"[{low:g},{high:g}] HU, data range {high - low:g} HU"),
        settings=settings,
        methods=methods,
        versions=versions,
        problems=problems,
    )
    (folder / "matrix.html").write_text(text, encoding="utf-8")


def heat_maps(cells: Sequence[Cell]) -> list[HeatMap]:
    """Of the identity its PSNR, of the other methods their gain over it, in dB; at full dose the RMSE in HU.

    Values are means over seeds with their SD; so is the last row, whose value for each seed is the mean over scans.
    """
    conditions, scans, methods = (
        list(dict.fromkeys(get(each) for each in cells))
        for get in (lambda cell: cell.condition, lambda cell: cell.scan, lambda cell: cell.method)
    )
    values = {(c.method, c.scan, c.condition, c.seed): c.quality for c in cells}
    seeds = list(dict.fromkeys(each.seed for each in cells))

    def of_seeds(method: str, scan: str, condition: Condition) -> list[float]:
        """One number per seed."""
        found = []
        for seed in seeds:
            mine, its_input = (values.get((name, scan, condition, seed)) for name in (method, IDENTITY))
            if mine and its_input:
                found.append(_value(mine, its_input, condition, method))
        return found

    return [HeatMap(method, _rows(method, scans, conditions, of_seeds)) for method in methods]


def _rows(
    method: str,
    scans: Sequence[str],
    conditions: Sequence[Condition],
    of_seeds: Callable[[str, str, Condition], list[float]],
) -> list[tuple[str, list[Field]]]:
    found = {(scan, each): of_seeds(method, scan, each) for scan in scans for each in conditions}
    rows = [(scan, [_field(found[scan, each], each, method) for each in conditions]) for scan in scans]
    if len(scans) > 1:
        known = [[found[scan, each] for scan in scans if found[scan, each]] for each in conditions]
        # zip: of the seeds that all scans have
        means = [[float(np.mean(of_seed)) for of_seed in zip(*of_scans, strict=False)] for of_scans in known]
        rows.append(("mean over scans", [_field(v, each, method) for v, each in zip(means, conditions, strict=True)]))
    return rows


def _value(mine: dict[str, float], its_input: dict[str, float], condition: Condition, method: str) -> float:
    if not condition.domain:
        return mine["rmse_hu"]
    return mine["psnr_db"] if method == IDENTITY else mine["psnr_db"] - its_input["psnr_db"]


def _field(values: Sequence[float], condition: Condition, method: str) -> Field:
    if not values:
        return Field(number(float("nan"), ""))
    mean = float(np.mean(values))
    gain = bool(condition.domain) and method != IDENTITY
    sd = number(float(np.std(values, ddof=1)), "dB") if len(values) > 1 else ""
    text = ("+" if gain and mean > 0 else "") + number(mean, "dB")
    unit = "dB" if condition.domain else "HU"
    return Field(f"{text} {unit}", f"± {sd}" if sd else "", _colour(mean) if gain else "transparent")


def _colour(gain_db: float) -> str:
    """Blue for a gain, red for a loss, white between; dark text stays readable on all of them."""
    share = round(min(abs(gain_db) / DEEPEST_DB, 1) * 60)
    return f"color-mix(in srgb, {'#2b7bba' if gain_db > 0 else '#d6604d'} {share}%, white)"
