"""What ``ctclip denoise`` is asked for, whatever its input is, and the model that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ctclip.cli.imports import without_collecting
from ctclip.settings import COMPILED

if TYPE_CHECKING:
    from ctclip.denoise import Denoiser
    from ctclip.pipeline import DenoiserSpec


@dataclass(frozen=True, kw_only=True)
class Request:
    """What scans, volumes and photographs have in common.

    Args:
        console: for what is said.
        source: the input.
        target: where the results go.
        strength: 0 to 1.
        dry_run: only say what would be done.
        overwrite: replace earlier results.
        report: the JSON report; ``None`` for none.
    """

    console: Console
    source: Path
    target: Path
    strength: float
    dry_run: bool = False
    overwrite: bool = False
    report: Path | None = None


def load_denoiser(console: Console, spec: DenoiserSpec, *, on_ray: bool = False) -> Denoiser:
    """The model that is asked for, which is said, and how it runs unless the workers of a cluster run it."""
    with without_collecting():  # PyTorch and OpenVINO
        denoiser = spec.load()
    name = denoiser.config.encoder_name
    how = f"{denoiser.device}, {denoiser.precision}, {denoiser.backend}"
    if denoiser.backend == COMPILED:
        how += " (the first slice takes some ten seconds)"
    # The workers of a cluster have devices of their own, which the report names.
    console.print(f"Model {denoiser.model_name} ({name}), {'Ray' if on_ray else how}")
    return denoiser
