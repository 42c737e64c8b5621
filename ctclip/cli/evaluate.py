"""``ctclip evaluate``: judge denoisers on pairs of low-dose and full-dose CT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, SOME_FAILED, one_line_errors
from ctclip.cli.options import parse_names, parse_windows, path
from ctclip.strength import DEFAULT_STRENGTH, find_strength

if TYPE_CHECKING:
    from ctclip.data.pairs import ScanPair
    from ctclip.evaluation.bench import BenchResult
    from ctclip.evaluation.evaluate import Evaluation
    from ctclip.evaluation.methods import Method
    from ctclip.report import Report


def evaluate(
    data: Path = typer.Argument(
        ..., parser=path, metavar="DATA", help="Folder of a challenge data set, or a list of pairs."
    ),
    output: Path = typer.Option(..., parser=path, help="Folder for report.html, results.json and the CSV tables."),
    layout: str = typer.Option("auto", help="auto, mayo2016, tcia, or pairs (a JSON or CSV list)."),
    model: list[str] = typer.Option([], help="Name or checkpoint file, repeatable; 'none' judges no model."),
    strength: list[str] = typer.Option([DEFAULT_STRENGTH], help="low, medium, high, or 0 to 1; repeatable."),
    encoder_weights: str = typer.Option("", help="CLIP weights for checkpoints that hold no encoder."),
    baseline: str = typer.Option("median,nlm", help="identity, median, nlm, tv, bilateral, bm3d."),
    prediction: Path | None = typer.Option(
        None, parser=path, help="Folder with results of another tool, judged alike."
    ),
    windows: str = typer.Option("soft,full", help="soft, lung, brain, bone, full, or LEVEL,WIDTH in HU."),
    patients: str = typer.Option("", help="Folder names or hashes of the patients to use; all when empty."),
    legacy: bool = typer.Option(False, "--legacy", help="Also the figures by the published code's convention."),
    physics: bool = typer.Option(True, help="NPS, TTF and detectability on a phantom with the noise of the data."),
    panels: int = typer.Option(4, min=0, help="Scans whose middle slice is shown."),
    seed: int = typer.Option(0, min=0, help="Of the phantom's noise and the bootstrap."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="auto (bf16 where the device is faster with it), fp32 or bf16."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier evaluation."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Print errors only."),
) -> None:
    """Measure PSNR, SSIM, RMSE, bias, noise, sharpness and lesion detectability, and write a report.

    Low and full dose are paired by position. Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 some scans or
    slices were left out (the report says which).
    """
    console = plain_console(quiet=quiet)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    with one_line_errors():
        chosen_windows = parse_windows(windows)
        strengths = [find_strength(each) for each in strength]
        from ctclip.data.folders import require_folders
        from ctclip.data.pairs import find_pairs
        from ctclip.evaluation.methods import methods_of
        from ctclip.files import atomic_folder
        from ctclip.report import REPORT_FILES

        require_folders(data, output)
        with atomic_folder(output, replaces=REPORT_FILES if overwrite else None) as folder:
            pairs, problems = find_pairs(data, layout)
            pairs = _chosen(pairs, parse_names(patients))
            methods = methods_of(
                models=model or ["ct-compact"],
                strengths=strengths,
                baselines=parse_names(baseline),
                prediction=prediction,
                encoder_weights=encoder_weights or None,
                device=device,
                precision=precision,
            )
            console.print(f"{len(pairs)} pairs, methods: {', '.join(each.name for each in methods)}")
            settings = {
                "layout": layout,
                "pairs": str(len(pairs)),
                "windows": windows,
                "strength": ", ".join(strength),
                "seed": str(seed),
                "legacy": str(legacy),
            }
            report = _run(console, pairs, problems, methods, chosen_windows, settings, legacy, physics, panels, seed)
            from ctclip.report import write_report

            write_report(report, folder)
        _print(console, report)
        console.print(f"report: {output / 'report.html'}")
        raise typer.Exit(SOME_FAILED if report.problems else ALL_DONE)


def _chosen(pairs: list[ScanPair], names: list[str]) -> list[ScanPair]:
    from ctclip.data.layouts import hashed
    from ctclip.errors import DataError

    if not names:
        return pairs
    known = {pair.patient for pair in pairs}
    unknown = [name for name in names if hashed(name) not in known and name not in known]
    if unknown:
        raise DataError(
            f"--patients: {len(unknown)} of {len(names)} names are not among the {len(known)} patients of the data: "
            "give the names of their folders"
        )
    wanted = {hashed(name) for name in names} | set(names)
    return [pair for pair in pairs if pair.patient in wanted]


def _run(
    console: Console,
    pairs: list[ScanPair],
    problems: list[str],
    methods: list[Method],
    windows: list[tuple[float, float]],
    settings: dict[str, str],
    legacy: bool,
    physics: bool,
    panels: int,
    seed: int,
) -> Report:
    from ctclip.errors import DataError
    from ctclip.evaluation.document import make_report
    from ctclip.evaluation.evaluate import evaluate as measure
    from ctclip.evaluation.summary import summarise

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading", total=None)

        def progress(text: str, done: float, total: float) -> None:
            bar.update(task, description=text, completed=done, total=total)

        evaluation = measure(pairs, methods, windows, legacy=legacy, panels=panels, progress=progress)
        if not evaluation.slices:
            raise DataError(f"nothing could be measured: {evaluation.problems[0]}")
        bench = _bench(bar, methods, evaluation, seed, settings) if physics else {}
    evaluation.problems[:0] = problems
    used = {each.method for each in evaluation.slices}
    methods = [each for each in methods if each.name in used]
    summary = summarise(evaluation, bench, seed=seed)
    return make_report(evaluation, summary, bench, methods, settings)


def _bench(
    bar: Progress, methods: list[Method], evaluation: Evaluation, seed: int, settings: dict[str, str]
) -> dict[str, BenchResult]:
    import math

    from ctclip.evaluation.bench import run_bench
    from ctclip.metrics.noise import NO_VARIANCE_HU2

    noise_sd_hu = evaluation.noise_sd_hu
    if not math.isfinite(noise_sd_hu):
        settings["physics"] = "left out: no scan holds enough soft tissue to measure its noise"
        return {}
    if noise_sd_hu**2 <= NO_VARIANCE_HU2:
        settings["physics"] = "left out: the low-dose scans hold no noise"
        evaluation.problems.append(
            "physics left out: the low-dose scans hold no noise (median SD 0 HU), expected that of a low dose; check "
            "the data"
        )
        return {}
    settings["physics"] = f"phantom with {noise_sd_hu:.1f} HU of noise, the median of the low-dose scans"
    runnable = [each for each in methods if each.denoise is not None]
    task = bar.add_task("phantom", total=len(runnable))
    bench = {}
    for each in runnable:
        bar.update(task, description=f"phantom {each.name}")
        if each.denoise is not None:
            bench[each.name] = run_bench(each.denoise, noise_sd_hu, seed=seed)
        bar.advance(task)
    return bench


def _print(console: Console, report: Report) -> None:
    """The means in the first window, and what was left out."""
    from ctclip.report.labels import metric_label, number, window_label

    measures = [each for each in report.measures if each.data_range_hu is not None]
    first = [each for each in measures if each.window == measures[0].window and "legacy" not in each.metric]
    table = Table(title=f"Mean over patients, {window_label(measures[0])}")
    for column in ("method", *(f"{metric_label(each)} {each.unit}".strip() for each in first)):
        table.add_column(column)
    means = {(row.method, row.measure): row.mean for row in report.summary}
    for name in report.method_names:
        table.add_row(name, *(number(means[name, each], each.unit) for each in first))
    console.print(table)
    for problem in report.problems:
        console.print(f"  {problem}")
