"""Adds the noise of a lower dose to slices, one by one, calibrated on the scan's own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from ctclip.errors import ConfigError, DataError
from ctclip.metrics.noise import NO_VARIANCE_HU2
from ctclip.simulation.calibration import calibration_slices, median_mean_hu, median_sd_hu
from ctclip.simulation.correlated import correlated_noise
from ctclip.simulation.projection_domain import line_integrals, photon_noise_hu, relative_sd
from ctclip.units import AIR_HU, MODEL_HU_WINDOW

DOMAINS = ("projection", "image", "white")
"""Photons and electronics in the projections; noise of the texture of filtered back-projection, its level by place from
the projections; the same without correlation, which no scanner makes and much of the literature uses."""

TEXTURES = {"smooth": ("hann", 0.18), "standard": ("cosine", 0.22), "sharp": ("shepp-logan", 0.32)}
"""By kernel: window of the ramp filter, and cut-off in cycles/pixel that gives the image domain the same correlation of
neighbouring pixels."""

FIRST_PHOTONS = 1e5
"""Where the search for the number of photons begins."""

LEAST_LEVEL = 1e-3
"""Photons, or HU, at which the search gives up."""

CALIBRATION_STEPS = 4
"""The SD goes with the root of the number of photons but for electronic noise, so that few steps suffice."""

CALIBRATION_TOLERANCE = 0.01
"""Of the SD; the estimate on a few slices is not better."""

LARGEST_MISS = 0.1
"""Of the SD, where the search ends without having found it."""

LARGEST_SHIFT = 0.25
"""Of the mean of soft tissue, in SDs of the noise. Where hardly a photon gets through, the logarithm is no longer right
on average, and the reconstruction turns towards air."""

BATCH = 8
"""Slices at once: they share most of the work of projecting."""

MAP_VIEWS, MAP_SHRINK = 180, 4
"""The level by place is smooth: fewer views of a smaller image give it."""

LOWEST_HU = MODEL_HU_WINDOW[0]
"""Scanners store nothing below; what lies there already is outside the reconstruction."""

MOST_PHOTONS, MOST_SD_HU = 1e9, 1000.0
"""Beyond these there is no noise to see, or nothing else."""

BODY_HU = -500.0
"""Anything denser is body, or what it lies on; lungs are not needed to tell where it is."""


@dataclass(frozen=True)
class NoiseSimulator:
    """Makes low-dose slices; the same seed and index always give the same noise.

    Args:
        domain: one of :data:`DOMAINS`.
        texture: one of :data:`TEXTURES`.
        pixel_mm: side of a pixel.
        seed: of the noise.
        device: of the computation. CPU and CUDA draw different noise.
        level: photons per ray in the projection domain, else the SD in HU where the noise is strongest; see
            :meth:`for_dose` and :meth:`for_sd`.

    Raises:
        ConfigError: when a setting is unknown or out of range.
    """

    domain: str
    texture: str
    pixel_mm: float
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a constant)
    level: float = FIRST_PHOTONS

    def __post_init__(self) -> None:
        require_known([self.domain], [self.texture])
        if not self.level > 0 or not self.pixel_mm > 0:
            raise ConfigError(f"photons or SD, and pixel size must be above 0, found {self.level:g}, {self.pixel_mm:g}")

    def for_dose(self, slices_hu: Sequence[np.ndarray], dose: float) -> Self:
        """The same with the level that makes a fraction of the dose of a scan.

        Noise variance goes with 1 / dose, and the scan holds its own noise already: what is added has the SD of the
        scan times sqrt(1 / dose - 1).

        Args:
            slices_hu: some slices of the scan, (rows, columns) each.
            dose: above 0 and below 1.

        Raises:
            ConfigError: for a dose out of range.
            DataError: when the slices hold too little soft tissue to measure their noise, no noise at all, or let too
                few photons through for so low a dose.
        """
        require_dose(dose)
        used, places = calibration_slices(slices_hu)
        own_sd_hu = median_sd_hu(used, places)
        if own_sd_hu**2 < NO_VARIANCE_HU2:
            raise DataError("the scan has no noise that a lower dose could be reckoned from; give the SD or photons")
        return self._with_sd(used, places, own_sd_hu * float(np.sqrt(1 / dose - 1)))

    def for_sd(self, slices_hu: Sequence[np.ndarray], sd_hu: float) -> Self:
        """The same with the level that gives noise of an SD in flat soft tissue.

        Args:
            slices_hu: some slices of the scan, (rows, columns) each.
            sd_hu: above 0.

        Raises:
            ConfigError: for an SD out of range.
            DataError: when the slices hold too little soft tissue, or let too few photons through for so much noise.
        """
        require_amount("the SD of the noise", sd_hu, MOST_SD_HU)
        return self._with_sd(*calibration_slices(slices_hu), sd_hu)

    def _with_sd(self, slices_hu: Sequence[np.ndarray], places: Sequence[np.ndarray], sd_hu: float) -> Self:
        by_photons = self.domain == "projection"
        simulator = replace(self, level=FIRST_PHOTONS if by_photons else sd_hu)
        prepared = self._prepared(np.stack(slices_hu))
        for step in range(CALIBRATION_STEPS + 1):
            noise_hu = simulator._made_hu(prepared, 0)
            ratio = median_sd_hu(noise_hu, places) / sd_hu
            level = simulator.level * (ratio**2 if by_photons else 1 / ratio)
            if abs(ratio - 1) < CALIBRATION_TOLERANCE or step == CALIBRATION_STEPS or not level >= LEAST_LEVEL:
                break
            simulator = replace(simulator, level=level)
        shift_hu = median_mean_hu(noise_hu, places)
        if abs(ratio - 1) > LARGEST_MISS or abs(shift_hu) > LARGEST_SHIFT * sd_hu:
            raise _too_few_photons(f"noise of {sd_hu:.3g} HU", ratio * sd_hu, shift_hu)
        return simulator

    def for_photons(self, slices_hu: Sequence[np.ndarray], photons: float) -> Self:
        """The same with a number of photons per ray, tried where the scan has soft tissue to look at.

        Args:
            slices_hu: some slices of the scan, (rows, columns) each.
            photons: above 0.

        Raises:
            ConfigError: for a number out of range.
            DataError: when too few photons get through.
        """
        require_amount("the number of photons", photons, MOST_PHOTONS)
        simulator = replace(self, level=photons)
        try:
            used, places = calibration_slices(slices_hu)
        except DataError:  # the number does not depend on what the scan holds
            return simulator
        noise_hu = simulator.noise_hu(np.stack(used))
        sd_hu, shift_hu = median_sd_hu(noise_hu, places), median_mean_hu(noise_hu, places)
        if abs(shift_hu) > LARGEST_SHIFT * sd_hu:
            raise _too_few_photons(f"the noise of {photons:.3g} photons", sd_hu, shift_hu)
        return simulator

    def low_dose(self, slices_hu: np.ndarray, first_index: int = 0) -> np.ndarray:
        """Slices with noise, each with noise of its own; up to :data:`BATCH` at once are faster than one by one.

        Args:
            slices_hu: (slices, rows, columns).
            first_index: of the first slice in the scan.

        Returns:
            float32 HU; values at or below -1024 HU, which lie outside the reconstruction, come back unchanged, and no
            other falls below.
        """
        noisy = np.maximum(slices_hu + self.noise_hu(slices_hu, first_index), LOWEST_HU)
        return np.where(slices_hu <= LOWEST_HU, slices_hu, noisy).astype(np.float32)

    def noise_hu(self, slices_hu: np.ndarray, first_index: int = 0) -> np.ndarray:
        """The noise alone, everywhere: float32 HU; arguments as for :meth:`low_dose`."""
        return self._made_hu(self._prepared(slices_hu), first_index)

    def _prepared(self, slices_hu: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """What noise depends on: line integrals, or the level by place; and the size of the slices."""
        count, rows, columns = slices_hu.shape
        side = max(rows, columns)
        square = torch.full((count, side, side), AIR_HU, device=self.device)
        square[_middle(side, rows, columns)] = torch.from_numpy(np.ascontiguousarray(slices_hu, dtype=np.float32))
        if self.domain == "projection":
            return line_integrals(square, self.pixel_mm), (rows, columns)
        level = relative_sd(line_integrals(square, self.pixel_mm, views=MAP_VIEWS, shrink=MAP_SHRINK))
        return level, (rows, columns)

    def _made_hu(self, prepared: tuple[torch.Tensor, tuple[int, int]], first_index: int) -> np.ndarray:
        values, (rows, columns) = prepared
        window, cutoff = TEXTURES[self.texture]
        random = [self._generator(first_index + offset) for offset in range(len(values))]
        side = values.shape[-1]
        if self.domain == "projection":
            noise = photon_noise_hu(values, self.level, self.pixel_mm, window, random)
        elif self.domain == "image":
            texture = torch.stack([correlated_noise((side, side), cutoff, generator=each) for each in random])
            noise = self.level * values * texture
        else:
            white = torch.stack([torch.randn((side, side), generator=each, device=self.device) for each in random])
            noise = self.level * values * white
        return noise[_middle(side, rows, columns)].cpu().numpy()

    def _generator(self, index: int) -> torch.Generator:
        seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        return torch.Generator(self.device).manual_seed(seed)


def _too_few_photons(what: str, sd_hu: float, shift_hu: float) -> DataError:
    return DataError(
        f"{what} cannot be simulated here: {sd_hu:.3g} HU and a shift of the mean of {shift_hu:+.3g} HU came out, "
        "since too few photons get through; take a higher dose or another domain"
    )


def share_without_noise(slice_hu: np.ndarray) -> float:
    """The share of the body that gets no noise, because it lies outside of what parallel beams see from all sides: the
    circle inscribed in the square around a slice.

    Args:
        slice_hu: (rows, columns).

    Returns:
        0 to 1; 0 without a body.
    """
    rows, columns = slice_hu.shape
    from_middle = [np.arange(length) - (length - 1) / 2 for length in (rows, columns)]
    outside = np.hypot(from_middle[0][:, None], from_middle[1][None, :]) > max(rows, columns) / 2
    body = slice_hu > BODY_HU
    return float((body & outside).sum() / max(1, body.sum()))


def _middle(side: int, rows: int, columns: int) -> tuple[slice, slice, slice]:
    """Where oblong slices lie in a square: in its middle, around which the scanner turns."""
    top, left = (side - rows) // 2, (side - columns) // 2
    return slice(None), slice(top, top + rows), slice(left, left + columns)


def require_dose(dose: float) -> None:
    """Refuse what is no share of a dose.

    Raises:
        ConfigError: with the number.
    """
    if not 0 < dose < 1:
        raise ConfigError(f"the dose is a fraction above 0 and below 1 of that of the scan, found {dose:g}")


def require_amount(what: str, value: float, most: float) -> None:
    """Refuse amounts of noise that are not above 0, or beyond use.

    Raises:
        ConfigError: with the number.
    """
    if not 0 < value <= most:
        raise ConfigError(f"{what} must be above 0 and at most {most:g}, found {value:g}")


def require_known(domains: Sequence[str], textures: Sequence[str]) -> None:
    """Refuse unknown kinds of noise.

    Raises:
        ConfigError: with the first unknown name and those that are known.
    """
    for what, names, known in (("noise domain", domains, DOMAINS), ("texture", textures, tuple(TEXTURES))):
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            found = repr(unknown[0]) if unknown else "nothing"
            raise ConfigError(f"unknown {what}: found {found}, expected one of {', '.join(known)}")
