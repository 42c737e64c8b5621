"""Hounsfield windows and ranges, named once."""

from __future__ import annotations

HUWindow = tuple[float, float]

MODEL_HU_WINDOW: HUWindow = (-1024.0, 3072.0)
"""What the network sees as [0, 1]: the (HU + 1024) / 4096 of RED-CNN and of the CLIP denoising paper."""

SOFT_TISSUE_HU_WINDOW: HUWindow = (-160.0, 240.0)
"""Abdominal soft-tissue display window (centre 40, width 400), the usual window for PSNR of low-dose CT."""

SOFT_TISSUE_HU_RANGE: HUWindow = (-50.0, 150.0)
"""Values of muscle, blood and parenchyma, in which noise and bias are measured."""

AIR_HU = -1000.0
"""Air by definition of the Hounsfield scale."""
