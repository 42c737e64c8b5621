"""Measure speed and memory: ``python -m benchmarks`` writes ``results.json`` and ``results.md``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.report import Case, write_results
from benchmarks.settings import Settings

CASES = {
    "network": "network_speed:full_width",
    "compact": "network_speed:compact",
    "training": "training:training_step",
    "peers": "peers:peers",
    "heads": "decoder_heads:head_speed",
    "startup": "startup:startup",
    "memory": "memory:memory",
    "endtoend": "end_to_end:end_to_end",
}
"""Module and function of each, by name, so that ``--help`` and errors do not wait for torch. In this order: the last
one changes how the process treats memory."""

logger = logging.getLogger("benchmarks")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen cases; the results are written anew after each, so that a failure loses none of them."""
    parser = _parser()
    options = parser.parse_args(arguments)
    settings = Settings(options.repeats, options.slices, options.device)
    if settings.device == "cuda" and not _cuda_is_there():
        parser.error("argument --device: this machine has no CUDA device; try cpu")
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logger.setLevel(logging.INFO)
    from benchmarks.machine import machine_facts

    results: dict[str, Case] = {}
    for name in (each for each in CASES if each in options.cases):
        logger.info("%s", name)
        results[name] = _case(name)(settings)
        write_results(options.output, machine_facts(settings.device), results)
    print(f"results are in {options.output / 'results.md'}")


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed and memory of ctclip, as ratios that are measured inside one run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder for results.json and results.md")
    parser.add_argument("--repeats", type=_count, default=defaults.repeats, help="timed rounds of each comparison")
    parser.add_argument(
        "--slices", type=_count, default=defaults.slices, help="of the series; memory also takes ten times as many"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default=defaults.device, help="where the networks run")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _cuda_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def _case(name: str) -> Callable[[Settings], Case]:
    module, function = CASES[name].split(":")
    return getattr(import_module(f"benchmarks.{module}"), function)


if __name__ == "__main__":
    main()
