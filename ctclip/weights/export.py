"""The bare network in formats that run without ctclip: torch.export and ONNX."""

from __future__ import annotations

from pathlib import Path

import torch

from ctclip.atomic import atomic_path
from ctclip.errors import ConfigError
from ctclip.networks import Network
from ctclip.settings import PAD_MULTIPLE

EXPORT_SUFFIXES = (".pt2", ".onnx")

LARGEST_SIDE = 2048
"""Upper end of the sides for which an exported program is valid."""


def exported_program(network: Network) -> torch.export.ExportedProgram:
    """The network as a program with any batch size and any sides that are multiples of 32.

    Padding to such sides is left to the caller: an exported program has one shape of control flow.

    Args:
        network: (B, C, H, W) in [0, 1] to (B, C', H, W).
    """
    example = torch.zeros(2, network.config.in_channels, 2 * PAD_MULTIPLE, 3 * PAD_MULTIPLE)
    most = LARGEST_SIDE // PAD_MULTIPLE
    rows, columns = torch.export.Dim("rows32", min=1, max=most), torch.export.Dim("columns32", min=1, max=most)
    shapes = ({0: torch.export.Dim("batch"), 2: PAD_MULTIPLE * rows, 3: PAD_MULTIPLE * columns},)
    with torch.no_grad():
        return torch.export.export(network.eval(), (example,), dynamic_shapes=shapes, strict=False)


def export_network(network: Network, path: Path) -> None:
    """Write the network as ``.pt2`` (torch.export) or ``.onnx``; input "image" and output "pred" are in [0, 1].

    Raises:
        ConfigError: for another extension, or when ``.onnx`` needs packages that are not installed.
    """
    if path.suffix not in EXPORT_SUFFIXES:
        raise ConfigError(f"cannot export to {path.name}: expected {' or '.join(EXPORT_SUFFIXES)}")
    program = exported_program(network)
    with atomic_path(path) as partial:
        if path.suffix == ".pt2":
            torch.export.save(program, partial)
            return
        try:
            onnx = torch.onnx.export(program, input_names=["image"], output_names=["pred"], dynamo=True, verbose=False)
        except ImportError as error:
            raise ConfigError("ONNX needs more packages: pip install 'ctclip[onnx]'") from error
        onnx.save(partial)  # type: ignore[union-attr]  # a program, because no file name was given
