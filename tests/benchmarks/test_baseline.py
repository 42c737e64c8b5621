"""The baseline is the published network, and computes what ctclip's reference configuration computes."""

from __future__ import annotations

import torch

from benchmarks.baseline import PublishedNetwork, ours_with_weights_of, published_network
from benchmarks.rates import flops_per_image
from ctclip.networks import DenoiserConfig


def test_the_baseline_equals_our_reference_network() -> None:
    published = published_network()
    ours = ours_with_weights_of(published)
    image = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = published(image), ours(image)
    assert ours.config.to_dict() == DenoiserConfig.reference(encoder_name=ours.config.encoder_name).to_dict()
    assert expected.std() > 1e-3  # or equality would say nothing
    assert float((found - expected).abs().max()) < 1e-5 * max(1, float(expected.abs().max()))


def test_the_baseline_has_the_published_size() -> None:
    """34,515,043 parameters, 23,527,264 of them in the encoder, 89.0 GMAC at 512x512."""
    with torch.device("meta"):
        network = PublishedNetwork().eval()
        image = torch.empty(1, 1, 512, 512)
    assert sum(each.numel() for each in network.parameters()) == 34_515_043
    assert sum(each.numel() for each in network.encoder.parameters()) == 23_527_264
    assert round(flops_per_image(network, image) / 2e9, 1) == 89.0


def test_layer4_runs_although_nothing_uses_it() -> None:
    network = published_network()
    shapes = []
    network.encoder.layer4.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    with torch.no_grad():
        network(torch.rand(1, 1, 64, 64))
    assert shapes == [(1, 2048, 2, 2)]


def test_the_seed_decides_the_weights_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again = published_network(seed=1), published_network(seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.last.weight, again.last.weight)
