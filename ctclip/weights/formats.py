"""Reading tensors from the files that people have, without executing pickled code."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ctclip.errors import WeightsError

STATE_KEYS = ("state_dict", "model", "params")
"""Where files hold a state dict: open_clip and Lightning, ctclip, and the code published with the paper."""


VISUAL_PREFIX, PARALLEL_PREFIX = "visual.", "module."
"""Of the image tower in a whole CLIP model, and of what was trained on several GPUs."""

ENCODER_ONLY = "an encoder only; give it with --encoder-weights"

NO_DENOISER = "no denoiser is read in that format; if it holds the encoder of one, give it with --encoder-weights"
"""Of formats whose files may hold CLIP, but any other network as well."""


def without_prefix(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The same without a prefix that all names have."""
    if not all(name.startswith(prefix) for name in state):
        return dict(state)
    return {name.removeprefix(prefix): values for name, values in state.items()}


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """All tensors of a weights file by name, on the CPU, and the format it was found in.

    Understands safetensors, TorchScript archives (OpenAI's ``RN50.pt``) and PyTorch files with tensors and plain
    values. The content decides, not the name. A state dict may lie under ``state_dict``, or as in checkpoints of ctclip
    and those published with the paper.

    Raises:
        WeightsError: when the file is missing, unreadable, or holds something other than tensors.
    """
    _require_file(path)
    if _is_safetensors(path):
        return _read_safetensors(path), "safetensors"
    if _is_torchscript(path):
        return _read_torchscript(path), "TorchScript archive"
    content = read_checkpoint_dict(path)
    for key in STATE_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {
        name: values for name, values in content.items() if isinstance(name, str) and isinstance(values, torch.Tensor)
    }
    if not state:
        raise WeightsError(f"{path.name} holds no tensors at its top level, found keys {sorted(map(str, content))[:5]}")
    return state, "PyTorch state dict"


def read_checkpoint_dict(path: Path) -> dict[str, Any]:
    """The mapping in a PyTorch file, read with ``weights_only`` so that no code in it can run.

    Raises:
        WeightsError: when the file is missing, damaged, holds code, holds no mapping, or is of a format in which no
            denoiser is read.
    """
    _require_file(path)
    if _is_safetensors(path):
        raise WeightsError(f"{path.name} is a safetensors file: {NO_DENOISER}")
    if _is_torchscript(path):
        raise WeightsError(f"{path.name} is a TorchScript archive, such as OpenAI's CLIP: {NO_DENOISER}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise WeightsError(
            f"{path.name} cannot be read as a PyTorch checkpoint: it is damaged, of another kind, "
            f"or holds code, which is "
            f"never executed ({type(error).__name__})"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path.name} holds a {type(content).__name__}, expected a mapping of tensors")
    return dict(content)


def require_no_encoder(content: Mapping[Any, Any], source: str) -> None:
    """Say it where CLIP is given in place of a denoiser.

    Raises:
        WeightsError: when entries, or those of a state dict among them, have the names of CLIP's image tower.
    """
    names = [*content, *(name for key in STATE_KEYS if isinstance(content.get(key), Mapping) for name in content[key])]
    if any(str(name).removeprefix(PARALLEL_PREFIX).startswith(VISUAL_PREFIX) for name in names):
        raise WeightsError(f"{source} holds CLIP (visual.*): {ENCODER_ONLY}")


def is_state_dict(values: Any) -> TypeGuard[Mapping[str, torch.Tensor]]:
    """Whether these are tensors by name, and nothing else."""
    return isinstance(values, Mapping) and all(
        isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in values.items()
    )


def require_finite_weights(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights with which every result is NaN or infinite, as a training that diverged leaves them.

    Raises:
        WeightsError: with the first entry that holds such values.
    """
    for name, values in state.items():
        if not torch.isfinite(values).all():
            raise WeightsError(
                f"{source} holds values that are not finite, in {name}; expected finite weights. Take the file of a "
                "training that did not diverge, or get it again"
            )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")


def _is_safetensors(path: Path) -> bool:
    """Whether the file starts as safetensors do: an 8-byte length, then a JSON header."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _is_torchscript(path: Path) -> bool:
    """Whether the file is a zip archive with TorchScript's ``constants.pkl``; plain checkpoints have none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise WeightsError(f"{path.name} looks like safetensors but cannot be read ({type(error).__name__})") from error


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    # The path, not a handle: torch.jit.load consumes a handle even when it fails.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that torch.jit is deprecated; OpenAI's file is of its kind
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    except Exception as error:
        raise WeightsError(f"{path.name} looks like TorchScript but cannot be read ({type(error).__name__})") from error
