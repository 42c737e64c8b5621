"""The ``ctclip`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import signal
from types import FrameType

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
from ctclip.memory import keep_freed_memory

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that tell a program to end; Windows has no SIGHUP."""

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


def run() -> None:
    """The program: the command line, which also cleans up when it is told to end."""
    keep_freed_memory()
    told: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        for each in ENDING:  # a second one would break off the cleaning up
            signal.signal(each, signal.SIG_IGN)
        told.append(number)
        raise SystemExit(128 + number)

    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, end)
    try:
        app()
    except SystemExit:
        if told:  # Ray, when it is the first to see the exception, makes one of it with a code of its own
            raise SystemExit(128 + told[0]) from None
        raise
