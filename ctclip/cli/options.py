"""Options that several commands take, and what their texts mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ctclip.errors import ConfigError
from ctclip.units import WINDOWS_HU, HUWindow


def path(value: object) -> Path:
    """Of a file or folder, as typer's ``parser``; its name is what the help shows.

    Raises:
        BadParameter: when it is empty, as where a shell does not know a variable, and would mean the current folder.
    """
    if not str(value):
        raise typer.BadParameter("found an empty text, expected a path; is a variable not set?")
    return Path(str(value))


Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]

Precision = Annotated[str, typer.Option(help="auto (bf16 where the device is faster with it), fp32 or bf16.")]

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier output.")]

EncoderWeights = Annotated[str, typer.Option(help="CLIP weights for checkpoints that hold no encoder.")]


def parse_windows(text: str, option: str = "--windows") -> list[HUWindow]:
    """HU windows from names and pairs of level and width, such as "soft,full" or "soft,50,350".

    Args:
        text: as it was given.
        option: with which; for messages.

    Raises:
        ConfigError: for an unknown name, a level without width, a width that is not positive, or ends that
            are not finite.
    """
    windows: list[HUWindow] = []
    words = [word.strip() for word in text.split(",") if word.strip()]
    while words:
        word = words.pop(0)
        if word in WINDOWS_HU:
            windows.append(WINDOWS_HU[word])
            continue
        level, width = _number(word), _number(words.pop(0)) if words else None
        if level is None or width is None or not -math.inf < level - width / 2 < level + width / 2 < math.inf:
            raise ConfigError(
                f"{option} {text!r}: expected {', '.join(WINDOWS_HU)} or LEVEL,WIDTH in HU, such as soft,50,350"
            )
        windows.append((level - width / 2, level + width / 2))
    if not windows:
        raise ConfigError(f"{option} is empty; expected names or LEVEL,WIDTH, such as soft,full")
    return list(dict.fromkeys(windows))


def parse_window(text: str) -> HUWindow:
    """One HU window.

    Raises:
        ConfigError: as for :func:`parse_windows`, or for several of them.
    """
    windows = parse_windows(text, "--window")
    if len(windows) > 1:
        raise ConfigError(f"--window {text!r}: found {len(windows)} windows, expected one")
    return windows[0]


def parse_names(text: str) -> list[str]:
    """The words between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def parse_numbers(option: str, text: str, *, above: float, up_to: float) -> list[float]:
    """The numbers between commas, each once.

    Raises:
        ConfigError: for what is no number, or out of range.
    """
    numbers = [_number(word) for word in parse_names(text)]
    known = [each for each in numbers if each is not None and above < each <= up_to]
    if not numbers or len(known) != len(numbers):
        raise ConfigError(f"{option} {text!r}: expected numbers above {above:g} and up to {up_to:g}, such as 0.25,0.1")
    return list(dict.fromkeys(known))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
