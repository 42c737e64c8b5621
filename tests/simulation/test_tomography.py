from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import iradon, radon

from ctclip.phantom import body_phantom_hu
from ctclip.simulation.tomography import WINDOWS, back_project, filter_projections, project

SIDE = 129


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A body inside the inscribed circle, 0 outside."""
    image = body_phantom_hu(1, SIDE)[0].astype(np.float64) + 1000
    axis = np.arange(SIDE) - SIDE // 2
    image[np.hypot(axis[:, None], axis[None, :]) > SIDE // 2 - 2] = 0
    return image


def test_projections_are_those_of_scikit_image(image: np.ndarray) -> None:
    expected = radon(image, np.arange(180.0), circle=True).T
    found = project(torch.tensor(image)[None].float(), 180)[0].numpy()
    assert np.abs(found - expected).max() < 1e-5 * expected.max()


def test_a_disc_projects_to_its_chords() -> None:
    radius, value = 40.0, 3.0
    axis = np.arange(SIDE) - SIDE // 2
    disc = value * np.clip(radius + 0.5 - np.hypot(axis[:, None], axis[None, :]), 0, 1)
    chords = 2 * value * np.sqrt(np.maximum(radius**2 - axis**2, 0))
    for view in project(torch.tensor(disc)[None].float(), 7)[0].numpy():
        inside = np.abs(axis) < 0.9 * radius
        assert np.abs(view - chords)[inside].max() < 0.02 * chords.max()


@pytest.mark.parametrize("window", WINDOWS)
def test_reconstructions_are_those_of_scikit_image(image: np.ndarray, window: str) -> None:
    angles = np.arange(180.0)
    sinogram = radon(image, angles, circle=True)
    expected = iradon(sinogram, angles, filter_name=window, circle=True)
    projections = torch.tensor(sinogram.T.copy())[None].float()
    found = back_project(filter_projections(projections, window))[0].numpy()
    difference = found - expected
    assert np.sqrt(np.mean(difference**2)) < 2e-3 * image.max()
    assert abs(found[50:80, 50:80].mean() - expected[50:80, 50:80].mean()) < 1e-4 * image.max()


def test_the_ramp_does_not_wrap_around() -> None:
    """The response to one ray at the detector's end, at its other end too: Kak and Slaney's filter, doubled."""
    sinogram = torch.zeros(1, 1, 64)
    sinogram[0, 0, 0] = 1
    places = np.arange(64)
    ramp = np.where(places % 2, -1 / (np.pi * np.maximum(places, 1)) ** 2, 0)
    ramp[0] = 1 / 4
    assert np.abs(filter_projections(sinogram, "ramp")[0, 0].numpy() - 2 * ramp).max() < 1e-6


def test_slices_of_a_batch_do_not_mix(image: np.ndarray) -> None:
    batch = torch.tensor(np.stack([image, image.T, 2 * image])).float()
    together = back_project(filter_projections(project(batch, 30), "hann"))
    for one, expected in zip(batch, together, strict=True):
        alone = back_project(filter_projections(project(one[None], 30), "hann"))[0]
        assert torch.allclose(alone, expected, atol=1e-2)


@pytest.mark.parametrize("side", [64, 65])
def test_the_axis_is_the_middle_of_the_image(side: int) -> None:
    """What is symmetric about it stays so, also where no pixel lies in the middle."""
    axis = torch.arange(side) - (side - 1) / 2
    distance = torch.hypot(axis[:, None], axis[None, :])
    disc = (20.5 - distance).clamp(0, 1)[None]
    projections = project(disc, 90)
    torch.testing.assert_close(projections, projections.flip(-1), atol=1e-3, rtol=0)
    image = back_project(filter_projections(projections, "hann"))
    for mirrored in (image.flip(1), image.flip(2)):
        assert torch.equal(image != 0, mirrored != 0)
        torch.testing.assert_close(image, mirrored, atol=0.02, rtol=0)
    assert image[0][distance < 15].mean().item() == pytest.approx(1, abs=0.02)
