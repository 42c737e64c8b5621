"""``ctclip evaluate``: judge denoisers on pairs of low-dose and full-dose CT."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, SOME_FAILED, one_line_errors
from ctclip.cli.options import parse_names, parse_windows, path
from ctclip.strength import DEFAULT_STRENGTH, find_strength

if TYPE_CHECKING:
    from ctclip.data.pairs import ScanPair
    from ctclip.evaluation.methods import Method
    from ctclip.evaluation.run import EvaluationSettings
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
    seed: int = typer.Option(0, min=0, help="Of the phantom's noise."),
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
        from ctclip.atomic import atomic_folder
        from ctclip.data.folders import require_folders
        from ctclip.data.pairs import find_pairs, of_patients
        from ctclip.evaluation.methods import methods_of
        from ctclip.evaluation.run import EvaluationSettings
        from ctclip.report import REPORT_FILES, write_report

        require_folders(data, output)
        with atomic_folder(output, replaces=REPORT_FILES if overwrite else None) as folder:
            pairs, problems = find_pairs(data, layout)
            pairs = of_patients(pairs, parse_names(patients))
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
            stated = {
                "layout": layout,
                "pairs": str(len(pairs)),
                "windows": windows,
                "strength": ", ".join(strength),
                "seed": str(seed),
                "legacy": str(legacy),
            }
            settings = EvaluationSettings(chosen_windows, legacy, physics, panels, seed)
            report = _with_bars(console, pairs, methods, settings, problems, stated)
            write_report(report, folder)
        _print(console, report)
        console.print(f"report: {output / 'report.html'}")
        raise typer.Exit(SOME_FAILED if report.problems else ALL_DONE)


def _with_bars(
    console: Console,
    pairs: list[ScanPair],
    methods: list[Method],
    settings: EvaluationSettings,
    problems: list[str],
    stated: dict[str, str],
) -> Report:
    from ctclip.evaluation.run import evaluate_pairs

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        return evaluate_pairs(
            pairs,
            methods,
            settings,
            problems=problems,
            stated=stated,
            progress=_moves(bar, bar.add_task("reading", total=None)),
            phantom_progress=_moves(bar, bar.add_task("phantom", start=False, visible=False)),
        )


def _moves(bar: Progress, task: TaskID) -> Callable[[str, float, float], None]:
    """A callback that moves a bar, and shows it first."""

    def progress(text: str, done: float, total: float) -> None:
        bar.start_task(task)
        bar.update(task, description=text, completed=done, total=total, visible=True)

    return progress


def _print(console: Console, report: Report) -> None:
    """The means in the first window, and what was left out."""
    from ctclip.report.labels import metric_label, number, window_label

    measures = [each for each in report.measures if each.data_range_hu is not None]
    first = [each for each in measures if each.window == measures[0].window and "legacy" not in each.metric]
    table = Table(title=f"Mean over patients, {window_label(measures[0])}")
    for column in ("method", "patients", *(f"{metric_label(each)} {each.unit}".strip() for each in first)):
        table.add_column(column)
    rows = {(row.method, row.measure): row for row in report.summary}
    for name in report.method_names:
        of_method = [rows[name, each] for each in first]
        means = (number(row.mean, row.measure.unit) for row in of_method)
        table.add_row(name, str(of_method[0].patients), *means)
    console.print(table)
    for problem in report.problems:
        console.print(f"  {problem}")
