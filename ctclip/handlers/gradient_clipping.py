"""Clipping of the gradient norm, which MONAI's trainer leaves to a handler."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents


class GradientClippingHandler:
    """Scales all gradients together so that their norm is at most ``max_norm``, between backward pass and optimiser
    step.

    With gradient accumulation only the sum that the optimiser will see is clipped, not its parts. Gradients that a
    trainer with ``amp`` has scaled are unscaled first: no other handler may do that too.

    Args:
        parameters: what the optimiser updates.
        max_norm: largest Euclidean norm of all gradients together.
        accumulation_steps: the trainer's.

    Raises:
        ValueError: without parameters, and for a norm that is not above 0 or less than one step.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], max_norm: float, accumulation_steps: int = 1) -> None:
        if not max_norm > 0:  # NaN too
            raise ValueError(f"max_norm must be positive, found {max_norm}")
        if accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1, found {accumulation_steps}")
        self.parameters, self.max_norm, self.accumulation_steps = list(parameters), max_norm, accumulation_steps
        if not self.parameters:
            raise ValueError("found no parameters to clip the gradients of; expected those of the optimiser")

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self._optimizer_steps(engine):
            scaler = getattr(engine, "scaler", None)
            if getattr(engine, "amp", False) and scaler is not None:  # as MONAI's trainer decides
                scaler.unscale_(engine.optimizer)  # type: ignore[attr-defined]  # the trainer's
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)

    def _optimizer_steps(self, engine: Engine) -> bool:
        """Whether the trainer calls its optimiser in this iteration: after every group, and at an epoch's end."""
        length = engine.state.epoch_length or 0
        within = (engine.state.iteration - 1) % length + 1 if length else engine.state.iteration
        return within % self.accumulation_steps == 0 or within == length
