"""What every case is told."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_SIZE = 512
"""Rows and columns of a CT slice."""

NOISE_HU = 25.0
"""SD of the phantom's noise, about that of a quarter dose. No time depends on it."""


@dataclass(frozen=True)
class Settings:
    """What every case is told.

    Args:
        repeats: timed rounds of each comparison.
        slices: of the series in ``endtoend``; ``memory`` takes as many, and ten times as many.
        device: "cpu" or "cuda".
    """

    repeats: int = 5
    slices: int = 100
    device: str = "cpu"

    @property
    def batch(self) -> int:
        """Slices per pass of ctclip's networks: as many as ``ctclip denoise`` takes by itself on the device."""
        from ctclip.denoise import AUTO_BATCH_PIXELS

        return AUTO_BATCH_PIXELS[self.device] // IMAGE_SIZE**2
