"""The networks that are only there to compare with."""

from __future__ import annotations

import torch

from benchmarks.peers import without_batchnorm
from benchmarks.red_cnn import REDCNN
from ctclip.networks.peers import DnCNN


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


def test_dncnn_without_batchnorm_gives_the_same() -> None:
    network = DnCNN(1, 8, 5).eval()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                torch.nn.init.uniform_(values, 0.5, 2.0)
    image = torch.rand(1, 1, 33, 40)
    with torch.no_grad():
        expected = network.layers(image)
        folded = without_batchnorm(network.layers)
        torch.testing.assert_close(folded(image), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(network.layers(image), expected), "the network itself stays as it is"
    kinds = [type(layer).__name__ for layer in folded]
    assert kinds == ["Conv2d", "ReLU"] * 4 + ["Conv2d"]
