"""What all commands print with."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """Prints text as it is: nothing in a file's name is taken for markup, and no line is broken for a pipe to split."""
    return Console(quiet=quiet, stderr=stderr, highlight=False, markup=False, soft_wrap=True)
