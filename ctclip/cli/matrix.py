"""``ctclip matrix``: how far a denoiser generalises over noise, dose and scans."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import ALL_DONE, SOME_FAILED, one_line_errors
from ctclip.cli.options import parse_names, parse_numbers, parse_window, path
from ctclip.strength import find_strength


def matrix(
    data: Path = typer.Argument(
        ..., parser=path, metavar="DATA", help="Folder or list of CT volumes, DICOM series or pairs."
    ),
    output: Path = typer.Option(..., parser=path, help="Folder for matrix.html and matrix.csv."),
    noise: str = typer.Option("white,image,projection", help="Kinds of noise, see 'ctclip simulate'."),
    dose: str = typer.Option("1,0.5,0.25,0.1", help="Fractions of the scans' dose; 1 adds nothing."),
    texture: str = typer.Option("standard", help="smooth, standard, sharp."),
    model: list[str] = typer.Option(["ct-compact"], help="Name or checkpoint file, repeatable; 'none' for no model."),
    strength: list[str] = typer.Option(["1"], help="low, medium, high, or 0 to 1; repeatable."),
    encoder_weights: str = typer.Option("", help="CLIP weights for checkpoints that hold no encoder."),
    baseline: str = typer.Option("median", help="identity, median, nlm, tv, bilateral, bm3d."),
    window: str = typer.Option("soft", help="soft, lung, brain, bone, full, or LEVEL,WIDTH in HU."),
    slices: int = typer.Option(5, min=1, help="Slices from the middle of each scan."),
    seeds: int = typer.Option(3, min=1, help="Number of noise seeds."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="auto (bf16 where the device is faster with it), fp32 or bf16."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier matrix."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Print errors only."),
) -> None:
    """Measure methods on simulated noise of several kinds and doses, scan by scan, as table and heat map.

    Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 something was left out (the page says what).
    """
    console = plain_console(quiet=quiet)
    with one_line_errors():
        chosen_window = parse_window(window)
        strengths = [find_strength(each) for each in strength]
        doses = parse_numbers("--dose", dose, above=0, up_to=1)
        from ctclip.atomic import atomic_folder
        from ctclip.data.folders import require_folders
        from ctclip.errors import DataError
        from ctclip.evaluation.document import described, versions
        from ctclip.evaluation.matrix import conditions, find_scans, run_matrix
        from ctclip.evaluation.methods import methods_of
        from ctclip.report.matrix import MATRIX_FILES, write_matrix
        from ctclip.simulation import require_known

        domains, textures = parse_names(noise), parse_names(texture)
        require_known(domains, textures)
        require_folders(data, output)
        with atomic_folder(output, replaces=MATRIX_FILES if overwrite else None) as folder:
            methods = methods_of(
                models=model,
                strengths=strengths,
                baselines=parse_names(baseline),
                prediction=None,
                encoder_weights=encoder_weights or None,
                device=device,
                precision=precision,
            )
            scans, problems = find_scans(data, slices)
            columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            with Progress(*columns, console=console) as bar:
                task = bar.add_task("reading", total=None)
                cells, more = run_matrix(
                    scans,
                    methods,
                    conditions(domains, textures, doses),
                    chosen_window,
                    range(seeds),
                    lambda text, done, total: bar.update(task, description=text, completed=done, total=total),
                )
            if not cells:
                raise DataError(f"nothing could be measured: {more[0]}")
            problems += more
            settings = {
                "scans": str(len(scans)),
                "slices of each scan": str(slices),
                "noise": ", ".join(domains),
                "texture": ", ".join(textures),
                "dose": ", ".join(f"{each:g}" for each in doses),
                "window": window,
                "strength": ", ".join(strength),
                "seeds": f"0 to {seeds - 1}" if seeds > 1 else "0",
            }
            write_matrix(
                cells,
                folder,
                window_hu=chosen_window,
                settings=settings,
                methods=described(methods),
                versions=versions(),
                problems=problems,
            )
        console.print(f"heat maps: {output / 'matrix.html'}")
        raise typer.Exit(SOME_FAILED if problems else ALL_DONE)
