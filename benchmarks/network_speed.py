"""The network: each of ctclip's forms against the published one, per slice of 512x512."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.baseline import ours_with_weights_of, published_network
from benchmarks.forms import backends
from benchmarks.phantom_slices import unit_images
from benchmarks.rates import MATRIX_SIDE, flops_per_image, matrix_flops, matrix_product
from benchmarks.report import Case, Row
from benchmarks.settings import IMAGE_SIZE, Settings
from benchmarks.timing import interleaved, ratio, seconds_of, spread
from ctclip.inferers import ConcurrentPasses
from ctclip.networks import optimized_network

PRECISIONS = ("fp32", "bf16")

PASSES_IN_TURN = {"cpu": 1, "cuda": 8}
"""Of one measurement: a single one on a GPU is too short to time."""

PUBLISHED = "published: float32, eager, slice by slice"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """One way to compute a network.

    Args:
        run: a pass over ``slices`` slices.
        slices: per pass.
        precision: of its convolutions, "fp32", "tf32" or "bf16".
        flops: per slice.
        first_call_s: seconds of the first passes, which compile.
        change: RMS difference from the same weights in float32, unoptimised, over its SD; ``None`` where there is
            nothing to compare with.
    """

    run: Callable[[], torch.Tensor]
    slices: int
    precision: str
    flops: int
    first_call_s: float
    change: float | None


def full_width(settings: Settings) -> Case:
    """The network of the paper, the same weights in all forms."""
    published = published_network()
    return _compare("Network of the paper (RN50, decoder 64)", ours_with_weights_of(published), settings)


def compact(settings: Settings) -> Case:
    """The network that ctclip ships."""
    from ctclip import load_network

    return _compare("ct-compact", load_network("ct-compact"), settings)


def _compare(title: str, network: nn.Module, settings: Settings) -> Case:
    device = settings.device
    published, network = published_network().to(device), network.to(device)
    passes = ConcurrentPasses(torch.device(device))
    images = unit_images(settings.batch * passes.count * PASSES_IN_TURN[device]).to(device)

    def side_by_side(fast: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        run = without_gradients(fast)

        def one_pass(images: torch.Tensor) -> torch.Tensor:
            with passes.one():
                return run(images)

        return lambda images: torch.cat([*passes.map(one_pass, images.split(settings.batch))])

    with torch.inference_mode():
        expected = network(images[:1])
    float32 = _float32_of(device)
    published_flops = flops_per_image(published, images[:1])
    forms = {PUBLISHED: _form(published, images[:1], float32, published_flops)}
    if settings.batch > 1:
        forms[f"published, {settings.batch} slices per pass"] = _form(
            published, images[: settings.batch], float32, published_flops
        )
    flops = flops_per_image(optimized_network(network, precision="fp32"), images[:1])
    for precision in PRECISIONS:
        for backend in backends(settings.device):
            fast = optimized_network(network, precision=precision, backend=backend, passes=passes.count)
            forms[f"ctclip: {precision}, {backend}"] = _form(side_by_side(fast), images, precision, flops, expected)
    return Case(title, _note(settings), _rows(forms, settings))


def _float32_of(device: str) -> str:
    """What PyTorch makes of float32 in the convolutions of a program that leaves its settings alone."""
    return "tf32" if device == "cuda" else "fp32"


def _form(
    network: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    precision: str,
    flops: int,
    expected: torch.Tensor | None = None,
) -> Form:
    """Run a network for the first time and keep how to run it again.

    Args:
        network: takes ``images``.
        images: (slices, 1, 512, 512) on the network's device.
        precision: "fp32", "tf32" or "bf16".
        flops: per slice.
        expected: the result for the first image, or ``None`` where nothing else has the same weights.
    """
    results: list[torch.Tensor] = []

    def run() -> torch.Tensor:
        return without_gradients(network)(images)

    logger.info("  first call in %s", precision)
    first_call_s = seconds_of(lambda: results.append(run()), device=images.device.type)
    change = None if expected is None else _relative_difference(results[0][:1], expected)
    return Form(run, len(images), precision, flops, first_call_s, change)


def without_gradients(network: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network in inference mode, which every thread has to enter by itself."""
    return torch.inference_mode()(network)


def _relative_difference(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result - expected).square().mean().sqrt() / expected.std())


def _rows(forms: dict[str, Form], settings: Settings) -> list[Row]:
    precisions = sorted({form.precision for form in forms.values()})
    products = {f"matrix product in {name}": matrix_product(name, settings.device) for name in precisions}
    for warm_up in products.values():
        warm_up()
    passes = interleaved(
        {name: form.run for name, form in forms.items()} | products, repeats=settings.repeats, device=settings.device
    )
    rates = {
        precision: matrix_flops(settings.device) / min(passes.pop(product))
        for precision, product in zip(precisions, products, strict=True)
    }
    per_slice = {name: [value / forms[name].slices for value in seconds] for name, seconds in passes.items()}
    rows: list[Row] = []
    for name, form in forms.items():
        seconds, faster = spread(per_slice[name]).median, ratio(per_slice[PUBLISHED], per_slice[name])
        rate = rates[form.precision]
        rows.append(
            {
                "form": name,
                "ms/slice": 1e3 * seconds,
                "times as fast": faster.median,
                "lowest": faster.low,
                "highest": faster.high,
                "GFLOP/slice": form.flops / 1e9,
                "GFLOP/s": form.flops / seconds / 1e9,
                "matrix product GFLOP/s": rate / 1e9,
                "share of it %": 100 * form.flops / seconds / rate,
                "first call s": form.first_call_s,
                "change of result %": None if form.change is None else 100 * form.change,
            }
        )
    return rows


def _note(settings: Settings) -> str:
    return (
        f"Slices of {IMAGE_SIZE}x{IMAGE_SIZE}, {settings.batch} per pass in ctclip's forms, and on a CPU a pass on "
        f"each core at the same time. Medians of {settings.repeats} rounds; lowest and highest are of the rounds' "
        f"ratios. The matrix product, of square matrices with {MATRIX_SIDE[settings.device]} rows, is the best of all "
        "rounds. The first call compiles, unless the compiler finds its earlier work on the disk. The change of the "
        "result is the RMS difference from the same weights in float32 without any optimisation, as a share of the "
        "result's SD."
    )
