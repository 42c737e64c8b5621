"""What a training is asked for, checked before anything is loaded: settings, noise, where it writes."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctclip.checks import require_writable
from ctclip.errors import AlreadyDoneError, ConfigError
from ctclip.settings import is_number, is_range_of_counts, require_above_0, require_count, require_flag

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which the processes of one training find each other."""


def require_training_plan(
    *,
    epochs: int,
    val_interval: int,
    learning_rate: float,
    max_gradient_norm: float,
    flags: Mapping[str, bool],
    from_0: Mapping[str, int],
    shares: Mapping[str, float],
    noise: object,
    augmentation_gamma: float,
    lesions: Sequence[int] = (0, 0),
    projection_noise_sd_hu: Sequence[float] | None = None,
    **counts: int,
) -> None:
    """Refuse settings with which a training fails late, or ends without a model.

    Args:
        epochs: of the training.
        val_interval: epochs from one validation, which chooses the model, to the next.
        learning_rate: the largest.
        max_gradient_norm: to which gradients are clipped.
        flags: settings that must be True or False, by name; any text would count as true.
        from_0: settings that must be whole numbers of at least 0, by name.
        shares: settings that must lie in [0, 1], by name.
        noise: what makes training images noisy, a random transform.
        augmentation_gamma: strength of the feature augmentation.
        lesions: least and greatest number of lesions per slice.
        projection_noise_sd_hu: range of the SD of noise of projections; ``None`` where there is no such noise.
        counts: other settings that must be whole numbers of at least 1, by name.

    Raises:
        ConfigError: with the setting's name.
    """
    for name, value in {"epochs": epochs, "val_interval": val_interval, **counts}.items():
        require_count(name, value, least=1, remedy=f"; give --{name}")
    for name, value in from_0.items():
        require_count(name, value, least=0, remedy=f"; give --{name}")
    for name, flag in flags.items():
        require_flag(name, flag)
    for name, size in {"learning_rate": learning_rate, "max_gradient_norm": max_gradient_norm}.items():
        require_above_0(name, size, f"; give --{name}")
    for name, share in shares.items():
        if not is_number(share) or not 0 <= share <= 1:
            raise ConfigError(f"{name} must be a number from 0 to 1, found {share!r}; give --{name}")
    _require_augmentation(noise, augmentation_gamma, lesions, projection_noise_sd_hu)
    if val_interval > epochs:
        raise ConfigError(
            f"val_interval {val_interval} is more than the {epochs} epochs: no model would be chosen; give "
            f"--val_interval {epochs} or less"
        )


def _require_augmentation(
    noise: object, gamma: object, lesions: object, projection_noise_sd_hu: Sequence[float] | None
) -> None:
    """Refuse what images and features cannot be changed by."""
    if not is_number(gamma) or not 0 <= gamma < math.inf:
        raise ConfigError(
            f"augmentation_gamma must be a finite number of at least 0, found {gamma!r}; give --augmentation_gamma"
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
    if projection_noise_sd_hu is not None:
        from ctclip.transforms.noise import require_range

        try:
            require_range("projection_noise_sd_hu", projection_noise_sd_hu, above=0)
        except ValueError as error:
            raise ConfigError(f"{error}; give --projection_noise_sd_hu '[8, 110]'") from error


def make_noise(kind: Callable[..., Any], **settings: Any) -> Any:
    """The noise of a config: what is wrong with its settings is said in ctclip's own words.

    Args:
        kind: class of the noise.
        settings: of it.

    Raises:
        ConfigError: for settings that it has not, or that it refuses.
    """
    known = inspect.signature(kind).parameters
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ConfigError(
            f"noise has no setting {unknown[0]!r}; those of {kind.__name__} are {', '.join(known)}, as --noise#NAME"
        )
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"noise cannot be made: {error}; give another value, as --noise#NAME") from error


def require_run(output_dir: str | Path, *, resume: bool, **settings: float) -> None:
    """Refuse, before any volume is read, to train where an earlier run lies, or to resume one that has finished.

    Args:
        output_dir: of the run; made when missing.
        resume: whether an earlier run goes on.
        settings: of this one, by name, that a finished one must have had for nothing to be left to do; whether all
            settings agree is found out when the run is resumed.

    Raises:
        ConfigError: when nothing can be written into the folder.
        DataError: when it holds checkpoints, or with ``resume`` none.
        AlreadyDoneError: when the run has finished.
    """
    from ctclip.handlers.resumable_checkpoint import already_finished, read_last, refuse_to_overwrite

    require_writable(output_dir)
    folder = Path(output_dir)
    if not resume:
        refuse_to_overwrite(folder)
        return
    saved = read_last(folder)
    if saved["finished"] and settings.items() <= saved["settings"].items():
        raise AlreadyDoneError(already_finished(folder, saved))


def require_torchrun() -> None:
    """Refuse a training by several processes that torchrun has not started.

    Raises:
        ConfigError: with the command.
    """
    missing = [name for name in OF_TORCHRUN if name not in os.environ]
    if missing:
        raise ConfigError(
            f"training by several processes needs torchrun, found no {', '.join(missing)} in the environment; start "
            "it as torchrun --standalone --nproc_per_node=GPUS -m monai.bundle run ..., or leave out "
            "multi_gpu_train.json"
        )


def cosine_steps(*, epochs: int, batches_per_epoch: int, constant_steps: int) -> int:
    """Steps that are left for the learning rate to fall in, after those in which it stays constant.

    Raises:
        ConfigError: when none is left, or there is no such number of steps.
    """
    steps = epochs * batches_per_epoch
    require_count("constant_steps", constant_steps, least=1, remedy="; give --constant_steps")
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
