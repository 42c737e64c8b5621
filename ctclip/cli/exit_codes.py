"""What the commands' exit codes mean, and how errors become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ctclip.errors import ConfigError, CtclipError, one_line

ALL_DONE, NOTHING_DONE, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print ctclip's own errors and those of the file system as one line and exit: 2 for wrong settings, 1
    otherwise."""
    try:
        yield
    except ConfigError as error:
        typer.secho(f"ctclip: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except CtclipError as error:
        typer.secho(f"ctclip: {error}", fg="red", err=True)
        raise typer.Exit(NOTHING_DONE) from None
    except MemoryError:
        typer.secho("ctclip: out of memory; try smaller input, or another machine", fg="red", err=True)
        raise typer.Exit(NOTHING_DONE) from None
    except OSError as error:
        typer.secho(f"ctclip: {one_line(error)}", fg="red", err=True)
        raise typer.Exit(NOTHING_DONE) from None
