"""From a volume to batches of slice stacks, through the network, and back."""

from __future__ import annotations

from ctclip.inferers.passes import ConcurrentPasses
from ctclip.inferers.precision import PrecisionInferer, autocast
from ctclip.inferers.slice_stack import SliceStackInferer, predict_stacks

__all__ = ["ConcurrentPasses", "PrecisionInferer", "SliceStackInferer", "autocast", "predict_stacks"]
