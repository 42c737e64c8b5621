"""Training handlers that MONAI and ignite do not have."""

from __future__ import annotations

from ctclip.handlers.gradient_clipping import GradientClippingHandler

__all__ = ["GradientClippingHandler"]
