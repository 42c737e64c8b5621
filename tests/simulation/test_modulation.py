"""Scanners modulate the tube current: every slice has noise of its own level, and gets what that asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctclip.simulation import NoiseSimulator
from ctclip.simulation.calibration import flat_slice
from ctclip.simulation.correlated import correlated_noise
from ctclip.simulation.modulation import SAME_EVERYWHERE, Modulation, running_median
from ctclip.simulation.projection_domain import photons_with
from ctclip.simulation.settings import Amount, Settings

SIDE, PIXEL_MM = 128, 2.5
RADII_PX = np.linspace(40, 56, 12)
"""Of discs of water, 20 to 28 cm wide: with the same photons the noise of the widest is twice as strong."""

OWN_HU = np.linspace(14, 12, 12)
"""Against it, as of a scanner that gives wide bodies more than they need."""

AXIS = np.arange(SIDE) - (SIDE - 1) / 2
RADIUS_PX = np.hypot(AXIS[:, None], AXIS[None, :])


def _scan(own_hu: np.ndarray = OWN_HU) -> np.ndarray:
    clean = np.stack([np.where(radius > RADIUS_PX, 0.0, -1000.0) for radius in RADII_PX])
    unit = correlated_noise(clean.shape, generator=torch.Generator().manual_seed(0)).numpy()
    return (clean + own_hu[:, None, None] * unit).astype(np.float32)


def _inserted_hu(simulator: NoiseSimulator, scan: np.ndarray) -> np.ndarray:
    """SD in each disc, in batches as commands make them."""
    noise = np.concatenate([simulator.noise_hu(scan[:8], 0), simulator.noise_hu(scan[8:], 8)])
    return np.array([each[radius - 9 > RADIUS_PX].std() for each, radius in zip(noise, RADII_PX, strict=True)])


def _levels(simulator: NoiseSimulator) -> np.ndarray:
    return simulator.level * np.array(simulator.modulation.at(range(len(RADII_PX))))


@pytest.mark.parametrize(
    ("domain", "dose"), [("projection", 0.25), ("projection", 0.08), ("image", 0.25), ("white", 0.25)]
)
def test_every_slice_gets_the_noise_that_its_own_asks_for(domain: str, dose: float) -> None:
    scan = _scan()
    simulator = NoiseSimulator(domain, "standard", PIXEL_MM).for_dose(list(scan), dose)
    ratio = _inserted_hu(simulator, scan) / (OWN_HU * np.sqrt(1 / dose - 1))
    assert ratio.mean() == pytest.approx(1, abs=0.1)
    assert ratio / ratio.mean() == pytest.approx(np.ones(12), abs=0.15)


@pytest.mark.parametrize("domain", ["projection", "image", "white"])
def test_an_sd_is_that_of_every_slice(domain: str) -> None:
    scan = _scan()
    simulator = NoiseSimulator(domain, "standard", PIXEL_MM).for_sd(list(scan), 30)
    assert _inserted_hu(simulator, scan) == pytest.approx(np.full(12, 30), rel=0.15)


def test_a_number_of_photons_is_that_of_every_slice() -> None:
    scan = _scan()
    simulator = NoiseSimulator("projection", "standard", PIXEL_MM).for_photons(list(scan), 1e5)
    assert (simulator.level, simulator.modulation) == (1e5, SAME_EVERYWHERE)
    inserted_hu = _inserted_hu(simulator, scan)
    assert 2 < inserted_hu[-1] / inserted_hu[0] < 4


def test_slices_without_soft_tissue_take_the_level_of_their_neighbours() -> None:
    scan = _scan()
    scan[:2], scan[6], scan[11] = -1000, -800, 300
    levels = _levels(NoiseSimulator("projection", "standard", PIXEL_MM).for_dose(list(scan), 0.25))
    assert levels[:2] == pytest.approx(levels[2])
    assert levels[6] == pytest.approx(np.sqrt(levels[5] * levels[7]))
    assert levels[11] == pytest.approx(levels[10])
    assert all(np.diff(levels) >= 0)


@pytest.mark.parametrize("odd", [slice(6, 7), slice(6, 8), slice(0, 1)])
def test_odd_slices_do_not_get_a_spike(odd: slice) -> None:
    own_hu = OWN_HU.copy()
    own_hu[odd] *= 4
    as_it_is, with_odd = (
        _levels(NoiseSimulator("white", "standard", PIXEL_MM).for_dose(list(_scan(own)), 0.25))
        for own in (OWN_HU, own_hu)
    )
    assert with_odd == pytest.approx(as_it_is, rel=0.1)


def test_anatomy_is_not_taken_for_noise(caplog: pytest.LogCaptureFixture) -> None:
    """Four slices in which no soft tissue is flat: what varies there is not the noise of the scanner."""
    scan = _scan()
    muscle_and_fat = 60 * np.sin(AXIS / 4)[:, None] * np.sin(AXIS / 4)
    for number in range(4):
        scan[number] += np.where(scan[number] > -500, muscle_and_fat, 0).astype(np.float32)
    assert flat_slice(scan[0]).sd_hu > 1.5 * OWN_HU[0]
    assert [flat_slice(each).shows_noise_alone for each in scan] == [False] * 4 + [True] * 8
    levels = _levels(NoiseSimulator("image", "standard", PIXEL_MM).for_dose(list(scan), 0.25))
    assert levels[:4] == pytest.approx(levels[4])
    settings = Settings(Amount(dose=0.25), domain="image")
    settings.simulator(list(scan), PIXEL_MM)
    assert "nowhere flat" not in caplog.text
    settings.simulator(list(scan[:4]), PIXEL_MM)  # better than nothing
    assert "soft tissue is nowhere flat: anatomy may count as noise" in caplog.text


def test_metal_in_some_slices_does_not_give_them_more_photons() -> None:
    scan, metal = _scan(np.full(12, 10.0)), _scan(np.full(12, 10.0))
    metal[5:9, 60:68, 34:42] = metal[5:9, 60:68, 86:94] = 3000  # 2 cm each
    inserted_hu = [
        _inserted_hu(NoiseSimulator("projection", "standard", PIXEL_MM).for_dose(list(each), 0.25), scan)
        for each in (scan, metal)
    ]
    assert inserted_hu[1] / inserted_hu[0] == pytest.approx(np.ones(12), abs=0.25)


def test_a_few_slices_stand_for_the_scan() -> None:
    scan = _scan()
    all_of_it = NoiseSimulator("white", "standard", PIXEL_MM).for_dose(list(scan), 0.25)
    known = [1, 3, 5, 7, 9, 11]
    some = NoiseSimulator("white", "standard", PIXEL_MM).for_dose([scan[i] for i in known], 0.25, known)
    assert _levels(some) == pytest.approx(_levels(all_of_it), rel=0.1)


def test_noise_goes_with_the_index_and_not_with_the_batch() -> None:
    scan = _scan()
    simulator = NoiseSimulator("white", "standard", PIXEL_MM, level=20, modulation=Modulation((0, 11), (1.0, 4.0)))
    together = simulator.noise_hu(scan)
    np.testing.assert_allclose(together[9:], simulator.noise_hu(scan[9:], 9), atol=1e-4)
    even = replace(simulator, modulation=SAME_EVERYWHERE).noise_hu(scan)
    np.testing.assert_allclose(together[11], 4 * even[11], rtol=1e-5)
    np.testing.assert_array_equal(together[0], even[0])


def test_levels_between_known_slices_are_their_geometric_mean() -> None:
    assert Modulation((2, 4), (1.0, 4.0)).at([0, 2, 3, 4, 9]) == pytest.approx([1, 1, 2, 4, 4])
    assert SAME_EVERYWHERE.at(range(3, 6)) == [1, 1, 1]


def test_the_running_median_keeps_steps_and_leaves_out_two_odd_values() -> None:
    values = np.array([1, 1, 1, 9, 9, 1, 1, 5, 5, 5.0])
    assert running_median(values, 2).tolist() == [1, 1, 1, 1, 1, 5, 5, 5, 5, 5]
    assert running_median(values, 0).tolist() == values.tolist()
    assert running_median(np.array([3.0]), 2).tolist() == [3]


def test_photons_make_the_variance_that_is_asked_for() -> None:
    photon, electronic, variance = np.array([[3e4, 2e5], [7e6, 0], [10, 0.5]])
    found = photons_with(variance, photon, electronic)
    assert photon / found + electronic / found**2 == pytest.approx(variance)
    assert found[1] == pytest.approx(2e5 / 0.5)
