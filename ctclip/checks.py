"""Checks that end a bundle at once with one line, before any traceback of the engine.

``SystemExit`` passes through MONAI's expression evaluator unwrapped, so the line is all that the user sees.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ctclip.errors import AlreadyDoneError, CtclipError

Result = TypeVar("Result")


def or_exit(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call ``function``; end the program with one line when it fails with one of ctclip's own errors.

    MONAI wraps the errors of transforms; ctclip's own is found among the causes.

    Raises:
        SystemExit: with the error's message; with exit code 0 when nothing is left to do.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, CtclipError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        if isinstance(cause, AlreadyDoneError):
            print(f"ctclip: {cause}", file=sys.stderr)
            raise SystemExit(0) from error
        raise SystemExit(f"ctclip: {cause}") from error


def or_nothing(function: Callable[..., list], *args: Any) -> list:
    """Call ``function``; an empty list when it fails with one of ctclip's own errors.

    Inference bundles list their data with it, so that they can be opened and checked where there is none; their
    ``run`` begins with :func:`or_exit` for the case that the list is empty.
    """
    try:
        return function(*args)
    except CtclipError:
        return []


def bundle_root(name: str) -> str:
    """Folder of a bundle: the current one when its metadata give that name, else the one installed with ctclip.

    Args:
        name: folder name below ``bundles/``.
    """
    from importlib import resources

    metadata = Path("configs/metadata.json")
    if metadata.is_file() and json.loads(metadata.read_text()).get("name") == name:
        return "."
    return str(resources.files("ctclip.bundles") / name)
