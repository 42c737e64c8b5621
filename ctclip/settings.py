"""Names and ranges of settings: what is wrong with them is known before anything heavy is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from ctclip.errors import ConfigError, WeightsError

DEFAULT_MODEL, NATURAL_MODEL = "ct-compact", "natural-compact"
"""Taken when no model is named: for CT, and for photographs."""

DEVICES = re.compile(r"auto|(cpu|cuda|mps)(:(0|[1-9]\d?))?")

PRECISIONS = ("fp32", "bf16")

AUTO, EAGER, COMPILED, OPENVINO = BACKENDS = ("auto", "eager", "compiled", "openvino")

DEFAULT_OVERLAP = 0.25
"""Part of a sliding window that the next one shares."""

WORKERS_PER_GPU = 4
"""On Ray, at most: reading and writing takes a worker many times longer than the network takes the GPU, and each worker
takes memory of it (docs/scaling.md)."""

PAD_MULTIPLE = 32
"""Networks pad sides to a multiple of this, as in the published tests (16 would do without layer4); no window is
smaller."""


def require_settings(*, model: str, device: str, precision: str, backend: str, roi_size: int | None = None) -> None:
    """Refuse settings that no machine could run with. Whether this one has the device, and what is in the model's file,
    is found out when it is loaded.

    Raises:
        WeightsError: when there is neither such a model nor such a file.
        ConfigError: for another setting, with its name.
    """
    require_model(model)
    require_device(device)
    if precision != AUTO:
        require_precision(precision)
    require_backend(backend)
    if roi_size is not None:
        require_roi(roi_size)


def require_model(model: str | Path) -> None:
    """Refuse what is neither a model that comes with ctclip nor a file."""
    known = (DEFAULT_MODEL, NATURAL_MODEL)
    if str(model) not in known and not Path(model).is_file():
        raise WeightsError(
            f"unknown model {str(model)!r}: no such file, and the models that come with ctclip are {', '.join(known)}"
        )


def require_device(device: str) -> None:
    """Refuse what is no name of a device."""
    if DEVICES.fullmatch(device) is None:
        raise ConfigError(f"unknown device {device!r}; expected auto, cpu, cuda, cuda:N or mps")


def require_precision(precision: str) -> None:
    """Refuse what is no precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; expected auto, fp32 or bf16")


def require_backend(backend: str) -> None:
    """Refuse what runs no network."""
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, found {backend!r}")


def require_found(*, precision: str = "fp32", backend: str = EAGER) -> None:
    """Refuse what no network runs with; "auto" too, which must have become one of the others."""
    for name, value, known in (("precision", precision, PRECISIONS), ("backend", backend, BACKENDS[1:])):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, found {value!r}; take what find_{name} gives")


def require_hu_window(window: object) -> None:
    """Refuse what is no range of HU."""
    try:
        low, high = window  # type: ignore[misc]  # which is found out here
    except (TypeError, ValueError):
        low = high = None
    if not (is_number(low) and is_number(high) and -math.inf < low < high < math.inf):
        raise ConfigError(f"an HU window needs two finite ends, the lower one first, found {window!r}")


def is_range_of_counts(value: object) -> TypeGuard[Sequence[int]]:
    """Whether these are two whole numbers of at least 0 in ascending order."""
    return (
        isinstance(value, list | tuple) and len(value) == 2 and all(map(is_whole, value)) and 0 <= value[0] <= value[1]
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number, of Python or NumPy; neither True nor False is one."""
    return isinstance(value, Real) and not isinstance(value, bool)


def require_above_0(name: str, value: object, remedy: str = "") -> None:
    """Refuse what is no finite number above 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a finite number above 0, found {value!r}{remedy}")


def require_count(name: str, value: object, *, least: int, remedy: str = "") -> None:
    """Refuse what is no whole number, or too small a one."""
    if not is_whole(value) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, found {value!r}{remedy}")


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False; any text would count as true."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, found {value!r}; give --{name} True, or leave it out")


def is_whole(number: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or NumPy."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def require_roi(roi_size: object) -> None:
    """Refuse windows that are too small, or no whole number of pixels."""
    if not is_whole(roi_size) or roi_size < PAD_MULTIPLE:
        raise ConfigError(f"roi must be a whole number of pixels, at least {PAD_MULTIPLE}, found {roi_size!r}")
