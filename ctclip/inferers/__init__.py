"""From a volume to batches of slice stacks, through the network, and back.

MONAI's part is loaded on first use: it takes seconds, and denoising a DICOM series needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctclip.inferers.passes import ConcurrentPasses
from ctclip.inferers.predict import predict_stacks

if TYPE_CHECKING:
    from ctclip.inferers.precision import PrecisionInferer, autocast
    from ctclip.inferers.slice_stack import SliceStackInferer

__all__ = ["ConcurrentPasses", "PrecisionInferer", "SliceStackInferer", "autocast", "predict_stacks"]


def __getattr__(name: str) -> Any:
    if name == "SliceStackInferer":
        from ctclip.inferers.slice_stack import SliceStackInferer

        return SliceStackInferer
    if name in ("PrecisionInferer", "autocast"):
        from ctclip.inferers import precision

        return getattr(precision, name)
    raise AttributeError(f"module 'ctclip.inferers' has no attribute {name!r}")
