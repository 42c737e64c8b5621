"""What is judged: a model, a classical filter, or the results of another tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.data.predictions import Predictions
from ctclip.denoise import Denoiser
from ctclip.errors import ConfigError, DataError, SeriesError
from ctclip.evaluation.baselines import FILTERS, NEED_NO_NOISE, find_filter, noise_of_volume_hu
from ctclip.hu_window import require_finite_result
from ctclip.inferers.predict import SliceProgress
from ctclip.strength import find_strength
from ctclip.weights import encoder_weights_of, model_labels

DenoiseVolume = Callable[[np.ndarray], np.ndarray]
"""(slices, rows, columns) in HU to the same shape."""


@dataclass(frozen=True)
class Method:
    """Something that turns low-dose into denoised volumes.

    Args:
        name: in tables and plots.
        description: what it is, with its settings.
        denoise: what it does to a volume, or ``None`` when its results are read from ``predictions``.
        sha256: of a model.
        predictions: results of another tool.
        reports_slices: whether ``denoise`` takes a second argument, a callback (slices done, slices in all) or
            ``None``.
    """

    name: str
    description: str
    denoise: Callable[..., np.ndarray] | None = None
    sha256: str = ""
    predictions: Predictions | None = None
    reports_slices: bool = False

    def apply(self, volume_hu: np.ndarray, progress: SliceProgress | None = None) -> np.ndarray:
        """What ``denoise`` makes of a volume in HU.

        Args:
            volume_hu: (slices, rows, columns).
            progress: called with the slices done and their number, if the method reports them.

        Raises:
            DataError: when that is no volume of the same shape, or holds values that are not finite.
        """
        assert self.denoise is not None
        denoised_hu = np.asarray(self.denoise(volume_hu, progress) if self.reports_slices else self.denoise(volume_hu))
        if denoised_hu.shape != volume_hu.shape:
            raise DataError(
                f"the result has shape {denoised_hu.shape}, expected that of the volume, {volume_hu.shape}; check the "
                "method"
            )
        require_finite_result(denoised_hu)
        return denoised_hu


def baseline(name: str) -> Method:
    """A classical filter, or "identity", which does nothing.

    Raises:
        ConfigError: for an unknown name, or a package that is not installed.
    """
    filter_slice = find_filter(name)

    def denoise(volume_hu: np.ndarray, progress: SliceProgress | None = None) -> np.ndarray:
        noise_hu = 0.0 if name in NEED_NO_NOISE else noise_of_volume_hu(volume_hu)
        filtered = np.empty_like(volume_hu, dtype=np.float32)
        for index, slice_hu in enumerate(volume_hu):
            filtered[index] = filter_slice(slice_hu, noise_hu)
            if progress:
                progress(index + 1, len(volume_hu))
        return filtered

    return Method(name, FILTERS[name][1], denoise, reports_slices=True)


def model(name_or_file: str, *, name: str = "", strength: float = 1.0, **settings: Any) -> Method:
    """A network of ctclip.

    Args:
        name_or_file: as for :meth:`ctclip.Denoiser.load`.
        name: in tables and plots; that of the model or its file when empty.
        strength: 0 gives the input back, 1 the full effect; see :func:`ctclip.strength.find_strength`.
        **settings: further arguments of :meth:`ctclip.Denoiser.load`.

    Raises:
        WeightsError: when the model is missing, damaged or does not fit.
        ConfigError: when a setting is out of range.
    """
    strength = find_strength(strength)
    denoiser = Denoiser.load(name_or_file, **settings)

    def denoise(volume_hu: np.ndarray, progress: SliceProgress | None = None) -> np.ndarray:
        return np.asarray(denoiser.denoise(volume_hu, strength=strength, check_hu=False, progress=progress))

    name = name or denoiser.model_name
    label = name if strength == 1 else f"{name} strength {strength:g}"
    description = f"{denoiser.config.encoder_name}; strength {strength:g}; {denoiser.parameters}"
    return Method(label, description, denoise, denoiser.model_sha256, reports_slices=True)


def prediction_of(folder: Path) -> Method:
    """The results of another tool, found by position (DICOM) or file name (volumes).

    Raises:
        ConfigError: when the folder does not exist.
        DataError: when it is empty, or holds the same slices twice.
    """
    if not folder.is_dir():
        raise ConfigError(f"--prediction {folder}: no such folder")
    try:
        predictions = Predictions(folder)
    except SeriesError as error:
        raise DataError(
            f"--prediction {folder}: the folder is empty; expected the DICOM series or volumes of another tool"
        ) from error
    return Method("prediction", "results of another tool", predictions=predictions)


def methods_of(
    *,
    models: Sequence[str],
    strengths: Sequence[float],
    baselines: Sequence[str],
    prediction: Path | None,
    encoder_weights: str | None = None,
    **settings: Any,
) -> list[Method]:
    """All methods of an evaluation: the identity, filters, models at every strength, results of another tool.

    Args:
        models: names or checkpoint files; ["none"] for no model.
        strengths: 0 to 1.
        baselines: names of filters.
        prediction: folder with the results of another tool.
        encoder_weights: for those of the models that hold no encoder.
        **settings: further arguments of :meth:`ctclip.Denoiser.load`.

    Raises:
        ConfigError: for unknown names, a strength out of range or twice, two methods of one name, or encoder weights
            that no model needs.
        WeightsError: when a model is missing, damaged or does not fit.
    """
    if list(models) != ["none"] and len(set(strengths)) < len(strengths):
        raise ConfigError(f"--strength: found {', '.join(f'{each:g}' for each in strengths)}, expected each once")
    names = ["identity", *(name for name in baselines if name != "identity")]
    found = [baseline(name) for name in names]
    if list(models) != ["none"]:
        found += [
            model(each, name=name, strength=strength, encoder_weights=weights, **settings)
            for each, name, weights in zip(
                models, model_labels(models), encoder_weights_of(models, encoder_weights), strict=True
            )
            for strength in strengths
        ]
    if prediction is not None:
        found.append(prediction_of(prediction))
    require_distinct(found)
    return found


def require_distinct(methods: Sequence[Method]) -> None:
    """Refuse two methods of one name.

    Raises:
        ConfigError: with the name.
    """
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two methods are called {name!r}: rename one checkpoint file or leave one out")
