"""Two measures of how alike two feature maps are."""

from __future__ import annotations

import torch


def cosine_similarity(first: torch.Tensor, second: torch.Tensor) -> float:
    """Cosine of the angle between two feature maps, each taken as one long vector.

    Args:
        first: (C, H, W).
        second: the same shape.

    Returns:
        -1 to 1; 0 when one of them is all zero.
    """
    return float(torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0))


def linear_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""Linear centred kernel alignment of two feature maps (Kornblith et al., ICML 2019, equation 3 for linear
    kernels): :math:`\|Y^T X\|_F^2 / (\|X^T X\|_F \|Y^T Y\|_F)`, positions as samples, channels as features, centred.

    Args:
        first: (C, H, W).
        second: (C', H, W).

    Returns:
        0 to 1; 0 when one of them is constant.
    """
    x, y = (each.flatten(1).double().T for each in (first, second))
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    scale = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    return float(torch.linalg.matrix_norm(y.T @ x) ** 2 / scale) if scale > 0 else 0.0
