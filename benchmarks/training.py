"""One training step: ctclip's against the published one on the same patches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from benchmarks.baseline import published_network
from benchmarks.report import Case, Row
from benchmarks.settings import Settings
from benchmarks.timing import Call, interleaved, ratio, spread

BATCH, PATCH = 8, 128
NOISE = 5 / 255
"""SD of the published training noise on [0, 1]."""

LEARNING_RATE, WEIGHT_DECAY, LARGEST_GRADIENT = 3e-4, 1e-4, 0.01
"""Of the published configuration; no time depends on them."""

PUBLISHED = "published: float32, encoder in train mode, with layer4"


def training_step(settings: Settings) -> Case:
    """Time forward, backward and update."""
    from ctclip import load_network
    from ctclip.devices import has_fast_bf16
    from ctclip.networks import DenoiserConfig, DenseFeatureDenoiser

    device = settings.device
    clean = torch.rand(BATCH, 1, PATCH, PATCH, device=device)
    noisy = clean + NOISE * torch.randn_like(clean)
    steps = {PUBLISHED: _published_step(noisy, clean)}
    for precision in ("fp32", "bf16") if has_fast_bf16(torch.device(device)) else ("fp32",):
        wide = DenseFeatureDenoiser(DenoiserConfig())
        steps[f"ctclip, the paper's widths: {precision}"] = _our_step(wide, noisy, clean, precision)
        steps[f"ctclip, ct-compact: {precision}"] = _our_step(load_network("ct-compact"), noisy, clean, precision)
    for warm_up in steps.values():
        warm_up()
    seconds = interleaved(steps, repeats=settings.repeats, device=device)
    note = (
        f"Batches of {BATCH} patches of {PATCH}x{PATCH}, L1, clipped gradient, AdamW; median of {settings.repeats} "
        "rounds. The published step also goes back through the encoder, to the learned convolution before it. bf16 is "
        "left out on hardware without it."
    )
    rows = [_row(name, values, seconds[PUBLISHED]) for name, values in seconds.items()]
    return Case("Training step", note, rows)


def _published_step(noisy: torch.Tensor, clean: torch.Tensor) -> Call:
    network = published_network().to(noisy.device).train()
    network.encoder.requires_grad_(False)
    optimizer = _adamw(network.parameters(), fused=False)
    return lambda: _update(network, optimizer, noisy, clean, "fp32")


def _our_step(network: nn.Module, noisy: torch.Tensor, clean: torch.Tensor, precision: str) -> Call:
    # The frozen encoder sees an image without a gradient, so autograd keeps nothing of it: as under no_grad.
    network = network.to(noisy.device, memory_format=torch.channels_last).train()
    optimizer = _adamw(network.parameters(), fused=True)
    patches = noisy.contiguous(memory_format=torch.channels_last)
    return lambda: _update(network, optimizer, patches, clean, precision)


def _adamw(parameters: Iterable[nn.Parameter], *, fused: bool) -> torch.optim.AdamW:
    trainable = [each for each in parameters if each.requires_grad]
    # The published code leaves the choice to PyTorch, hence None and not False.
    return torch.optim.AdamW(trainable, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused or None)


def _update(
    network: nn.Module, optimizer: torch.optim.Optimizer, noisy: torch.Tensor, clean: torch.Tensor, precision: str
) -> None:
    from ctclip.inferers import autocast

    optimizer.zero_grad(set_to_none=True)
    with autocast(precision, noisy.device):
        predicted = network(noisy)
    nn.functional.l1_loss(predicted.float(), clean).backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], LARGEST_GRADIENT)
    optimizer.step()


def _row(name: str, seconds: list[float], published: list[float]) -> Row:
    faster = ratio(published, seconds)
    return {
        "step": name,
        "ms/step": 1e3 * spread(seconds).median,
        "times as fast": faster.median,
        "lowest": faster.low,
        "highest": faster.high,
    }
