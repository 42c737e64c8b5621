"""Random numbers that depend on seed and epoch alone, so that a resumed run draws what an uninterrupted one draws."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.utils import set_determinism


class EpochSeedHandler:
    """Seeds Python, numpy, torch and the data set's random transforms anew at the start of every epoch.

    Each epoch and each process of a distributed run gets its own numbers, and no generator's state needs saving.
    On CUDA the backward pass of bilinear up-sampling is not deterministic: there, runs agree closely, not exactly.

    Args:
        seed: of the run.
        dataset: whose transforms are random.
    """

    def __init__(self, seed: int, dataset: object) -> None:
        self.seed, self.dataset = seed, dataset

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()]).generate_state(1)
        epoch_seed = int(state[0])
        set_determinism(epoch_seed)
        set_rnd(self.dataset, epoch_seed)
