"""How pixels were processed, and the identifiers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ctclip.dicom.uids import derived_uid
from ctclip.errors import ConfigError
from ctclip.settings import require_hu_window

__all__ = [
    "Denoising",
    "Derivation",
    "NoiseInsertion",
    "derived_instance_uid",
    "derived_series_uid",
]

DENOISED_BY = "Denoised by ctclip"
NOISE_INSERTED_BY = "Noise inserted by ctclip"
"""Starts of DerivationDescription, by which a series is known for one that ctclip has made."""

Code = tuple[str, str, str]
"""Value, coding scheme and meaning."""

SMOOTHING: Code = ("113087", "DCM", "Smoothing")
"""Derivation code: the closest one in CID 7203, which has none for denoising."""


class Derivation(Protocol):
    """How pixels were processed. Equal keys mean equal pixels: they go into the derived UIDs."""

    @property
    def version(self) -> str:
        """Version of ctclip."""

    @property
    def keep_private(self) -> bool:
        """Whether private elements are copied."""

    @property
    def key(self) -> tuple[str, ...]:
        """Canonical texts of everything that changes pixels or headers."""

    @property
    def description(self) -> str:
        """One sentence for DerivationDescription."""

    @property
    def label(self) -> str:
        """End of SeriesDescription."""

    @property
    def code(self) -> Code | None:
        """Item of DerivationCodeSequence, None when no code means this."""

    @property
    def program(self) -> str:
        """ManufacturerModelName of the processing equipment."""


@dataclass(frozen=True)
class Denoising:
    """A :class:`Derivation` by a model.

    Attributes:
        model_name: name of the model.
        model_sha256: SHA-256 of its weights file.
        strength: share of the model's output, 0 to 1.
        hu_window: lowest and highest HU that are processed.
        parameters: canonical text of everything else that changes pixels.
        version: version of ctclip.
        keep_private: whether private elements are copied.
    """

    model_name: str
    model_sha256: str
    strength: float
    hu_window: tuple[float, float]
    parameters: str
    version: str
    keep_private: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}, expected a number from 0 to 1")
        require_hu_window(self.hu_window)

    @property
    def key(self) -> tuple[str, ...]:
        """Canonical texts of all fields: 1 and 1.0 give the same."""
        low, high = self.hu_window
        return (
            self.model_name,
            self.model_sha256,
            repr(float(self.strength)),
            repr((float(low), float(high))),
            self.parameters,
            self.version,
            repr(bool(self.keep_private)),
        )

    @property
    def description(self) -> str:
        """Model, weights, strength and settings."""
        low, high = self.hu_window
        return (
            f"{DENOISED_BY} {self.version}: model {self.model_name}, weights SHA-256 {self.model_sha256}, "
            f"strength {self.strength:g}, HU range {low:g} to {high:g}, {self.parameters}"
        )

    @property
    def label(self) -> str:
        """Program and strength."""
        return f"ctclip {self.strength:g}"

    @property
    def code(self) -> Code:
        """Smoothing."""
        return SMOOTHING

    @property
    def program(self) -> str:
        """Name of the model."""
        return self.model_name


@dataclass(frozen=True)
class NoiseInsertion:
    """A :class:`Derivation` by simulated noise.

    Attributes:
        amount: in words, such as "dose 0.25".
        parameters: canonical text of everything else that changes pixels.
        version: version of ctclip.
        keep_private: whether private elements are copied.
    """

    amount: str
    parameters: str
    version: str
    keep_private: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """Canonical texts of all fields."""
        return ("noise", self.amount, self.parameters, self.version, repr(bool(self.keep_private)))

    @property
    def description(self) -> str:
        """Amount and settings."""
        return f"{NOISE_INSERTED_BY} {self.version}, simulated {self.amount}, {self.parameters}"

    @property
    def label(self) -> str:
        """What was simulated."""
        return f"simulated {self.amount}"

    @property
    def code(self) -> None:
        """CID 7203 has none for simulated noise."""
        return None

    @property
    def program(self) -> str:
        """Name of the method."""
        return "noise simulation"


def made_by(description: str) -> str:
    """What ctclip did last to an image, by its DerivationDescription: one of the two starts, or "".

    Every step is put in front of the earlier ones; another program may have added a text before or behind.
    """
    found = [start for start in (DENOISED_BY, NOISE_INSERTED_BY) if start in description]
    return min(found, key=description.index, default="")


def derived_instance_uid(source_instance_uid: str, derivation: Derivation) -> str:
    """Return the SOPInstanceUID of what a derivation makes of an instance."""
    return derived_uid("instance", source_instance_uid, *derivation.key)


def derived_series_uid(source_series_uid: str, derivation: Derivation) -> str:
    """Return the SeriesInstanceUID for a source series and a derivation: always the same for the same two."""
    return derived_uid("series", source_series_uid, *derivation.key)
