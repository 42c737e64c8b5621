"""What the commands' exit codes mean, and how errors become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ctclip.cli.console import say_error
from ctclip.errors import ConfigError, CtclipError, one_line

ALL_DONE, NOTHING_DONE, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3


def exit_code(*, failed: int, total: int) -> int:
    """What becomes of a run in which some parts of the work have failed, or none, or all."""
    if not failed:
        return ALL_DONE
    return SOME_FAILED if failed < total else NOTHING_DONE


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print ctclip's own errors and those of the file system as one line and exit: 2 for wrong settings, 1
    otherwise."""
    try:
        yield
    except ConfigError as error:
        say_error(error)
        raise typer.Exit(WRONG_USAGE) from None
    except CtclipError as error:
        say_error(error)
        raise typer.Exit(NOTHING_DONE) from None
    except MemoryError:
        say_error("out of memory; try smaller input, or another machine")
        raise typer.Exit(NOTHING_DONE) from None
    except OSError as error:
        say_error(one_line(error))
        raise typer.Exit(NOTHING_DONE) from None
