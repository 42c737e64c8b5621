"""Hounsfield windows and ranges, named once."""

from __future__ import annotations

HUWindow = tuple[float, float]

MODEL_HU_WINDOW: HUWindow = (-1024.0, 3072.0)
"""What the network sees as [0, 1]: the (HU + 1024) / 4096 of RED-CNN and of the CLIP denoising paper."""

SOFT_TISSUE_HU_WINDOW: HUWindow = (-160.0, 240.0)
"""Abdominal soft-tissue display window (centre 40, width 400), the usual window for PSNR of low-dose CT."""

LUNG_HU_WINDOW: HUWindow = (-1350.0, 150.0)
"""Lung display window (centre -600, width 1500)."""

BONE_HU_WINDOW: HUWindow = (-450.0, 1050.0)
"""Bone display window (centre 300, width 1500)."""

WINDOWS_HU: dict[str, HUWindow] = {
    "soft": SOFT_TISSUE_HU_WINDOW,
    "lung": LUNG_HU_WINDOW,
    "brain": (0.0, 80.0),
    "bone": BONE_HU_WINDOW,
    "full": MODEL_HU_WINDOW,
}
"""Windows by the names that users give: the usual display windows (centre/width 40/400, -600/1500, 40/80, 300/1500) and
everything that a model sees."""

SOFT_TISSUE_HU_RANGE: HUWindow = (-50.0, 150.0)
"""Values of muscle, blood and parenchyma, in which noise and bias are measured."""

PADDING_HU = -2000.0
"""Value of pixels outside the reconstruction, whatever the file stores there: below every window, so that windowing
and :class:`~ctclip.transforms.RestoreOutsideHUWindow` treat them as no tissue."""

AIR_HU = -1000.0
"""Air by definition of the Hounsfield scale."""
