"""Training handlers that MONAI and ignite do not have."""

from __future__ import annotations

from ctclip.handlers.epoch_seed import EpochSeedHandler
from ctclip.handlers.gradient_clipping import GradientClippingHandler
from ctclip.handlers.resumable_checkpoint import ResumableCheckpointHandler

__all__ = ["EpochSeedHandler", "GradientClippingHandler", "ResumableCheckpointHandler"]
