"""From a network to what runs it on a device: precision, backend and its fastest form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ctclip.backend import find_backend
from ctclip.devices import find_precision, one_line_faults
from ctclip.networks import Network, has_fast_form, optimized_network


@dataclass(frozen=True)
class PreparedNetwork:
    """A network that is ready to run on a device.

    Args:
        module: its form for inference.
        precision: "fp32" or "bf16".
        backend: "eager", "compiled" or "openvino".
    """

    module: nn.Module
    precision: str
    backend: str


def prepare_network(
    network: Network, device: torch.device, *, precision: str, backend: str, passes: int = 1
) -> PreparedNetwork:
    """A copy of a network in its fastest form on a device; what the device cannot do is one line.

    Args:
        network: stays as it is.
        device: where the copy runs.
        precision: "auto", "fp32" or "bf16".
        backend: as for :func:`~ctclip.backend.find_backend`.
        passes: of the network at the same time, in threads.

    Raises:
        ConfigError: for an unknown choice, or one that this machine does not have.
    """
    precision = find_precision(precision, device)
    backend = find_backend(backend, device, precision, convertible=has_fast_form(network))
    with one_line_faults(device):
        module = optimized_network(network, precision=precision, backend=backend, passes=passes, device=device)
    return PreparedNetwork(module, precision, backend)
