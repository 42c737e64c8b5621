"""The network that is only there to compare with."""

from __future__ import annotations

import torch

from benchmarks.red_cnn import REDCNN


def test_red_cnn_gives_the_size_back() -> None:
    network = REDCNN().eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 33, 40)).shape == (1, 1, 33, 40)


def test_red_cnn_has_the_published_size() -> None:
    """Ten layers of 5x5 with bias: eight of 96 to 96 channels, one from and one to the image."""
    expected = 8 * (96 * 96 * 25 + 96) + (96 * 25 + 96) + (96 * 25 + 1)
    assert sum(each.numel() for each in REDCNN().parameters()) == expected


def test_the_shortcut_of_the_image_is_the_last_one() -> None:
    network = REDCNN().eval()
    for layer in network.up:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    image = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        assert torch.equal(network(image), image)
