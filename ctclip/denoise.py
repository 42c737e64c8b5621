"""HU in, HU out: the way in which every command and script denoises CT."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctclip.backend import pixel_settings
from ctclip.devices import find_device, is_out_of_memory
from ctclip.errors import ConfigError, DataError
from ctclip.hu_window import (
    hu_to_unit,
    require_finite,
    require_finite_result,
    require_hu,
    restore_outside_window,
    unit_to_hu,
)
from ctclip.inferers import ConcurrentPasses, predict_stacks
from ctclip.inferers.predict import SliceProgress
from ctclip.inferers.stacks import batched_stacks
from ctclip.networks import Network
from ctclip.prepared import prepare_network
from ctclip.settings import DEFAULT_MODEL, DEFAULT_OVERLAP, is_whole, require_hu_window, require_roi
from ctclip.strength import find_strength
from ctclip.units import MODEL_HU_WINDOW, HUWindow
from ctclip.weights.loading import load_model

logger = logging.getLogger(__name__)

AUTO_BATCH_PIXELS = {"cpu": 512 * 512, "mps": 512 * 512, "cuda": 16 * 512 * 512}
"""Pixels per pass of the network with ``batch_size="auto"``: one 512x512 slice keeps a CPU's caches warm, 16 fill a
GPU."""


class Denoiser:
    """Denoises CT slices in HU with a network.

    It can be copied and pickled, and given to the workers of a DataLoader. In workers that are forked OpenVINO raises a
    ConfigError once it has run in their parent.

    Args:
        network: takes and gives [0, 1]; is copied and stays as it is.
        hu_window: what the network sees as [0, 1].
        model_name: for reports.
        model_sha256: for reports and derived UIDs.
        device: "auto" (CUDA when there is one), "cpu", "cuda", "cuda:N" or "mps".
        precision: "fp32", "bf16", or "auto": bf16 where the device is faster with it. See
            :class:`~ctclip.networks.FastDenoiser` for what it changes.
        batch_size: slices per pass of the network, or "auto".
        roi_size: side of square sliding windows in pixels; ``None`` takes whole slices, which is faster and exact.
        overlap: part of a window shared with the next one.
        backend: "auto", "eager", "compiled" or "openvino", see :func:`~ctclip.backend.find_backend`.

    Raises:
        ConfigError: when a setting is out of range or the device does not exist.
    """

    def __init__(
        self,
        network: Network,
        *,
        hu_window: HUWindow = MODEL_HU_WINDOW,
        model_name: str = "unnamed",
        model_sha256: str = "",
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        roi_size: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        backend: str = "auto",
    ) -> None:
        self.device = find_device(device)
        require_hu_window(hu_window)
        if batch_size != "auto" and (not is_whole(batch_size) or batch_size < 1):
            raise ConfigError(f"batch size must be 'auto' or at least 1, found {batch_size!r}")
        if roi_size is not None:
            require_roi(roi_size)
        if not 0 <= overlap < 1:
            raise ConfigError(f"overlap must be at least 0 and below 1, found {overlap}")
        if network.config.out_channels != 1:
            raise ConfigError(f"a CT model has one output channel, this one has {network.config.out_channels}")
        self.batch_size = batch_size if isinstance(batch_size, str) else int(batch_size)
        self.roi_size, self.overlap = None if roi_size is None else int(roi_size), overlap
        self._largest_batch: int | None = None  # once memory has run out
        self.passes = ConcurrentPasses(self.device)  # first: OpenVINO needs their number
        prepared = prepare_network(network, self.device, precision=precision, backend=backend, passes=self.passes.count)
        self.network, self.precision, self.backend = prepared.module, prepared.precision, prepared.backend
        self.config, self.num_slices = network.config, network.config.in_channels
        self.hu_window, self.model_name, self.model_sha256 = hu_window, model_name, model_sha256

    @classmethod
    def load(
        cls, model: str | Path = DEFAULT_MODEL, *, encoder_weights: str | Path | None = None, **settings: Any
    ) -> Denoiser:
        """A denoiser by name or checkpoint file.

        Args:
            model: a name from ``ctclip weights list``, or a ctclip checkpoint.
            encoder_weights: for checkpoints without an encoder: a CLIP weights file or a fetched tag.
            **settings: the keyword arguments of :class:`Denoiser` from ``device`` on.

        Raises:
            WeightsError: when model or weights are missing, damaged or do not fit.
            ConfigError: when a setting is out of range or the model is no CT model.
        """
        loaded = load_model(model, encoder_weights=encoder_weights)
        if loaded.hu_window is None:
            raise ConfigError(f"{loaded.name} is a model for natural images, not for CT")
        return cls(
            loaded.network,
            hu_window=loaded.hu_window,
            model_name=loaded.name,
            model_sha256=loaded.sha256,
            **settings,
        )

    @property
    def parameters(self) -> str:
        """Every setting that changes pixels beside model and strength, in one canonical line."""
        windows = "none" if self.roi_size is None else f"{self.roi_size} overlap={self.overlap:g}"
        return pixel_settings(self.precision, self.backend, windows)

    def denoise(
        self,
        volume_hu: np.ndarray | torch.Tensor,
        *,
        strength: str | float = 1.0,
        check_hu: bool = True,
        progress: SliceProgress | None = None,
    ) -> np.ndarray | torch.Tensor:
        """Denoise a volume or a slice.

        Values outside the model's window (metal, padding) come back unchanged, as float32, which holds integers exactly
        up to 2^24.

        Args:
            volume_hu: (slices, rows, columns) or (rows, columns) in HU; any size from one pixel up.
            strength: 0 gives the input back, 1 the network's result, between them their blend; or a preset, see
                :func:`~ctclip.strength.find_strength`.
            check_hu: refuse arrays that cannot be HU; ``False`` for a crop that really holds no value below 0 HU.
            progress: called with (slices done, slices in all).

        Returns:
            float32 HU of the same shape; for a tensor a tensor on its device, for MONAI's with its metadata.

        Raises:
            DataError: for the wrong number of dimensions, masked pixels, values that are not finite in float32, also in
                the network's result, or values that cannot be HU.
            ConfigError: for a strength outside 0..1.
        """
        volume = _array_of_hu(volume_hu)
        if volume.ndim not in (2, 3) or volume.size == 0:
            raise DataError(f"expected (slices, rows, columns) or (rows, columns) in HU, found shape {volume.shape}")
        if check_hu:
            require_hu(volume, "; a crop that holds none by nature: check_hu=False")
        else:
            require_finite(volume)
        slices = volume.reshape(-1, *volume.shape[-2:])
        result = np.empty(slices.shape, dtype=np.float32)
        for index, denoised in enumerate(self._denoised_slices(slices, strength)):
            result[index] = denoised
            if progress:
                progress(index + 1, len(slices))
        return _in_the_kind_of(result.reshape(volume.shape), volume_hu)

    def denoise_slices(
        self, slices_hu: Iterable[np.ndarray | torch.Tensor], *, strength: str | float = 1.0
    ) -> Iterator[np.ndarray]:
        """Denoise a stream of neighbouring slices of one size, holding only a few of them in memory.

        Args:
            slices_hu: (rows, columns) each, in HU, in the order of their positions.
            strength: see :meth:`denoise`.

        Yields:
            float32 HU, one slice for each that came in, in the same order.

        Raises:
            DataError: for an empty slice, one of another size than the first, or of another number of dimensions, for
                masked pixels, values that are not finite in float32, and when the network's result is not.
        """
        yield from self._denoised_slices(_of_one_size(slices_hu), strength)

    def _denoised_slices(self, slices_hu: Iterable[np.ndarray], strength: str | float) -> Iterator[np.ndarray]:
        share = find_strength(strength)

        def denoise(batch: Sequence[np.ndarray]) -> np.ndarray:
            return self._blend(torch.from_numpy(np.stack(batch).astype(np.float32, copy=False)), share).numpy()

        for denoised in self.passes.map(denoise, batched_stacks(slices_hu, self.num_slices, self.batch_of)):
            yield from denoised

    def _blend(self, stacks_hu: torch.Tensor, strength: float) -> torch.Tensor:
        """One pass; alone, in smaller batches and then on the CPU when the memory does not suffice."""
        alone = self.passes.count == 1
        try:
            with self.passes.one():
                return self._one_pass(stacks_hu, strength)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, whose traceback would keep the tensors of the failed pass alive.
        if not alone:
            if self.passes.go_on_one_by_one():
                logger.warning("out of memory on %s: going on with one pass at a time", self.device)
            return self._blend(stacks_hu, strength)
        self._need_less_memory(stacks_hu)
        parts, rest = [], stacks_hu
        while len(rest):
            size = self._largest_batch or len(rest)  # may shrink while the parts are being predicted
            parts.append(self._blend(rest[:size], strength))
            rest = rest[size:]
        return torch.cat(parts)

    @torch.inference_mode()
    def _one_pass(self, stacks_hu: torch.Tensor, strength: float) -> torch.Tensor:
        """(N, C, H, W) to (N, H, W) in HU, all of it on the device: a GPU would wait longer for a CPU's arithmetic than
        it takes for the network."""
        stacks = stacks_hu.to(self.device)
        originals = stacks[:, self.num_slices // 2]
        predicted = predict_stacks(
            hu_to_unit(stacks, self.hu_window),
            self.network,
            device=self.device,
            roi_size=self.roi_size,
            overlap=self.overlap,
        )
        require_finite_result(predicted)  # before what is infinite is clipped
        denoised = restore_outside_window(unit_to_hu(predicted[:, 0], self.hu_window), originals, self.hu_window)
        return torch.lerp(originals, denoised, strength).cpu()

    def _need_less_memory(self, stacks: torch.Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(stacks) > 1:
            smaller = len(stacks) // 2
            if smaller < (self._largest_batch or len(stacks)):  # another thread may have been first
                self._largest_batch = smaller
                logger.warning("out of memory on %s: going on with batches of %d slices", self.device, smaller)
        elif self.device.type != "cpu":
            logger.warning("out of memory on %s for a single slice: going on on the CPU, which is slower", self.device)
            self.device = torch.device("cpu")
            self.network = self.network.to(self.device)
        else:
            rows, columns = stacks.shape[-2:]
            raise DataError(f"out of memory: a slice of {rows} x {columns} does not fit; give --roi 256 or less")

    def batch_of(self, shape: tuple[int, ...]) -> int:
        """Slices of (rows, columns) in a pass of the network."""
        wanted = self.batch_size
        if not isinstance(wanted, int):
            wanted = max(1, AUTO_BATCH_PIXELS[self.device.type] // max(1, shape[0] * shape[1]))
        return min(wanted, self._largest_batch or wanted)


def _array_of_hu(given: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(given, torch.Tensor):
        tensor = given.detach().cpu()
        # numpy has no bfloat16
        return _array_of_hu((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if np.ma.is_masked(given):
        raise DataError(
            f"{np.ma.count_masked(given)} pixels are masked; expected HU in all of them: fill them first, for example "
            "with .filled(-1024)"
        )
    array = np.asarray(given)
    if array.dtype.kind not in "iuf":
        raise DataError(f"expected numbers in HU, integers or floating point, found an array of {array.dtype}")
    return array


def _in_the_kind_of(result: np.ndarray, given: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    if not isinstance(given, torch.Tensor):
        return result
    if type(given) is torch.Tensor:
        return torch.from_numpy(result).to(given.device)
    # Imported here because MONAI takes seconds to load; whoever has a tensor of its own kind has done so.
    from monai.utils import convert_to_dst_type

    return convert_to_dst_type(result, given, dtype=torch.float32)[0]


def _of_one_size(slices: Iterable[np.ndarray | torch.Tensor]) -> Iterator[np.ndarray]:
    size: tuple[int, ...] | None = None
    for each in slices:
        array = _array_of_hu(each)
        size = size or array.shape
        if array.ndim != 2 or array.size == 0 or array.shape != size:
            raise DataError(f"expected (rows, columns) of one size, found {array.shape} after {size}")
        require_finite(array)
        yield array
