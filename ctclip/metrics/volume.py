"""What MONAI's metric handlers need to measure CT volumes slice by slice in an HU window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from ctclip.errors import DataError
from ctclip.hu_window import require_finite, require_finite_result
from ctclip.settings import require_hu_window

Output = Sequence[Mapping[str, torch.Tensor]]
Slices = list[torch.Tensor]


def windowed_slices(key: str, window_hu: Sequence[float]) -> Callable[[Output], tuple[Slices, Slices]]:
    """An ``output_transform``: ``key`` and "label" of every volume as slices, clipped to a window that begins at 0.

    Slices are left out where "label" is constant in the window, such as air alone, or equals "image" or ``key``: the
    PSNR of equal images is infinite, and so would be the mean. "image" is looked at for every ``key``, so that network
    and input are measured on the same slices.

    Args:
        key: what to compare with "label"; both are (1, X, Y, Z) in HU.
        window_hu: lower and upper end; the data range of PSNR and SSIM is its width.

    Returns:
        function from an engine's decollated output to two lists of (1, X, Y) slices in HU above the window's lower end.
        It raises DataError when "label" differs in size, for values that are not finite, which MONAI's metrics would
        leave out, and when no slice is left.

    Raises:
        ConfigError: for a window that is empty, upside down or not finite.
    """
    require_hu_window(window_hu)
    low, high = window_hu

    def slices(volume: torch.Tensor) -> Slices:
        clipped = torch.as_tensor(volume).float().clamp(low, high) - low
        return list(clipped.movedim(-1, 0))

    def transform(output: Output) -> tuple[Slices, Slices]:
        kept = []
        for item in output:
            _require_same_size(item[key], item["label"])
            require_finite_result(torch.as_tensor(item[key]))
            require_finite(torch.as_tensor(item["label"]), "the label")
            each = zip(slices(item[key]), slices(item["label"]), slices(item["image"]), strict=True)
            kept += [(pred, label) for pred, label, image in each if _measurable(pred, label, image)]
        if not kept:
            raise DataError(
                f"no slice of a volume can be measured in the window {list(window_hu)} HU: image and label are "
                "equal, or the label is constant; give pairs that differ, or another --window_hu"
            )
        return [pred for pred, _ in kept], [label for _, label in kept]

    return transform


def _require_same_size(image: torch.Tensor, label: torch.Tensor) -> None:
    if image.shape != label.shape:
        raise DataError(
            f"image and label of a pair differ in size: found {tuple(image.shape[1:])} and {tuple(label.shape[1:])}; "
            "give two reconstructions on one grid"
        )


def _measurable(pred: torch.Tensor, label: torch.Tensor, image: torch.Tensor) -> bool:
    constant = bool(label.min() == label.max())
    return not (constant or torch.equal(pred, label) or torch.equal(image, label))
