"""Other forms of the decoder's last block, which work on the whole image and cost a quarter of the arithmetic.

``python -m benchmarks.compare_recipes --study heads`` trains them, ``python -m benchmarks --cases heads`` times them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import nn

from benchmarks.forms import backends, precisions
from benchmarks.network_speed import without_gradients
from benchmarks.phantom_slices import unit_images
from benchmarks.rates import flops_per_image
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, Settings
from benchmarks.timing import interleaved, ratio, spread
from ctclip.networks import DenseFeatureDenoiser, optimized_network
from ctclip.networks.decoder import NEGATIVE_SLOPE, DecoderBlock, DenseFeatureDecoder
from ctclip.weights import load_network

REPLACED = ("decoder.blocks.4.", "decoder.last.")

NARROW = 16
"""Channels of the narrow block; the shipped one has 32."""


def _as_it_is(decoder: DenseFeatureDecoder) -> None:
    pass


def _narrow(decoder: DenseFeatureDecoder) -> None:
    """Half of the channels at full resolution."""
    decoder.blocks[4] = DecoderBlock(decoder.blocks[4][0].in_channels, NARROW)
    decoder.last = nn.Conv2d(NARROW, decoder.last.out_channels, 3, padding=1, bias=False)


def _depthwise(decoder: DenseFeatureDecoder) -> None:
    """Each 3x3 convolution as one within channels and one of 1x1 between them."""
    joint = decoder.blocks[4][0]
    decoder.blocks[4] = nn.Sequential(
        *_separable(joint.in_channels, joint.out_channels), *_separable(joint.out_channels, joint.out_channels)
    )


def _separable(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    within = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return within, nn.Conv2d(inputs, outputs, 1, bias=False), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


FULL, HALF, DEPTHWISE = "full resolution", "half resolution", "depthwise"

HEADS = {FULL: _as_it_is, HALF: _as_it_is, "narrow": _narrow, DEPTHWISE: _depthwise}
"""What is done to the decoder; that of a half-resolution head comes from its config."""


def with_head(head: str, augmentation_gamma: float = 0.0) -> DenseFeatureDenoiser:
    """ct-compact with a last block of the given form, which has random weights."""
    source = load_network("ct-compact")
    assert isinstance(source, DenseFeatureDenoiser)
    config = replace(source.config, half_resolution_head=head == HALF)
    network = DenseFeatureDenoiser(config, augmentation_gamma=augmentation_gamma)
    state = network.state_dict()
    state |= {name: values for name, values in source.state_dict().items() if not name.startswith(REPLACED)}
    network.load_state_dict(state)
    HEADS[head](network.decoder)
    return network


class TaughtBatch:
    """Prepares batches for a trainer: the target is what ct-compact makes of the noisy image.

    Args:
        device: of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self.teacher = load_network("ct-compact").eval().to(device, memory_format=torch.channels_last)

    def __call__(self, batch: dict, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        image, _ = default_prepare_batch(batch, *args, **kwargs)
        with torch.no_grad():
            return image, self.teacher(image)


def head_speed(settings: Settings) -> Case:
    """ct-compact with each form of the last block, in turns."""
    device = settings.device
    image = unit_images(settings.batch).to(device).contiguous(memory_format=torch.channels_last)
    networks = {head: with_head(head).eval().to(device, memory_format=torch.channels_last) for head in HEADS}
    calls = {(head, "as trained"): network for head, network in networks.items()}
    for precision in precisions(device):
        for backend in backends(device):
            for head, network in networks.items():
                if head != DEPTHWISE:  # the optimised form knows the decoder's own blocks only
                    calls[head, f"{precision}, {backend}"] = optimized_network(
                        network, precision=precision, backend=backend
                    )
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
