"""Checkpoints from which a killed run goes on, and the best model, each written in one move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import from_engine
from monai.utils.enums import CommonKeys

from ctclip.atomic import atomic_path
from ctclip.errors import AlreadyDoneError, CtclipError, DataError

LAST_FILE, BEST_FILE = "last.pt", "model.pt"

PROGRESS = ("epoch", "iteration", "finished", "best_metric", "best_metric_epoch", "settings")
"""What ``last.pt`` holds beside the states of model and training."""


class ResumableCheckpointHandler:
    """After each epoch saves everything to ``last.pt`` and, when validation gave a new best, the model to ``model.pt``.

    MONAI's ``CheckpointSaver`` forgets the best metric of the run that it resumes, and a process killed while it writes
    leaves half a file. Here the best metric is part of ``last.pt``, and a file gets its name when it is complete.

    A training that diverges ends with a DataError, and neither file is touched: MONAI's metrics leave NaN out, so that
    a network that gives nothing else would have the smallest error of all.

    Attach it to the trainer after the validation handler, so that the epoch's metrics are known.

    Args:
        output_dir: where both files go; made when missing.
        model: what ``model.pt`` holds, by name: network and :class:`~ctclip.weights.CheckpointHeader`.
        training: what else a run needs to go on, by name: optimizer, scheduler, ...; all with ``state_dict``.
        evaluator: MONAI's, whose key metric decides.
    """

    def __init__(
        self, output_dir: str, model: Mapping[str, Any], training: Mapping[str, Any], evaluator: Engine
    ) -> None:
        self.folder = Path(output_dir)
        self.model, self.training = dict(model), dict(training)
        self.evaluator = evaluator
        self.best: Any = evaluator.state  # MONAI keeps best_metric and best_metric_epoch there
        self.finite = True  # all that validation has seen of the network

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._require_finite_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        # Before postprocessing, which may clip what is infinite.
        self.evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._look_at_prediction)

    def __call__(self, engine: Engine) -> None:
        if not self.finite:
            raise self._diverged(engine, "the network's results in validation are not finite")
        if idist.get_rank() != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # The best model first: were the run killed between the two, the next one would find the same best again.
        if self.best.best_metric_epoch == engine.state.epoch:
            self._save(BEST_FILE, _states(self.model))
        self._save(
            LAST_FILE,
            {
                **_states({**self.model, **self.training}),
                "epoch": engine.state.epoch,
                "iteration": engine.state.iteration,
                # Early stopping has asked the trainer to terminate by now.
                "finished": bool(engine.should_terminate) or engine.state.epoch == engine.state.max_epochs,
                "settings": self._settings(engine),
                "best_metric": float(self.best.best_metric),
                "best_metric_epoch": self.best.best_metric_epoch,
            },
        )

    def resume(self, engine: Engine) -> None:
        """Continue the run whose ``last.pt`` lies in the output folder.

        Raises:
            AlreadyDoneError: when that run has finished, by its last epoch or by early stopping.
            DataError: when there is none, it is damaged, or belongs to a run of other settings or another network.
        """
        saved = read_last(self.folder)
        self._require_same_settings(saved["settings"], self._settings(engine))
        if saved["finished"]:
            raise AlreadyDoneError(already_finished(self.folder, saved))
        try:
            for name, part in {**self.model, **self.training}.items():
                part.load_state_dict(saved[name])
        except (RuntimeError, KeyError, ValueError, CtclipError) as error:
            raise DataError(
                f"{self.folder / LAST_FILE} belongs to another network or optimizer: {str(error).splitlines()[0]}"
            ) from error
        engine.state.epoch, engine.state.iteration = saved["epoch"], saved["iteration"]
        self.best.best_metric = saved["best_metric"]
        self.best.best_metric_epoch = saved["best_metric_epoch"]

    def _require_finite_loss(self, engine: Engine) -> None:
        loss = float(from_engine([CommonKeys.LOSS], first=True)(engine.state.output))
        if not math.isfinite(loss):
            raise self._diverged(engine, f"the training loss is {loss}, expected a finite number")

    def _look_at_prediction(self, evaluator: Engine) -> None:
        # Told at the epoch's end: the trainer's errors end in one line, those of an engine within it do not.
        output: Any = evaluator.state.output
        self.finite = self.finite and bool(torch.isfinite(output[CommonKeys.PRED]).all())

    def _diverged(self, engine: Engine, found: str) -> DataError:
        return DataError(
            f"{found}: training has diverged in epoch {engine.state.epoch}; what {self.folder} holds is of earlier "
            "epochs; start a new run with a smaller --learning_rate, or with --precision fp32"
        )

    def _settings(self, engine: Engine) -> dict[str, Any]:
        """What the learning rate of every step depends on, by option where there is one."""
        settings: dict[str, Any] = {"epochs": engine.state.max_epochs, "batches_per_epoch": engine.state.epoch_length}
        for name, part in self.training.items():
            settings[name] = type(part).__name__
            if isinstance(part, torch.optim.Optimizer):
                settings["learning_rate"] = _planned_rate(part.param_groups[0])
        return settings

    def _require_same_settings(self, planned: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            if planned.get(name) != value:
                raise DataError(
                    f"the run in {self.folder} was planned with {name} {planned.get(name)}, found {value}: the "
                    "learning rate depends on it; give the same, or start a new run in another --output_dir"
                )

    def _save(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.folder / name) as partial:
            torch.save(dict(content), partial)


def refuse_to_overwrite(folder: Path) -> None:
    """End a new run that would replace the results of an earlier one.

    Raises:
        DataError: when the output folder holds checkpoints.
    """
    for name in (LAST_FILE, BEST_FILE):
        if (folder / name).exists():
            raise DataError(
                f"{folder / name} exists: give --resume True to go on with that run, or another --output_dir"
            )


def read_last(folder: Path) -> dict[str, Any]:
    """What ``last.pt`` of a run holds.

    Raises:
        DataError: when there is none, or it is damaged or no training state.
    """
    path = folder / LAST_FILE
    if not path.is_file():
        raise DataError(f"nothing to resume: {path} does not exist; leave out --resume to start a new run")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise DataError(f"{path} is damaged; start a new run") from error
    if not isinstance(saved, dict) or not set(PROGRESS) <= saved.keys():
        raise DataError(
            f"{path} is no training state of this version of ctclip, such as a model's file; start a new run"
        )
    return saved


def already_finished(folder: Path, saved: Mapping[str, Any]) -> str:
    """Why nothing is left to do for a run whose ``last.pt`` says that it has finished."""
    return (
        f"the run in {folder} has already finished, after epoch {saved['epoch']} of at most "
        f"{saved['settings']['epochs']}; nothing to do"
    )


def _states(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


def _planned_rate(group: Mapping[str, Any]) -> float:
    """The rate that a scheduler starts from or rises to, which stays, unlike the rate of the step."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))
