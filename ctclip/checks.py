"""Checks that end a bundle at once with one line, before any traceback of the engine.

``SystemExit`` passes through MONAI's expression evaluator unwrapped, so the line is all that the user sees.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ctclip.errors import AlreadyDoneError, ConfigError, CtclipError
from ctclip.settings import is_number, is_range_of_counts, require_above_0

if TYPE_CHECKING:
    from ignite.engine import Engine

logger = logging.getLogger(__name__)

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


def run_or_exit(engine: Engine) -> None:
    """Run an engine as :func:`or_exit` calls a function.

    Engine and StatsHandler log every exception, with its traceback, and raise it again. Here they do not log it: what
    is raised is shown anyway, in one line where it is one of ctclip's own errors.

    Args:
        engine: whose StatsHandler, if any, has that name.
    """
    loggers = [engine.logger, logging.getLogger("StatsHandler")]
    for each in loggers:
        each.addFilter(_below_error)
    try:
        or_exit(engine.run)
    finally:
        for each in loggers:
            each.removeFilter(_below_error)


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def or_nothing(function: Callable[..., list], *args: Any) -> list:
    """Call ``function``; an empty list when it fails with one of ctclip's own errors.

    Inference bundles list their data with it, so that they can be opened and checked where there is none; their
    ``run`` begins with :func:`or_exit` for the case that the list is empty.
    """
    try:
        return function(*args)
    except CtclipError:
        return []


def require_training_plan(
    *,
    epochs: int,
    val_interval: int,
    resume: bool,
    seed: int,
    workers: int,
    learning_rate: float,
    max_gradient_norm: float,
    shares: Mapping[str, float],
    noise: object,
    augmentation_gamma: float,
    lesions: Sequence[int] = (0, 0),
    **counts: int,
) -> None:
    """Refuse settings with which a training fails late, or ends without a model.

    Args:
        epochs: of the training.
        val_interval: epochs from one validation, which chooses the model, to the next.
        resume: whether an earlier run goes on.
        seed: of the random numbers.
        workers: processes that load data; 0 for none beside the training's own.
        learning_rate: the largest.
        max_gradient_norm: to which gradients are clipped.
        shares: settings that must lie in [0, 1], by name.
        noise: what makes training images noisy, a random transform.
        augmentation_gamma: strength of the feature augmentation.
        lesions: least and greatest number of lesions per slice.
        counts: other settings that must be whole numbers of at least 1, by name.

    Raises:
        ConfigError: with the setting's name.
    """
    for name, value in {"epochs": epochs, "val_interval": val_interval, **counts}.items():
        _require_count(name, value, least=1)
    for name, value in {"seed": seed, "workers": workers}.items():
        _require_count(name, value, least=0)
    for name, size in {"learning_rate": learning_rate, "max_gradient_norm": max_gradient_norm}.items():
        require_above_0(name, size, f"; give --{name}")
    if not is_number(augmentation_gamma) or not 0 <= augmentation_gamma < math.inf:
        raise ConfigError(
            f"augmentation_gamma must be a finite number of at least 0, found {augmentation_gamma!r}; give "
            "--augmentation_gamma"
        )
    if not is_range_of_counts(lesions):
        raise ConfigError(
            f"lesions must be two whole numbers, 0 <= least <= greatest, found {lesions!r}; give --lesions '[0, 24]'"
        )
    if not callable(noise):
        raise ConfigError(
            f"noise must be a random transform such as ctclip.transforms.RandWhiteNoise, found {noise!r}; give a "
            "setting, such as --noise#prob 1, or another kind with its settings: "
            "--noise \"{'_target_': 'ctclip.transforms.RandWhiteNoise', 'sd': [LOWEST, HIGHEST]}\""
        )
    for name, share in shares.items():
        if not is_number(share) or not 0 <= share <= 1:
            raise ConfigError(f"{name} must be a number from 0 to 1, found {share!r}; give --{name}")
    if not isinstance(resume, bool):  # any text would count as true
        raise ConfigError(f"resume must be True or False, found {resume!r}; give --resume True, or leave it out")
    if val_interval > epochs:
        raise ConfigError(
            f"val_interval {val_interval} is more than the {epochs} epochs: no model would be chosen; give "
            f"--val_interval {epochs} or less"
        )


def _require_count(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, found {value!r}; give --{name}")


def require_batch_size(batch_size: object) -> None:
    """Refuse a number of slices per pass of the network that cannot be.

    Raises:
        ConfigError: with the setting's name.
    """
    _require_count("batch_size", batch_size, least=1)


def require_simulated_sd(simulated_sd_hu: object) -> None:
    """Refuse an SD of simulated noise that cannot be.

    Raises:
        ConfigError: with the setting's name.
    """
    require_above_0("simulated_sd_hu", simulated_sd_hu, "; give --simulated_sd_hu")


def cosine_steps(*, epochs: int, batches_per_epoch: int, constant_steps: int) -> int:
    """Steps that are left for the learning rate to fall in, after those in which it stays constant.

    Raises:
        ConfigError: when none is left, or there is no such number of steps.
    """
    steps = epochs * batches_per_epoch
    _require_count("constant_steps", constant_steps, least=1)
    if constant_steps >= steps:
        raise ConfigError(
            f"constant_steps must be below the {steps} steps of the training (epochs x batches_per_epoch), found "
            f"{constant_steps}: the learning rate would never fall; give --constant_steps {max(1, steps * 92 // 300)}, "
            "the published share"
        )
    return steps - constant_steps


def require_held_out(items: Sequence[Any], setting: str) -> None:
    """Refuse a training without anything to choose its model on.

    Args:
        items: the held-out ones.
        setting: that asks for them.

    Raises:
        ConfigError: when there is none.
    """
    if not items:
        raise ConfigError(f"nothing is held out, so no model would be chosen; give --{setting} above 0, such as 0.05")


def bundle_root(name: str) -> str:
    """Folder of a bundle: the current one when its metadata give that name, else the one installed with ctclip.

    A config does not know where its own file lies, so a copy of a bundle that is run from another folder needs
    ``--bundle_root``; the log says when the installed one is used.

    Args:
        name: folder name below ``bundles/``.
    """
    from importlib import resources

    metadata = Path("configs/metadata.json")
    if metadata.is_file() and _bundle_name(metadata) == name:
        return "."
    root = str(resources.files("ctclip.bundles") / name)
    logger.info(
        "bundle_root is %s, the installed bundle: its weights and output folder are used unless told otherwise; "
        "give --bundle_root for a copy of it",
        root,
    )
    return root


def _bundle_name(metadata: Path) -> str | None:
    """In the metadata of a bundle; ``None`` where they are none."""
    try:
        return json.loads(metadata.read_bytes()).get("name")
    except (ValueError, AttributeError) as error:  # not JSON, or no mapping
        logger.warning("%s is no bundle's metadata (%s)", metadata, type(error).__name__)
        return None
