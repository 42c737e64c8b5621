"""Clipping of the gradient norm, which MONAI's trainer leaves to a handler."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents


class GradientClippingHandler:
    """Scales all gradients together so that their norm is at most ``max_norm``, between backward pass and optimiser
    step.

    Args:
        parameters: what the optimiser updates.
        max_norm: largest Euclidean norm of all gradients together.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], max_norm: float) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm must be positive, found {max_norm}")
        self.parameters, self.max_norm = list(parameters), max_norm

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
