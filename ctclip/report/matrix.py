"""The generalisation matrix as a page with heat maps, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctclip.report.content import IDENTITY, Method
from ctclip.report.html import environment
from ctclip.report.labels import count, number, signed

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

    Values are means over seeds with their SD; so is the last row, whose value for each seed is the mean over scans. It
    takes the seeds that all of its scans have. A field of fewer scans or seeds than the condition has says so.
    """
    conditions, scans, methods = (
        list(dict.fromkeys(get(each) for each in cells))
        for get in (lambda cell: cell.condition, lambda cell: cell.scan, lambda cell: cell.method)
    )
    values = {(c.method, c.scan, c.condition, c.seed): c.quality for c in cells}
    seeds = {each: sorted({cell.seed for cell in cells if cell.condition == each}) for each in conditions}

    def of_seeds(method: str, scan: str, condition: Condition) -> dict[int, float]:
        """One number by seed."""
        found = {}
        for seed in seeds[condition]:
            mine, its_input = (values.get((name, scan, condition, seed)) for name in (method, IDENTITY))
            if mine and its_input:
                found[seed] = _value(mine, its_input, condition, method)
        return found

    return [
        HeatMap(method, _rows(method, scans, {each: len(seeds[each]) for each in conditions}, of_seeds))
        for method in methods
    ]


def _rows(
    method: str,
    scans: Sequence[str],
    conditions: Mapping[Condition, int],
    of_seeds: Callable[[str, str, Condition], dict[int, float]],
) -> list[tuple[str, list[Field]]]:
    """Rows of a heat map, by conditions and the number of their seeds."""
    found = {(scan, each): of_seeds(method, scan, each) for scan in scans for each in conditions}
    rows = [
        (scan, [_field(found[scan, each], each, method, seeds) for each, seeds in conditions.items()]) for scan in scans
    ]
    if len(scans) > 1:
        means = [
            _mean_field([found[scan, each] for scan in scans], each, method, seeds)
            for each, seeds in conditions.items()
        ]
        rows.append(("mean over scans", means))
    return rows


def _mean_field(of_scans: Sequence[dict[int, float]], condition: Condition, method: str, seeds: int) -> Field:
    """The mean over the scans that have a value, of each seed that all of these have."""
    known = [each for each in of_scans if each]
    shared = sorted(set.intersection(*map(set, known))) if known else []
    means = {seed: float(np.mean([each[seed] for each in known])) for seed in shared}
    return _field(means, condition, method, seeds, _fewer(len(known), len(of_scans), "scan"))


def _value(mine: dict[str, float], its_input: dict[str, float], condition: Condition, method: str) -> float:
    if not condition.domain:
        return mine["rmse_hu"]
    return mine["psnr_db"] if method == IDENTITY else mine["psnr_db"] - its_input["psnr_db"]


def _field(
    of_seeds: dict[int, float], condition: Condition, method: str, seeds: int, fewer: Sequence[str] = ()
) -> Field:
    """Mean and SD over seeds, with what is missing.

    Args:
        of_seeds: numbers by seed.
        condition: of the field.
        method: likewise.
        seeds: number of seeds of the condition.
        fewer: what else is missing.
    """
    if not of_seeds:
        return Field(number(float("nan"), ""))
    values = list(of_seeds.values())
    mean = float(np.mean(values))
    gain = bool(condition.domain) and method != IDENTITY
    sd = ["± " + number(float(np.std(values, ddof=1)), "dB")] if len(values) > 1 else []
    text = ("+" if gain and mean > 0 else "") + number(mean, "dB")
    unit = "dB" if condition.domain else "HU"
    return Field(
        f"{text} {unit}",
        ", ".join([*sd, *fewer, *_fewer(len(values), seeds, "seed")]),
        _colour(mean) if gain else "transparent",
    )


def _fewer(found: int, expected: int, what: str) -> list[str]:
    """Such as ["1 of 2 scans"] where some are missing."""
    return [f"{found} of {count(expected, what)}"] if found < expected else []


def _colour(gain_db: float) -> str:
    """Blue for a gain, red for a loss, white between; dark text stays readable on all of them."""
    share = round(min(abs(gain_db) / DEEPEST_DB, 1) * 60)
    return f"color-mix(in srgb, {'#2b7bba' if gain_db > 0 else '#d6604d'} {share}%, white)"
