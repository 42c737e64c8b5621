"""``ctclip benchmark natural``: denoisers on photographs, under noise that their training did not have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.config_file import typed
from ctclip.cli.console import plain_console, say_error
from ctclip.cli.exit_codes import ALL_DONE, SOME_FAILED, one_line_errors
from ctclip.cli.options import Device, EncoderWeights, Precision, Quiet, parse_names, path
from ctclip.settings import NATURAL_MODEL

if TYPE_CHECKING:
    from ctclip.natural.methods import MethodSpec
    from ctclip.natural.noise import Noise
    from ctclip.natural.sets import ImageSet

benchmark_app = typer.Typer(no_args_is_help=True, help="Benchmarks of denoisers.")


@benchmark_app.callback()
def benchmark() -> None:
    """Benchmarks of denoisers."""


@benchmark_app.command()
def natural(
    context: typer.Context,
    data: Path = typer.Option(..., parser=path, help="Folder with a folder per image set."),
    output: Path = typer.Option(
        ..., parser=path, help="Folder for results; an interrupted run goes on where it stopped."
    ),
    sets: str = typer.Option(
        "CBSD68,Kodak24,McMaster,Urban100", help="Folders of clean images: names in --data, or paths (./NAME)."
    ),
    real: str = typer.Option("", help="Folders of pairs with real noise, for example CC,PolyU,SIDD."),
    noise: list[str] = typer.Option(
        [], help="Family and levels, repeatable, or several in one text: 'gaussian:15,25 mixture:1-4'. Default: all."
    ),
    model: list[str] = typer.Option([NATURAL_MODEL], help="Model or checkpoint file, repeatable; 'none' for no model."),
    encoder_weights: EncoderWeights = "",
    adapt: str = typer.Option("yes", help="Bring images to the model's training noise first: yes, no or both."),
    baseline: str = typer.Option("identity", help="identity, median and bm3d, separated by commas; '' for none."),
    images: int | None = typer.Option(None, min=1, help="Images per set, evenly spread. Default: all."),
    device: Device = "auto",
    precision: Precision = "auto",
    batch: int = typer.Option(1, min=1, help="Images of one size that go through the network together."),
    workers: int = typer.Option(1, min=1, help="Processes, which share the CPU."),
    quiet: Quiet = False,
) -> None:
    """PSNR and SSIM of models and filters on photographs, as tables, curves and panels.

    Noise is that of the published protocol: in floating point, seeded for every image.

    Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 an image set that was asked for is missing.
    """
    console = plain_console(quiet=quiet)
    with one_line_errors():
        from ctclip.errors import ConfigError
        from ctclip.natural.benchmark import Cell
        from ctclip.natural.noise import DEFAULT_FAMILIES, parse_noise

        methods = _methods(model, baseline, adapt, encoder_weights, device, precision)
        if typed(context, "noise") and not any(sets.split(",")):
            raise ConfigError(
                "no effect on pairs with real noise: --noise; leave it out, or name image sets with --sets"
            )
        wanted = [each for text in noise for each in text.split()]
        noises = parse_noise(wanted or DEFAULT_FAMILIES)
        clean_sets, missing = _find_sets(data, sets)
        real_sets, missing_pairs = _find_sets(data, real, real=True)
        _require_names_of_their_own(clean_sets + real_sets)
        pairs: list[tuple[ImageSet, Noise | None]] = [
            (each.spread(images), one) for each in clean_sets for one in noises
        ]
        pairs += [(each.spread(images), None) for each in real_sets]
        if not pairs or not methods:
            raise ConfigError("nothing to measure: no image set was found, or no method is left")
        _run(console, [Cell(method, *pair, batch) for pair in pairs for method in methods], output, workers)
        # the default is whatever is there of the usual sets
        incomplete = bool(missing_pairs or (missing and typed(context, "sets")))
        raise typer.Exit(SOME_FAILED if incomplete else ALL_DONE)


def _methods(
    models: list[str], baselines: str, adapt: str, encoder_weights: str, device: str, precision: str
) -> list[MethodSpec]:
    from ctclip.errors import ConfigError
    from ctclip.natural.methods import MethodSpec, make_method
    from ctclip.weights import encoder_weights_of, model_labels

    if adapt not in ("yes", "no", "both"):
        raise ConfigError(f"--adapt must be yes, no or both, found {adapt!r}")
    found = [MethodSpec(name=name, is_model=False) for name in parse_names(baselines)]
    chosen = models if models != ["none"] else []
    weights_of_each = encoder_weights_of(chosen, encoder_weights or None)
    for name, shown_as, weights in zip(chosen, model_labels(chosen), weights_of_each, strict=True):
        for adapted in {"yes": [True], "no": [False], "both": [False, True]}[adapt]:
            found.append(
                MethodSpec(
                    name=name,
                    is_model=True,
                    adapt=adapted,
                    encoder_weights=str(weights or ""),
                    device=device,
                    precision=precision,
                    shown_as=shown_as,
                )
            )
    labels = [method.label for method in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"two methods are called {label!r}: rename one checkpoint file or leave one out")
    for method in found:
        make_method(method)  # what is wrong shows now and not after an hour
    return found


def _find_sets(data: Path, names: str, *, real: bool = False) -> tuple[list[ImageSet], list[str]]:
    from ctclip.natural.sets import find_sets

    found, missing = find_sets(data, parse_names(names), real=real)
    for line in missing:
        say_error(f"not found: {line}")
    return found, missing


def _require_names_of_their_own(sets: list[ImageSet]) -> None:
    """Tables and curves tell sets apart by their names."""
    from ctclip.errors import ConfigError

    names = [each.name for each in sets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two image sets are called {name!r}: rename one of the folders or leave one out")


def _run(console: Console, cells: list, output: Path, workers: int) -> None:
    from ctclip.atomic import atomic_path
    from ctclip.cli.progress import cell_progress
    from ctclip.natural.benchmark import run_cells, write_results
    from ctclip.natural.report import markdown, write_curves, write_panels

    with cell_progress(console) as bar:
        task = bar.add_task("measuring", total=len(cells))
        results = run_cells(cells, output / "cells", workers=workers, cell_done=lambda _: bar.advance(task))
    write_results(results, cells, output)
    with atomic_path(output / "results.md") as partial:
        partial.write_text(markdown(results))
    write_curves(results, output / "curves.png")
    write_panels(cells, output / "panels.png")
    console.print(markdown(results))
    console.print(f"{output}: results.md, results.csv, results.json, curves.png, panels.png")
