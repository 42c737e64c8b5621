"""Adds the noise of a lower dose to slices, one by one, calibrated on the scan's own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from ctclip.errors import ConfigError, DataError
from ctclip.sampling import evenly_spread
from ctclip.settings import is_number, require_above_0
from ctclip.simulation.calibration import FlatSlice, flat_slices, noise_at_hu
from ctclip.simulation.correlated import correlated_noise
from ctclip.simulation.modulation import SAME_EVERYWHERE, Modulation, running_median
from ctclip.simulation.projection_domain import (
    ELECTRONIC_VARIANCE,
    back_projected_variance,
    line_integrals,
    photon_noise_hu,
    photons_with,
    relative_sd,
)
from ctclip.units import AIR_HU, MODEL_HU_WINDOW

DOMAINS = ("projection", "image", "white")
"""Photons and electronics in the projections; noise of the texture of filtered back-projection, its level by place from
the projections; the same without correlation, which no scanner makes and much of the literature uses."""

TEXTURES = {"smooth": ("hann", 0.18), "standard": ("cosine", 0.22), "sharp": ("shepp-logan", 0.32)}
"""By kernel: window of the ramp filter, and cut-off in cycles/pixel that gives the image domain the same correlation of
neighbouring pixels."""

FIRST_PHOTONS = 1e5
"""Where the search for the number of photons begins."""

DENSEST = float(np.log(FIRST_PHOTONS))
"""Line integral beyond which, through metal, next to no photon gets: noise no longer grows with it."""

LEAST_PHOTONS = 1e-3
"""The search tries no fewer."""

CALIBRATION_SLICES = 3
"""Of those whose noise is known, so many try out the level."""

SMOOTHING_REACH = 2
"""Neighbours to each side over which the median of measured levels is taken: it leaves out two odd ones in a row."""

CALIBRATION_STEPS = 4
"""The SD goes as expected but where hardly a photon gets through, so that few steps suffice."""

CALIBRATION_TOLERANCE = 0.01
"""Of the SD; the estimate on a few slices is not better."""

LARGEST_MISS = 0.1
"""Of the SD, where the search ends without having found it."""

LARGEST_SHIFT = 0.25
"""Of the mean of soft tissue, in SDs of the noise. Where few photons get through, the logarithm is no longer right on
average: the reconstruction turns towards bone, and with hardly any photons towards air."""

LEAST_COUNTS = 20
"""Photons that half of the rays through the body must bring. Below, both errors of the logarithm cancel at some number
of photons, where the shift of the mean tells nothing."""

BODY_INTEGRAL = 1.0
"""Of rays through the body: those that 50 mm of water would attenuate as much."""

BATCH = 8
"""Slices at once: they share most of the work of projecting."""

MAP_VIEWS, MAP_SHRINK = 180, 4
"""The level by place is smooth: fewer views of a smaller image give it."""

LOWEST_HU = MODEL_HU_WINDOW[0]
"""Scanners store nothing below; what lies there already is outside the reconstruction."""

MOST_PHOTONS, MOST_SD_HU = 1e9, 1000.0
"""Beyond these there is no noise to see, or nothing else."""


@dataclass(frozen=True)
class Prepared:
    """What the noise of some slices depends on beside its level.

    Args:
        values: (slices, side, side): line integrals in the projection domain, else the level by place.
        size: rows and columns of the slices, which lie in the middle of a square.
    """

    values: torch.Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class NoiseSimulator:
    """Makes low-dose slices; the same seed and index always give the same noise.

    Args:
        domain: one of :data:`DOMAINS`.
        texture: one of :data:`TEXTURES`.
        pixel_mm: side of a pixel.
        seed: of the noise.
        device: of the computation. CPU and CUDA draw different noise.
        level: photons per ray in the projection domain, else the SD in HU where the noise of a slice is strongest; see
            :meth:`for_dose` and :meth:`for_sd`.
        modulation: of the level by slice.

    Raises:
        ConfigError: when a setting is unknown or out of range.
    """

    domain: str
    texture: str
    pixel_mm: float
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a constant)
    level: float = FIRST_PHOTONS
    modulation: Modulation = SAME_EVERYWHERE

    def __post_init__(self) -> None:
        require_known([self.domain], [self.texture])
        require_above_0("the number of photons, or SD,", self.level)
        require_above_0("the pixel size", self.pixel_mm)

    def for_dose(self, slices_hu: Sequence[np.ndarray], dose: float, indices: Sequence[int] | None = None) -> Self:
        """The same with the levels that make a fraction of the dose of a scan.

        Noise variance goes with 1 / dose, and the scan holds its own noise already: what is added to a slice has the
        SD of its own times sqrt(1 / dose - 1). Own noise goes along the scan as the tube current and the body made it.

        Args:
            slices_hu: slices of the scan in their order, (rows, columns) each; a few of many are enough.
            dose: above 0 and below 1.
            indices: of these slices in the scan; without, they follow each other from 0.

        Raises:
            ConfigError: for a dose out of range.
            DataError: when the slices hold too little soft tissue to measure their noise, no noise at all, or let too
                few photons through for so low a dose.
        """
        require_dose(dose)
        noisy = [each for each in _flat(slices_hu, indices) if each.has_noise]
        if not noisy:
            raise DataError("the scan has no noise that a lower dose could be reckoned from; give the SD or photons")
        used = [each for each in noisy if each.shows_noise_alone] or noisy
        return self._with_sds(used, [each.sd_hu * float(np.sqrt(1 / dose - 1)) for each in used], SMOOTHING_REACH)

    def for_sd(self, slices_hu: Sequence[np.ndarray], sd_hu: float, indices: Sequence[int] | None = None) -> Self:
        """The same with the levels that give noise of an SD in flat soft tissue of every slice.

        Args:
            slices_hu: slices of the scan in their order, (rows, columns) each; a few of many are enough.
            sd_hu: above 0.
            indices: of these slices in the scan; without, they follow each other from 0.

        Raises:
            ConfigError: for an SD out of range.
            DataError: when the slices hold too little soft tissue, or let too few photons through for so much noise.
        """
        require_amount("the SD of the noise", sd_hu, MOST_SD_HU)
        used = _flat(slices_hu, indices)
        return self._with_sds(used, [sd_hu] * len(used), 0)

    def _with_sds(self, slices: Sequence[FlatSlice], sds_hu: Sequence[float], reach: int) -> Self:
        """The same with levels for noise of these SDs in these slices, smoothed over some neighbours to each side.

        How many photons a slice needs is known from its projections but for a factor, which the noise of some of the
        slices tells. The other domains have noise as of 1 / SD^2 photons, without electronics.
        """
        due_hu2 = np.square(sds_hu)
        photon, electronic = self._variances(slices)
        places = _to_try(slices)
        tried = [slices[i] for i in places]
        prepared = self._prepared(np.stack([each.slice_hu for each in tried]))
        factor_hu2 = float(np.median(due_hu2 / (photon / FIRST_PHOTONS + electronic / FIRST_PHOTONS**2)))
        tries = []
        for _ in range(CALIBRATION_STEPS + 1):
            photons = running_median(photons_with(due_hu2 / factor_hu2, photon, electronic), reach)
            simulator = self._with_photons(photons, [each.index for each in slices])
            smooth_hu = np.sqrt(factor_hu2 * (photon / photons + electronic / photons**2))[places]
            made_hu, shift_hu = simulator._sds_and_means_hu(prepared, tried)
            ratio = float(np.median(made_hu / smooth_hu))
            tries.append((simulator, ratio, float(np.median(shift_hu / smooth_hu))))
            if abs(ratio - 1) < CALIBRATION_TOLERANCE:
                break
            factor_hu2 *= ratio**2
        simulator, ratio, shift = min(tries, key=lambda each: abs(each[1] - 1))
        enough = simulator._has_enough_photons(prepared, tried)
        if not (enough and abs(ratio - 1) <= LARGEST_MISS and abs(shift) <= LARGEST_SHIFT):
            sd_hu = float(np.median(smooth_hu))
            raise _too_few_photons(f"noise of {sd_hu:.3g} HU", ratio * sd_hu, shift * sd_hu)
        return simulator

    def _with_photons(self, photons: np.ndarray, indices: Sequence[int]) -> Self:
        levels = photons.clip(LEAST_PHOTONS) if self.domain == "projection" else photons**-0.5
        typical = float(np.median(levels))
        return replace(self, level=typical, modulation=Modulation(tuple(indices), tuple((levels / typical).tolist())))

    def for_photons(self, slices_hu: Sequence[np.ndarray], photons: float) -> Self:
        """The same with a number of photons per ray for all slices, tried where the scan has soft tissue to look at.

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
            flat = _flat(slices_hu, None)
        except DataError:  # the number does not depend on what the scan holds
            return simulator
        tried = [flat[i] for i in _to_try(flat)]
        prepared = self._prepared(np.stack([each.slice_hu for each in tried]))
        sd_hu, shift_hu = (float(np.median(each)) for each in simulator._sds_and_means_hu(prepared, tried))
        if not simulator._has_enough_photons(prepared, tried) or abs(shift_hu) > LARGEST_SHIFT * sd_hu:
            raise _too_few_photons(f"the noise of {photons:.3g} photons", sd_hu, shift_hu)
        return simulator

    def _has_enough_photons(self, prepared: Prepared, slices: Sequence[FlatSlice]) -> bool:
        """Whether half of the rays through the body bring enough of them; metal in some does not matter."""
        if self.domain != "projection":
            return True
        levels = torch.tensor(self._levels([each.index for each in slices]), device=self.device)
        counts = levels[:, None, None] * torch.exp(-prepared.values)
        through_body = counts[prepared.values > BODY_INTEGRAL]
        return not len(through_body) or float(through_body.median()) >= LEAST_COUNTS

    def _levels(self, indices: Sequence[int]) -> list[float]:
        return [self.level * factor for factor in self.modulation.at(indices)]

    def _sds_and_means_hu(self, prepared: Prepared, slices: Sequence[FlatSlice]) -> tuple[np.ndarray, np.ndarray]:
        """Of the noise at the flat places of each slice."""
        noise_hu = self._made_hu(prepared, [each.index for each in slices])
        sds_hu = [noise_at_hu(noise, each.places) for noise, each in zip(noise_hu, slices, strict=True)]
        means_hu = [noise[each.places].mean() for noise, each in zip(noise_hu, slices, strict=True)]
        return np.array(sds_hu), np.array(means_hu)

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
        return self._made_hu(self._prepared(slices_hu), range(first_index, first_index + len(slices_hu)))

    def _prepared(self, slices_hu: np.ndarray) -> Prepared:
        count, rows, columns = slices_hu.shape
        side = max(rows, columns)
        square = torch.full((count, side, side), AIR_HU, device=self.device)
        square[_middle(side, rows, columns)] = torch.from_numpy(np.ascontiguousarray(slices_hu, dtype=np.float32))
        if self.domain == "projection":
            return Prepared(line_integrals(square, self.pixel_mm), (rows, columns))
        level = relative_sd(line_integrals(square, self.pixel_mm, views=MAP_VIEWS, shrink=MAP_SHRINK))
        return Prepared(level, (rows, columns))

    def _variances(self, slices: Sequence[FlatSlice]) -> tuple[np.ndarray, np.ndarray]:
        """Of the noise at the flat places of each slice, in units of their own: from one photon, and from electronics;
        for the other domains as a share of the strongest in the slice, without electronics."""
        side = max(max(each.slice_hu.shape) for each in slices)
        small_hu = torch.stack([self._small(each.slice_hu.clip(AIR_HU), side, AIR_HU) for each in slices])
        share = torch.stack([self._small(each.places, side, 0) for each in slices]).cpu()
        found = []
        for batch_hu, places in zip(small_hu.split(BATCH), share.split(BATCH), strict=True):
            # on the CPU: not every device has float64, and e^(2p) needs its range
            integrals = line_integrals(batch_hu, self.pixel_mm * MAP_SHRINK, views=MAP_VIEWS, shrink=1).cpu().double()
            known = integrals.clamp(max=DENSEST)
            photon, electronic = back_projected_variance(known), back_projected_variance(2 * known)
            if self.domain != "projection":
                photon, electronic = photon / photon.amax(dim=(1, 2), keepdim=True), 0 * electronic
            both = torch.stack([photon, ELECTRONIC_VARIANCE * electronic])
            found.append((both * places).sum(dim=(2, 3)) / places.sum(dim=(1, 2)))
        photon, electronic = torch.cat(found, dim=1).numpy()
        return photon, electronic

    def _small(self, values: np.ndarray, side: int, outside: float) -> torch.Tensor:
        """A slice, or the share of a mask, in the middle of a square of a size, with fewer pixels."""
        square = torch.full((1, side, side), float(outside), device=self.device)
        square[_middle(side, *values.shape)] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        return torch.nn.functional.avg_pool2d(square, MAP_SHRINK, ceil_mode=True)[0]

    def _made_hu(self, prepared: Prepared, indices: Sequence[int]) -> np.ndarray:
        values = prepared.values
        window, cutoff = TEXTURES[self.texture]
        random = [self._generator(index) for index in indices]
        levels = self._levels(indices)
        side = values.shape[-1]
        if self.domain == "projection":
            noise = photon_noise_hu(values, levels, self.pixel_mm, window, random)
        else:
            texture = [self._unit_noise(side, cutoff, each) for each in random]
            sds_hu = torch.tensor(levels, device=self.device)[:, None, None]
            noise = sds_hu * values * torch.stack(texture)
        return noise[_middle(side, *prepared.size)].cpu().numpy()

    def _unit_noise(self, side: int, cutoff: float, generator: torch.Generator) -> torch.Tensor:
        if self.domain == "image":
            return correlated_noise((side, side), cutoff, generator=generator)
        return torch.randn((side, side), generator=generator, device=self.device)

    def _generator(self, index: int) -> torch.Generator:
        seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0])
        return torch.Generator(self.device).manual_seed(seed)


def _flat(slices_hu: Sequence[np.ndarray], indices: Sequence[int] | None) -> list[FlatSlice]:
    return flat_slices(slices_hu, range(len(slices_hu)) if indices is None else indices)


def _to_try(slices: Sequence[FlatSlice]) -> list[int]:
    """Which of the slices try out the level: evenly spread ones among those of the first one's size."""
    alike = [i for i, each in enumerate(slices) if each.slice_hu.shape == slices[0].slice_hu.shape]
    return [alike[i] for i in evenly_spread(len(alike), CALIBRATION_SLICES)]


def _too_few_photons(what: str, sd_hu: float, shift_hu: float) -> DataError:
    return DataError(
        f"{what} cannot be simulated here: {sd_hu:.3g} HU and a shift of the mean of {shift_hu:+.3g} HU came out, "
        "since too few photons get through; take a higher dose or another domain"
    )


def _middle(side: int, rows: int, columns: int) -> tuple[slice, slice, slice]:
    """Where oblong slices lie in a square: in its middle, around which the scanner turns."""
    top, left = (side - rows) // 2, (side - columns) // 2
    return slice(None), slice(top, top + rows), slice(left, left + columns)


def require_dose(dose: float) -> None:
    """Refuse what is no share of a dose.

    Raises:
        ConfigError: with the number.
    """
    if not is_number(dose) or not 0 < dose < 1:
        raise ConfigError(f"the dose is a fraction above 0 and below 1 of that of the scan, found {dose!r}")


def require_amount(what: str, value: float, most: float) -> None:
    """Refuse amounts of noise that are not above 0, or beyond use.

    Raises:
        ConfigError: with the number.
    """
    if not is_number(value) or not 0 < value <= most:
        raise ConfigError(f"{what} must be above 0 and at most {most:g}, found {value!r}")


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
