"""What all commands print with."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from rich.console import Console

WIDE = 10_000
"""Columns where nobody looks: no table breaks a UID that is to be copied or searched for."""


def plain_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """Prints text as it is: nothing in a file's name is taken for markup, and no line is broken for a pipe to split."""
    console = Console(quiet=quiet, stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_skipped(console: Console, skipped: Mapping[str, int]) -> None:
    """A line for each reason for which files are skipped."""
    for reason, count in skipped.items():
        console.print(f"skipped {count} {'file' if count == 1 else 'files'}: {reason}")


def say_error(text: object) -> None:
    """A line on stderr, however quiet the command is."""
    typer.secho(f"ctclip: {text}", fg="red", err=True)
