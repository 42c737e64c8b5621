"""What noise to add to a scan, as its user says it, and the simulator that this makes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctclip.errors import ConfigError
from ctclip.sampling import evenly_spread
from ctclip.simulation.calibration import flat_slice, inside_circle
from ctclip.simulation.simulator import (
    MOST_PHOTONS,
    MOST_SD_HU,
    NoiseSimulator,
    require_amount,
    require_dose,
    require_known,
)

CALIBRATION_CANDIDATES = 64
"""Slices of a scan whose noise is measured beforehand; what is between them is interpolated."""

TRIED_CANDIDATES = 9
"""Slices among which some with soft tissue are found, to try out a number of photons on."""

MOST_WITHOUT_NOISE = 0.01
"""Share of the body without noise from which on it is said. Tables reach out of the circle a little."""

BODY_HU = -500.0
"""Anything denser is body, or what it lies on; lungs are not needed to tell where it is."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Amount:
    """How much noise; exactly one of the three.

    Args:
        dose: fraction of the scan's dose.
        sd_hu: SD of the added noise in the flat soft tissue of every slice.
        photons: per ray without an object, in the projection domain; the same for every slice.
    """

    dose: float | None = None
    sd_hu: float | None = None
    photons: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.dose, self.sd_hu, self.photons) if value is not None]
        if len(given) != 1:
            raise ConfigError(f"give exactly one of dose, SD and photons, found {len(given)} of them")
        if self.dose is not None:
            require_dose(self.dose)
        elif self.sd_hu is not None:
            require_amount("the SD of the noise", self.sd_hu, MOST_SD_HU)
        else:
            require_amount("the number of photons", given[0], MOST_PHOTONS)

    def __str__(self) -> str:
        if self.dose is not None:
            return f"dose {self.dose:g}"
        return f"noise {self.sd_hu:g} HU" if self.sd_hu is not None else f"{self.photons:g} photons"


@dataclass(frozen=True)
class Settings:
    """How noise is made; see :class:`~ctclip.simulation.NoiseSimulator`.

    Raises:
        ConfigError: when a setting is unknown, or photons are given without the projection domain.
    """

    amount: Amount
    domain: str = "projection"
    texture: str = "standard"
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a constant)

    def __post_init__(self) -> None:
        require_known([self.domain], [self.texture])
        if self.amount.photons is not None and self.domain != "projection":
            raise ConfigError(f"photons need the projection domain, found {self.domain!r}")

    def measured(self, count: int) -> list[int]:
        """Which of a number of slices :meth:`simulator` needs."""
        return evenly_spread(count, CALIBRATION_CANDIDATES if self.amount.photons is None else TRIED_CANDIDATES)

    def simulator(
        self, slices_hu: Sequence[np.ndarray], pixel_mm: float, indices: Sequence[int] | None = None
    ) -> NoiseSimulator:
        """A simulator for a scan, calibrated on some of its slices; see the methods of the simulator."""
        simulator = NoiseSimulator(self.domain, self.texture, pixel_mm, self.seed, self.device)
        share = float(np.mean([share_without_noise(each) for each in slices_hu]))
        if share > MOST_WITHOUT_NOISE:
            logger.warning("%.0f %% of the body lies outside the inscribed circle and gets no noise", 100 * share)
        if self.amount.dose is not None:
            if not any(each.shows_noise_alone for each in map(flat_slice, slices_hu) if each):
                logger.warning("soft tissue is nowhere flat: anatomy may count as noise, and too much noise be made")
            return simulator.for_dose(slices_hu, self.amount.dose, indices)
        if self.amount.sd_hu is not None:
            return simulator.for_sd(slices_hu, self.amount.sd_hu, indices)
        return simulator.for_photons(slices_hu, float(self.amount.photons or 0))


def share_without_noise(slice_hu: np.ndarray) -> float:
    """The share of the body that gets no noise, because it lies outside of
    :func:`~ctclip.simulation.calibration.inside_circle`.

    Args:
        slice_hu: (rows, columns).

    Returns:
        0 to 1; 0 without a body.
    """
    body = slice_hu > BODY_HU
    return float((body & ~inside_circle(slice_hu.shape)).sum() / max(1, body.sum()))
