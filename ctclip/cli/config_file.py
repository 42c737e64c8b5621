"""Options of a command from a JSON file: what a hospital sets once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

NOT_IN_A_FILE = ("config", "help")
"""Options without an effect there."""


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the file's values as the defaults of the command; an option on the command line counts more.

    Args:
        context: of the command.
        path: a JSON object with the long names of options as keys, for example ``{"strength": "low", "check": true}``.

    Raises:
        BadParameter: when it is none, or names an option that the command does not have.
    """
    if path is None:
        return None
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"no JSON file that can be read ({type(error).__name__})") from error
    options = {
        option.removeprefix("--"): each
        for each in context.command.params
        for option in each.opts
        if option.startswith("--") and each.name not in NOT_IN_A_FILE
    }
    if not isinstance(values, dict) or not values.keys() <= options.keys():
        unknown = sorted(values.keys() - options.keys()) if isinstance(values, dict) else type(values).__name__
        raise typer.BadParameter(f"expected an object with names of options, found {unknown}")
    context.default_map = {
        str(options[key].name): [value] if options[key].multiple and not isinstance(value, list) else value
        for key, value in values.items()
    }
    return path


def typed(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, not in a file of defaults."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
