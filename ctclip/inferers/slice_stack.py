"""Slice-wise inference on volumes."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_tensor

from ctclip.inferers.predict import Predictor, SliceProgress, predict_stacks
from ctclip.settings import DEFAULT_OVERLAP, require_roi
from ctclip.transforms.stack import StackNeighborSlices


class SliceStackInferer(Inferer):
    """Denoises a volume slice by slice, giving the network each slice with its neighbours as channels.

    MONAI's ``SliceInferer`` feeds one channel only; this one also feeds stacks. In-plane the network sees rows and
    columns as a DICOM image has them: y down, x across.

    Windows see less of the slice than whole slices do: for ct-compact and 512x512 slices the results differ by 0.20
    HU (RMS, at most 8 HU at single pixels) with windows of 256 and half overlap, by 1.2 HU (22 HU) with windows of 128.

    Args:
        num_slices: slices in a stack, the network's input channels: 1 or 3.
        batch_size: stacks per pass of the network.
        device: where the network runs; the volume stays where it is. ``None``: the volume's device.
        roi_size: side of square sliding windows in pixels; ``None`` takes whole slices, which is faster and exact.
        overlap: part of a window shared with the next one.
        progress: called with (slices done, slices in all) after every batch.

    Raises:
        ConfigError: for windows that are too small, or no whole number of pixels.
        ValueError: for fewer than one stack per pass.
    """

    def __init__(
        self,
        num_slices: int = 1,
        batch_size: int = 1,
        device: torch.device | str | None = None,
        roi_size: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        progress: SliceProgress | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}")
        if roi_size is not None:
            require_roi(roi_size)
        self.stack = StackNeighborSlices(num_slices, slice_dim=0)
        self.batch_size, self.device = batch_size, device
        self.roi_size, self.overlap, self.progress = roi_size, overlap, progress

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, 1, X, Y, Z) in [0, 1] to the same shape; further arguments go to the network, the same for all stacks."""
        if inputs.ndim != 5 or inputs.shape[1] != 1:
            raise ValueError(f"expected a batch of volumes (B, 1, X, Y, Z), found shape {tuple(inputs.shape)}")
        # MONAI's (X, Y, Z) to images: z first, then rows (y) and columns (x).
        volumes = inputs.permute(0, 1, 4, 3, 2)
        total = volumes.shape[0] * volumes.shape[2]

        def predict(stacks: torch.Tensor) -> torch.Tensor:
            return network(stacks, *args, **kwargs)

        results: list[torch.Tensor] = []
        for volume in volumes:
            results.append(self._denoise(volume, predict, done=len(results) * volume.shape[1], total=total))
        return torch.stack(results).permute(0, 1, 4, 3, 2)

    def _denoise(self, volume: torch.Tensor, network: Predictor, *, done: int, total: int) -> torch.Tensor:
        """One volume of slices, (1, Z, H, W)."""
        # Without MONAI's subclass of tensors, which PyTorch's compiler cannot take.
        stacks = convert_to_tensor(self.stack(volume), track_meta=False).transpose(0, 1)
        denoised = torch.empty_like(volume, dtype=torch.float32)
        for first in range(0, len(stacks), self.batch_size):
            batch = slice(first, first + self.batch_size)
            denoised[0, batch] = predict_stacks(
                stacks[batch],
                network,
                device=self.device or volume.device,
                roi_size=self.roi_size,
                overlap=self.overlap,
            )[:, 0]
            if self.progress:
                self.progress(done + min(batch.stop, len(stacks)), total)
        return denoised
