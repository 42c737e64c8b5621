"""Random noise for training: what all kinds have in common, and the dictionary version of each of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends

from ctclip.settings import is_number

Range = tuple[float, float]

MAX_SEED = 2**31 - 1


def require_range(
    name: str, ends: object, *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> None:
    """Refuse what is no range of finite numbers.

    Args:
        name: of the parameter.
        ends: lower and upper end.
        least: what the lower end must be at least.
        most: what the upper end must be at most.
        above: what the lower end must be above.

    Raises:
        ValueError: with what was expected.
    """
    numbers = _numbers(ends)
    if numbers and above < numbers[0] and least <= numbers[0] <= numbers[1] <= most:
        return
    lower = f"{above:g} < lower" if above > -math.inf else f"{least:g} <= lower" if least > -math.inf else "lower"
    upper = f"upper <= {most:g}" if most < math.inf else "upper"
    found = tuple(ends) if isinstance(ends, list) else ends
    raise ValueError(f"{name} needs {lower} <= {upper}, found {found!r}")


def require_probability(prob: object) -> None:
    """Refuse what is no probability; MONAI's transforms take 2 for 1.

    Raises:
        ValueError: with what was found.
    """
    if not is_number(prob) or not 0 <= prob <= 1:
        raise ValueError(f"prob must be a number from 0 to 1, found {prob!r}")


def _numbers(ends: Any) -> tuple[float, float] | None:
    """Both ends, from any pair of finite numbers, such as an array; ``None`` for what is none."""
    try:
        low, high = ends
        if isinstance(low, str) or isinstance(high, str):
            return None
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


class RandNoise(RandomizableTransform):
    """Base of all noise: draws its parameters on the CPU, and the noise itself on the device of the image.

    The parameters and the seed of the noise come from MONAI's random state, so that the same state gives the same
    noise. ``set_random_state`` sets it; ``set_determinism`` does so only in a ``Compose`` that is made after it.

    Args:
        prob: probability that noise is added at all.
        ranges: lower and upper end of each parameter, drawn uniformly.

    Raises:
        ValueError: when a range is empty, or no range of finite numbers, and for what is no probability.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, prob: float, **ranges: Range) -> None:
        require_probability(prob)
        super().__init__(prob)
        for name, ends in ranges.items():
            require_range(name, ends)
        self.ranges = ranges
        self._drawn: dict[str, float] = {}
        self._seed = 0

    @abstractmethod
    def noisy(self, image: torch.Tensor, generator: torch.Generator, **parameters: float) -> torch.Tensor:
        """Noisy copy of a float32 image (C, H, W); every random number comes from ``generator``."""

    def randomize(self, data: object = None) -> None:
        """Draw whether to add noise, its parameters and its seed."""
        super().randomize(None)
        if self._do_transform:
            self._drawn = {name: self.R.uniform(low, high) for name, (low, high) in self.ranges.items()}
            self._seed = self.R.randint(MAX_SEED)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> torch.Tensor:
        """Noisy float32 copy of a (C, H, W) image, on its device."""
        image: torch.Tensor = convert_to_tensor(img, track_meta=True, dtype=torch.float32)
        if randomize:
            self.randomize()
        if not self._do_transform:
            return image
        return self.noisy(image, torch.Generator(image.device).manual_seed(self._seed), **self._drawn)


class RandNoised(MapTransform, Randomizable):
    """Dictionary version of any noise; each key gets noise of its own.

    A mixture is a MONAI ``Compose`` of several kinds, a choice between them its ``OneOf``.

    Args:
        keys: images to make noisy.
        noise: a :class:`RandNoise`, or another random array transform.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, noise: Randomizable, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.noise = noise

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandNoised:
        super().set_random_state(seed, state)
        self.noise.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        noisy = dict(data)
        for key in self.key_iterator(noisy):
            noisy[key] = self.noise(noisy[key])  # type: ignore[operator]  # a Randomizable that is a transform
        return noisy


def require_image(transform: object, image: NdarrayOrTensor) -> None:
    """Refuse volumes, whose last two axes are no rows and columns of a slice.

    Raises:
        ValueError: with the shape.
    """
    if image.ndim != 3:
        raise ValueError(f"{type(transform).__name__} needs an image (C, H, W), found shape {tuple(image.shape)}")


def normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """White Gaussian noise of SD 1 with the shape and device of ``like``."""
    return torch.randn(like.shape, generator=generator, device=like.device)
