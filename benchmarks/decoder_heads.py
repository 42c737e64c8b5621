"""Other forms of the decoder's last block, which work on the whole image and cost a quarter of the arithmetic.

``python -m benchmarks.compare_recipes`` trains them, ``python -m benchmarks --cases heads`` times them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.forms import backends, precisions
from benchmarks.network_speed import without_gradients
from benchmarks.phantom_slices import unit_images
from benchmarks.rates import flops_per_image
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, Settings
from benchmarks.timing import interleaved, ratio, spread
from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser, optimized_network
from ctclip.networks.config import ENCODER_IMAGE_CHANNELS
from ctclip.networks.decoder import NEGATIVE_SLOPE, DenseFeatureDecoder
from ctclip.weights import build_network, load_network

NARROW_WIDTH = 16
"""Channels of the narrow block; the shipped one has 32."""

SQUARE = 2
"""Side of the squares of pixels that the half-resolution block works on."""


class HalfResolutionDecoder(DenseFeatureDecoder):
    """Its last block does not up-sample: it joins F0 with the pixels of each 2x2 square as channels, and the last
    convolution gives the four pixels (Shi et al., *Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network*, CVPR 2016).

    Args:
        config: of the network.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        image = ENCODER_IMAGE_CHANNELS * SQUARE**2
        super().__init__(
            (image, *config.tap_channels),
            config.out_channels * SQUARE**2,
            width=config.decoder_width,
            align_corners=config.align_corners,
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """See :class:`DenseFeatureDecoder`."""
        f0, *others = features
        x = self.blocks[0](others[-1])
        for block, skip in zip(self.blocks[1:-1], reversed(others[:-1]), strict=True):
            x = block(torch.cat([self.upsample(x), skip], dim=1))
        x = self.blocks[-1](torch.cat([x, F.pixel_unshuffle(f0, SQUARE)], dim=1))
        return F.pixel_shuffle(self.last(x), SQUARE)


def half_resolution(config: DenoiserConfig | dict, **settings: Any) -> DenseFeatureDenoiser:
    """A network to train with a :class:`HalfResolutionDecoder`; arguments of ``build_network``."""
    return _half_resolution(build_network(config, **settings))


def _half_resolution(network: DenseFeatureDenoiser) -> DenseFeatureDenoiser:
    network.decoder = HalfResolutionDecoder(network.config)
    return network


def depthwise(config: DenoiserConfig | dict, **settings: Any) -> DenseFeatureDenoiser:
    """A network to train whose last block has each 3x3 convolution as one within channels and one of 1x1 between them;
    arguments of ``build_network``."""
    return _depthwise(build_network(config, **settings))


def _depthwise(network: DenseFeatureDenoiser) -> DenseFeatureDenoiser:
    joint = network.decoder.blocks[4][0]
    network.decoder.blocks[4] = nn.Sequential(
        *_separable(joint.in_channels, joint.out_channels), *_separable(joint.out_channels, joint.out_channels)
    )
    return network


def _separable(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    within = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return within, nn.Conv2d(inputs, outputs, 1, bias=False), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


FULL, NARROW = "full resolution", "narrow"


def _heads() -> dict[str, DenseFeatureDenoiser]:
    """The network of ct-compact, with random weights, with each form of the last block."""
    config = load_network("ct-compact").config
    assert isinstance(config, DenoiserConfig)
    return {
        FULL: DenseFeatureDenoiser(config),
        "half resolution": _half_resolution(DenseFeatureDenoiser(config)),
        NARROW: DenseFeatureDenoiser(replace(config, head_width=NARROW_WIDTH)),
        "depthwise": _depthwise(DenseFeatureDenoiser(config)),
    }


def head_speed(settings: Settings) -> Case:
    """ct-compact with each form of the last block, in turns."""
    device = settings.device
    image = unit_images(settings.batch).to(device).contiguous(memory_format=torch.channels_last)
    networks = {head: net.eval().to(device, memory_format=torch.channels_last) for head, net in _heads().items()}
    calls = {(head, "as trained"): network for head, network in networks.items()}
    for precision in precisions(device):
        for backend in backends(device):
            for head in (FULL, NARROW):  # the optimised form knows the decoder's own blocks only
                fast = optimized_network(networks[head], precision=precision, backend=backend)
                calls[head, f"{precision}, {backend}"] = fast
    runs = {
        " / ".join(name): lambda network=network: without_gradients(network)(image) for name, network in calls.items()
    }
    for run in runs.values():
        run()
    seconds = interleaved(runs, repeats=settings.repeats, device=device)
    rows: list[Row] = []
    for head, form in calls:
        mine, whole = seconds[f"{head} / {form}"], seconds[f"{FULL} / {form}"]
        rows.append(
            {
                "last block": head,
                "form": form,
                "GFLOP/slice": flops_per_image(networks[head], image[:1]) / 1e9,
                "ms/slice": 1e3 * spread(mine).median / len(image),
                "times as fast": ratio(whole, mine).median,
            }
        )
    note = f"Slices of {IMAGE_SIZE}x{IMAGE_SIZE}, medians of {settings.repeats} rounds, one pass at a time."
    return Case("ct-compact with other last blocks", note, rows)
