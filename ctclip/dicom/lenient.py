"""Tolerant access to header values, without patient data in warnings.

Hospital files often break the rules of the DICOM value representations. pydicom then warns or raises, and its texts may
quote the offending value or the file name, which can be a patient's name. Everything ctclip has to say about a file
it says itself, so pydicom is silenced while ctclip reads and writes.
"""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pydicom
from pydicom.multival import MultiValue

__all__ = ["float_of", "floats_of", "int_of", "items_of", "quiet_pydicom", "text_of", "texts_of", "value_of"]

_lock = threading.Lock()
_depth = 0
_restore = ExitStack()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Switch off pydicom's value validation and messages inside a ``with`` block.

    These switches are global in pydicom and in ``warnings``. Blocks may overlap in several threads: the first one in
    sets the switches, the last one out restores them.
    """
    global _depth, _restore
    with _lock:
        if _depth == 0:
            _restore = _silence()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore.close()


def _silence() -> ExitStack:
    """Silence pydicom and return what undoes it."""
    undo = ExitStack()
    undo.enter_context(pydicom.config.disable_value_validation())
    undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    logger = logging.getLogger("pydicom")
    undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL)
    return undo


def value_of(dataset: pydicom.Dataset, keyword: str) -> Any:
    """Return the value of an element, or None when it is absent, empty or cannot be parsed.

    pydicom parses a value when it is first asked for, and raises many kinds of exception for a broken one. A broken
    value of an element that does not matter must not cost a slice, so it counts as absent here; elements that do
    matter are then reported as missing by the caller.
    """
    try:
        with quiet_pydicom():  # values are parsed now, whenever the file was read
            value = dataset.get(keyword)
    except Exception:
        return None
    return None if value is None or value == "" else value


def items_of(dataset: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """Return the items of a sequence, none when the element turns out to be something else."""
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def texts_of(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """Return all values of an element as text; any element may turn out to be multi-valued."""
    value = value_of(dataset, keyword)
    if value is None:
        return ()
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return tuple(str(item).strip() for item in values)


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """Return the first value of an element as text, "" when there is none."""
    values = texts_of(dataset, keyword)
    return values[0] if values else ""


def floats_of(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return exactly ``count`` finite numbers, or None when the element does not hold them."""
    try:
        numbers = tuple(float(text) for text in texts_of(dataset, keyword))
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def float_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """Return the one finite number that the element holds, or None."""
    numbers = floats_of(dataset, keyword, 1)
    return numbers[0] if numbers else None


def int_of(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """Return the one whole number that the element holds, or None."""
    number = float_of(dataset, keyword)
    return int(number) if number is not None and number.is_integer() else None
