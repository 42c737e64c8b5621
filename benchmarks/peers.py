"""Other denoisers per slice of 512x512, against ct-compact."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.phantom_slices import noisy_slices_hu, unit_images
from benchmarks.red_cnn import REDCNN
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, NOISE_HU, Settings
from benchmarks.timing import Call, interleaved, ratio, spread
from ctclip.networks import optimized_network

OURS = "ct-compact"
BM3D = "BM3D (package bm3d, on the CPU)"
DNCNN = {"architecture": "DnCNN", "width": 64, "depth": 17, "in_channels": 1}
"""As published for grey images."""


def peers(settings: Settings) -> Case:
    """Time one slice after another."""
    from ctclip import load_network
    from ctclip.networks import PeerDenoiser
    from ctclip.networks.peers import DnCNN

    image = unit_images(1).to(settings.device, memory_format=torch.channels_last)
    slice_hu = noisy_slices_hu(1)[0]
    ours = optimized_network(load_network("ct-compact").to(settings.device), precision="fp32")
    dncnn = PeerDenoiser(DNCNN).eval()
    assert isinstance(dncnn.body, DnCNN)
    dncnn.body.layers = without_batchnorm(dncnn.body.layers)  # as in ct-compact's fast form
    dncnn, red_cnn = (
        network.eval().to(settings.device, memory_format=torch.channels_last) for network in (dncnn, REDCNN())
    )
    candidates = {
        OURS: _pass(ours, image),
        "DnCNN, 17 layers": _pass(dncnn, image),
        "RED-CNN, 10 layers of 96": _pass(red_cnn, image),
        "non-local means (scikit-image, on the CPU)": _filter("nlm", slice_hu),
    }
    if find_spec("bm3d"):
        candidates[BM3D] = _filter("bm3d", slice_hu)
    for warm_up in candidates.values():
        warm_up()
    seconds = interleaved(candidates, repeats=settings.repeats, device=settings.device)
    rows = [_row(name, seconds.get(name), seconds[OURS]) for name in {**candidates, BM3D: None}]
    note = (
        f"One slice of {IMAGE_SIZE}x{IMAGE_SIZE} at a time, median of {settings.repeats} rounds. All networks in "
        "float32, not compiled, channels last, BatchNorm folded into the convolutions; the peers' weights are random."
    )
    return Case("Peers", note, rows)


def without_batchnorm(layers: nn.Sequential) -> nn.Sequential:
    """The same in eval mode, with each BatchNorm in the convolution before it."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _pass(network: nn.Module, image: torch.Tensor) -> Call:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return network(image)

    return run


def _filter(name: str, slice_hu: np.ndarray) -> Call:
    from ctclip.evaluation.baselines import find_filter

    filter_slice = find_filter(name)
    return lambda: filter_slice(slice_hu, NOISE_HU)


def _row(name: str, seconds: list[float] | None, ours: list[float]) -> Row:
    if seconds is None:
        return {"method": name, "ms/slice": "not installed", "times as long": None, "lowest": None, "highest": None}
    longer = ratio(seconds, ours)
    return {
        "method": name,
        "ms/slice": 1e3 * spread(seconds).median,
        "times as long": longer.median,
        "lowest": longer.low,
        "highest": longer.high,
    }
