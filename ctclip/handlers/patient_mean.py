"""Image metrics of CT as a mean over patients, not over slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.metrics import CumulativeIterationMetric

from ctclip.metrics.volume import windowed_slices


class PatientMean(Metric):
    """A metric of MONAI's on the slices of volumes, averaged as by ``ctclip evaluate``: over the slices of all scans
    of a patient, then over patients.

    MONAI's own handlers average over everything that they are given, so that a patient of 300 slices counts ten times
    as much as one of 30. It is for an evaluator of one process, whose batch names the patients.

    Args:
        metric: of images, such as ``PSNRMetric``.
        key: what to compare with "label", (1, X, Y, Z) in HU.
        window_hu: lower and upper end, see :func:`~ctclip.metrics.volume.windowed_slices`.
        patient_key: item of the batch with the patient that a volume is of.

    Raises:
        ConfigError: for a window that is empty, upside down or not finite.
    """

    def __init__(
        self, metric: CumulativeIterationMetric, key: str, window_hu: Sequence[float], patient_key: str = "patient"
    ) -> None:
        self.metric, self.patient_key = metric, patient_key
        self.slices_of = windowed_slices(key, window_hu)
        super().__init__()

    def reset(self) -> None:
        """Forget all volumes."""
        self.metric.reset()
        self.values: dict[str, list[float]] = defaultdict(list)

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]  # no other usage
        """Attach to a MONAI evaluator."""
        self.batch_of = engine
        super().attach(engine, name)

    def update(self, output: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Measure volumes.

        Args:
            output: of the evaluator, decollated.

        Raises:
            DataError: for volumes that cannot be measured.
        """
        sources: Any = self.batch_of.state.batch  # decollated too
        for item, source in zip(output, sources, strict=True):
            for pred, label in zip(*self.slices_of([item]), strict=True):
                value = torch.as_tensor(self.metric(pred[None], label[None]))
                self.values[source[self.patient_key]].append(float(value))

    def compute(self) -> float:
        """The mean over patients."""
        means = [sum(values) / len(values) for values in self.values.values()]
        return sum(means) / len(means)
