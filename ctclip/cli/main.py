"""The ``ctclip`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import typer

from ctclip import __version__
from ctclip.cli.benchmark import benchmark_app
from ctclip.cli.check import check
from ctclip.cli.demo import demo
from ctclip.cli.denoise import denoise
from ctclip.cli.evaluate import evaluate
from ctclip.cli.features import features
from ctclip.cli.inspect import inspect
from ctclip.cli.matrix import matrix
from ctclip.cli.simulate import simulate
from ctclip.cli.weights import weights_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Denoise low-dose CT. Research use only; not a medical device.",
)
app.command()(denoise)
app.command()(demo)
app.command()(evaluate)
app.command()(features)
app.command()(inspect)
app.command()(check)
app.command()(matrix)
app.command()(simulate)
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(weights_app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ctclip {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Denoise low-dose CT. Research use only; not a medical device."""
