"""What training and evaluation need that MONAI and ignite do not have."""

from __future__ import annotations

from ctclip.handlers.epoch_seed import EpochSeedHandler
from ctclip.handlers.gradient_clipping import GradientClippingHandler
from ctclip.handlers.mixup import MixUpBatch
from ctclip.handlers.patient_mean import PatientMean
from ctclip.handlers.resumable_checkpoint import ResumableCheckpointHandler
from ctclip.handlers.settings_saver import SettingsSaver

__all__ = [
    "EpochSeedHandler",
    "GradientClippingHandler",
    "MixUpBatch",
    "PatientMean",
    "ResumableCheckpointHandler",
    "SettingsSaver",
]
