"""ctclip: denoising of low-dose CT with dense features of a frozen CLIP encoder, for MONAI.

Importing this package is cheap: torch, MONAI and open_clip are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Denoiser", "__version__", "load_network"]

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.weights import load_network


def __getattr__(name: str) -> Any:
    """Load the two public entry points on first use, so that ``ctclip --help`` does not import torch."""
    if name == "Denoiser":
        from ctclip.denoise import Denoiser

        return Denoiser
    if name == "load_network":
        from ctclip.weights import load_network

        return load_network
    raise AttributeError(f"module 'ctclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the names that are not loaded yet, for those who look for them."""
    return sorted({*globals(), *__all__})
