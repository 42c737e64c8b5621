from __future__ import annotations

import numpy as np
import torch

from ctclip.transforms import RandPhantomd


def test_image_and_label_become_the_same_piecewise_constant_phantom() -> None:
    patch = {"image": torch.full((3, 64, 48), 7.0), "label": torch.full((1, 64, 48), 9.0)}
    phantom = RandPhantomd(["image", "label"], prob=1.0).set_random_state(1)(patch)
    assert phantom["image"].shape == (3, 64, 48)
    assert torch.equal(phantom["image"][0], phantom["image"][2])
    assert torch.equal(phantom["image"][:1], phantom["label"])
    assert patch["image"].unique().tolist() == [7.0]  # the input is left alone


def test_phantoms_hold_tissue_and_are_flat_but_for_soft_borders() -> None:
    transform = RandPhantomd("image", prob=1.0).set_random_state(0)
    phantoms = [transform.phantom_hu((96, 96)) for _ in range(50)]
    assert min(map(np.min, phantoms)) >= -1000 - 1e-9
    assert max(map(np.max, phantoms)) <= 1000 + 1e-9
    flat = [np.mean(np.abs(np.diff(each, axis=0)) < 1e-9) for each in phantoms]
    assert min(flat) > 0.8
    backgrounds = [np.ptp(each) for each in phantoms]
    assert sum(value == 0 for value in backgrounds) < 25  # most phantoms hold organs
    assert 5 < sum(each.min() == -1000 for each in phantoms) < 45  # air is frequent, not everywhere


def test_only_the_asked_share_is_replaced_and_the_random_state_decides() -> None:
    patch = {"image": torch.zeros(1, 8, 8)}
    kept = RandPhantomd("image", prob=0.0)(patch)
    assert kept["image"] is patch["image"]
    transform = RandPhantomd("image", prob=0.4).set_random_state(3)
    replaced = sum(transform(patch)["image"] is not patch["image"] for _ in range(500))
    assert 160 < replaced < 240
    one, other = (RandPhantomd("image", prob=1.0).set_random_state(5)(patch)["image"] for _ in range(2))
    assert torch.equal(one, other)
