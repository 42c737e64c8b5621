"""What MONAI's metric handlers need to measure CT volumes slice by slice in an HU window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

Output = Sequence[Mapping[str, torch.Tensor]]
Slices = list[torch.Tensor]


def windowed_slices(key: str, window_hu: Sequence[float]) -> Callable[[Output], tuple[Slices, Slices]]:
    """An ``output_transform``: ``key`` and "label" of every volume as slices, clipped to a window that begins at 0.

    Args:
        key: what to compare with "label"; both are (1, X, Y, Z) in HU.
        window_hu: lower and upper end; the data range of PSNR and SSIM is its width.

    Returns:
        function from an engine's decollated output to two lists of (1, X, Y) slices in HU above the window's lower end.
    """
    low, high = window_hu

    def slices(volume: torch.Tensor) -> Slices:
        clipped = torch.as_tensor(volume).float().clamp(low, high) - low
        return list(clipped.movedim(-1, 0))

    def transform(output: Output) -> tuple[Slices, Slices]:
        pred = [each for item in output for each in slices(item[key])]
        label = [each for item in output for each in slices(item["label"])]
        return pred, label

    return transform
