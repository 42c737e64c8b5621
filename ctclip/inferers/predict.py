"""One pass of a network over slice stacks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctclip.settings import DEFAULT_OVERLAP

SliceProgress = Callable[[int, int], None]
"""Called with (slices done, slices in all)."""

Predictor = Callable[[torch.Tensor], torch.Tensor]
"""A network, or what stands for one: a batch to a batch."""


def predict_stacks(
    stacks: torch.Tensor,
    network: Predictor,
    *,
    device: torch.device | str,
    roi_size: int | None = None,
    overlap: float = DEFAULT_OVERLAP,
) -> torch.Tensor:
    """One pass of the network over a batch of slice stacks: the one way in which CT goes through it.

    Args:
        stacks: (N, C, H, W) in [0, 1], on any device.
        network: takes and returns such batches; its weights are on ``device``.
        device: where the network runs.
        roi_size: side of square windows in pixels; ``None`` takes whole slices.
        overlap: part of a window shared with the next one; windows are blended with Gaussian weights.

    Returns:
        (N, C', H, W) float32 on the device of ``stacks``.
    """
    with torch.inference_mode():
        moved = stacks.to(device, memory_format=torch.channels_last)
        if roi_size is None or roi_size >= max(stacks.shape[-2:]):
            result = network(moved).float()
        else:
            # Imported here because MONAI takes seconds to load, and whole slices need none of it.
            from monai.inferers import sliding_window_inference

            result = sliding_window_inference(  # type: ignore[assignment]  # a tensor for a network that gives one
                moved,
                roi_size=(roi_size, roi_size),
                sw_batch_size=len(stacks),
                predictor=lambda window: network(window).float(),
                overlap=overlap,
                mode="gaussian",
                padding_mode="replicate",
            )
    return result.to(stacks.device)
