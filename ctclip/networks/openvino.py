"""The layers of a :class:`~ctclip.networks.FastDenoiser` on OpenVINO: about twice as fast as PyTorch's on a CPU."""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ctclip.errors import ConfigError

if TYPE_CHECKING:
    import openvino

KEPT_SHAPES = 4
"""Compiled networks kept. Compiling for a shape takes a tenth of a second, running one for all shapes a fifth more."""

TRACING = threading.Lock()
"""Two traces at the same time would record each other's operations."""

_ran_in: set[int] = set()
"""The process in which OpenVINO has begun to run; its threads are not in processes that are forked from that one."""


class OpenVINOLayers(nn.Module):
    """Computes what ``layers`` compute, (B, C1, H1, W1) and (B, C2, H2, W2) to a float32 tensor, on the CPU.

    Threads may call it side by side: as many as ``passes`` do not wait for each other. It can be copied and pickled; a
    copy compiles anew.

    Args:
        layers: takes and gives channels-last tensors of one type, float32 or bfloat16; is traced and not kept.
        examples: inputs of any size to trace with.
        passes: calls at the same time.

    Raises:
        ConfigError: in a process that was forked after OpenVINO had run.
    """

    def __init__(self, layers: nn.Module, examples: tuple[torch.Tensor, torch.Tensor], *, passes: int = 1) -> None:
        super().__init__()
        _require_own_threads()
        self.dtype = examples[0].dtype
        self._model = _convert(layers, examples)
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": passes,
            # Two processes beside each other would be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
        }
        self._start()

    def _start(self) -> None:
        import openvino

        self._core = openvino.Core()
        self._compiled: OrderedDict[tuple[torch.Size, ...], _Compiled] = OrderedDict()
        self._compiling = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_core", "_compiled", "_compiling"):
            del state[name]
        return {**state, "_model": _as_bytes(self._model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()
        self._model = self._core.read_model(*state["_model"])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """See the class.

        Raises:
            ConfigError: in a process that was forked after OpenVINO had run.
        """
        _require_own_threads()
        _ran_in.add(os.getpid())
        return self._compiled_for(tuple(each.shape for each in inputs))(inputs)

    def _compiled_for(self, shapes: tuple[torch.Size, ...]) -> _Compiled:
        with self._compiling:
            if shapes not in self._compiled:
                model = self._model.clone()
                model.reshape({number: list(shape) for number, shape in enumerate(shapes)})
                model = _with_channels_last(model, len(shapes), self.dtype)
                self._compiled[shapes] = _Compiled(self._core.compile_model(model, "CPU", self._settings))
                while len(self._compiled) > KEPT_SHAPES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(shapes)
            return self._compiled[shapes]


class _Compiled:
    """A network for one shape, with a request for each thread that has been in it at the same time as others."""

    def __init__(self, network: openvino.CompiledModel) -> None:
        self.network = network
        self._idle: list[Any] = []

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        try:  # not "if self._idle": another thread may take the last one in between
            request = self._idle.pop()
        except IndexError:
            request = self.network.create_infer_request()
        tensors = [_shared_tensor(each) for each in inputs]  # the request does not keep their memory alive
        for number, each in enumerate(tensors):
            request.set_input_tensor(number, each)
        request.infer()
        result = torch.from_numpy(np.array(request.get_output_tensor().data))
        self._idle.append(request)
        return result


def _require_own_threads() -> None:
    if _ran_in and os.getpid() not in _ran_in:  # OpenVINO would wait for threads that are not there, for ever
        raise ConfigError(
            "OpenVINO cannot run in a process that was forked after it has run: start workers with 'spawn' in place of "
            "'fork', or take backend 'eager'"
        )


def _as_bytes(model: openvino.Model) -> tuple[bytes, bytes]:
    """What ``openvino.Core.read_model`` takes: structure and weights."""
    import openvino

    with TemporaryDirectory() as folder:
        files = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, *files)
        structure, weights = (file.read_bytes() for file in files)
    return structure, weights


def _convert(layers: nn.Module, examples: tuple[torch.Tensor, ...]) -> openvino.Model:
    """An OpenVINO model of float32 tensors. ``openvino.convert_model`` does the same, but reports its use to Intel."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    exact = copy.deepcopy(layers).float()
    with TRACING, torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # OpenVINO's frontend traces with torch.jit, which is deprecated
        # A trace that is checked runs twice more and imports a second's worth of PyTorch to compare; tests compare too.
        traced = torch.jit.trace(exact, tuple(each.float() for each in examples), check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _with_channels_last(model: openvino.Model, inputs: int, dtype: torch.dtype) -> openvino.Model:
    import openvino
    from openvino.preprocess import PrePostProcessor

    given = PrePostProcessor(model)
    for number in range(inputs):
        given.input(number).model().set_layout(openvino.Layout("NCHW"))
        tensor = given.input(number).tensor().set_layout(openvino.Layout("NHWC"))
        tensor.set_element_type(openvino.Type.bf16 if dtype == torch.bfloat16 else openvino.Type.f32)
    return given.build()


def _shared_tensor(values: torch.Tensor) -> openvino.Tensor:
    """The same memory, seen by OpenVINO; a copy only when it is not channels last."""
    import openvino

    rows = values.permute(0, 2, 3, 1).contiguous()
    if values.dtype == torch.bfloat16:  # which NumPy does not know
        return openvino.Tensor(rows.view(torch.int16).numpy(), openvino.Shape(list(rows.shape)), openvino.Type.bf16)
    return openvino.Tensor(rows.numpy(), shared_memory=True)
