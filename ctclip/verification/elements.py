"""Elements of the header: what a derived slice has from its source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from ctclip.dicom import CTSlice, NoiseInsertion, derive_slice
from ctclip.dicom.derived import OF_THE_DERIVATION
from ctclip.dicom.lenient import int_of, quiet_pydicom, text_of, texts_of
from ctclip.verification.checks import Check, Every, Finding, Pair, broken_slices, of_both

__all__ = ["COPIED", "checks_of_elements"]

COPIED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "FrameOfReferenceUID",
    "PatientPosition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "GantryDetectorTilt",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "InstanceNumber",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "BurnedInAnnotation",
    "PatientIdentityRemoved",
)
"""Elements that a derived slice has from its source, unchanged or equally missing; each is a rule of its own, not
left to the code that derives."""

WITH_RULES = frozenset(map(Tag, ("PixelData", *COPIED, *OF_THE_DERIVATION)))
"""Elements that are left to rules of their own. StudyInstanceUID and LossyImageCompression, whose rules say less, are
compared as the others are as well."""

MOST_NAMES = 5
"""Of elements in one message."""


def checks_of_elements() -> list[Check]:
    """All rules about elements that a source is needed for."""
    return [
        *(Every(f"{name} is that of the source", of_both(_copies(name))) for name in COPIED),
        _OtherElements(),
        Every("StudyInstanceUID is that of the source, where it has one", of_both(_keeps_study)),
        Every("SeriesNumber is not that of the source", of_both(_has_new_number)),
        Every("LossyImageCompression does not go back from 01", of_both(_keeps_lossy)),
    ]


def _copies(keyword: str) -> Callable[[CTSlice, CTSlice], bool]:
    return lambda derived, source: texts_of(derived.header, keyword) == texts_of(source.header, keyword)


def _keeps_study(derived: CTSlice, source: CTSlice) -> bool:
    study = text_of(source.header, "StudyInstanceUID")
    return not study or text_of(derived.header, "StudyInstanceUID") == study


def _has_new_number(derived: CTSlice, source: CTSlice) -> bool:
    number = int_of(source.header, "SeriesNumber")
    return number is None or int_of(derived.header, "SeriesNumber") != number


def _keeps_lossy(derived: CTSlice, source: CTSlice) -> bool:
    was_lossy = source.lossy or text_of(source.header, "LossyImageCompression") == "01"
    return not was_lossy or text_of(derived.header, "LossyImageCompression") == "01"


class _OtherElements:
    """All other elements, compared with what ctclip derives from the source."""

    def __init__(self) -> None:
        self._broken, self._first = 0, ""
        self._names: dict[str, None] = {}

    def add(self, pair: Pair) -> None:
        if pair.source is None:
            return
        with quiet_pydicom():
            tags = _different(pair.derived.header, _expected(pair.derived, pair.source))
        if tags:
            self._names.update(dict.fromkeys(keyword_for_tag(tag) or str(tag) for tag in tags))
            self._first = self._first or pair.name
            self._broken += 1

    def finding(self) -> Finding:
        rule = "every other element is that of the source, or what ctclip makes of it"
        names = list(self._names)
        shown = names[:MOST_NAMES] + [f"{len(names) - MOST_NAMES} more"] * (len(names) > MOST_NAMES)
        detail = f"{', '.join(shown)}: {broken_slices(self._broken, self._first)}" if names else ""
        return Finding(rule, not self._broken, detail)


def _expected(derived: CTSlice, source: CTSlice) -> Dataset:
    """What any derivation makes of the source; that which depends on the derivation is not compared."""
    fits = derived.stored.shape == source.stored.shape and derived.stored.dtype == source.stored.dtype
    any_derivation = NoiseInsertion("", "", "", keep_private=_has_private(derived.header))
    stored = derived.stored if fits else source.stored
    return derive_slice(source, stored, any_derivation, series_number=0, now=datetime.now())


def _has_private(dataset: Dataset) -> bool:
    """Whether private elements were kept, at any level."""
    if any(tag.is_private for tag in dataset.keys()):  # noqa: SIM118 - a Dataset iterates over elements
        return True
    return any(_has_private(item) for tag in dataset.keys() for item in _items(_value(dataset, tag)))  # noqa: SIM118


def _different(one: Dataset, other: Dataset) -> list[BaseTag]:
    """Elements that are not equal, or in one only. Lengths of groups are never written."""
    tags = sorted({*one.keys(), *other.keys()} - WITH_RULES)
    return [tag for tag in tags if tag.element and not _are_equal(one, other, tag)]


def _are_equal(one: Dataset, other: Dataset, tag: BaseTag) -> bool:
    if (tag in one) != (tag in other):
        return False
    values = [_value(each, tag) for each in (one, other)]
    if not all(isinstance(value, pydicom.Sequence) for value in values):
        return _texts(values[0]) == _texts(values[1])
    items, others = map(_items, values)
    return len(items) == len(others) and not any(map(_different_items, items, others))


def _different_items(one: Dataset, other: Dataset) -> bool:
    tags = {*one.keys(), *other.keys()}
    return any(tag.element and not _are_equal(one, other, tag) for tag in tags)


def _value(dataset: Dataset, tag: BaseTag) -> Any:
    """The value of an element; its bytes where it is a broken one."""
    try:
        return dataset[tag].value
    except Exception:  # pydicom raises nearly anything for values that break their representation
        return dataset.get_item(tag, keep_deferred=True).value


def _items(value: Any) -> list[Dataset]:
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _texts(value: Any) -> tuple[object, ...]:
    """Without padding; an empty value is none, whatever its representation."""
    if isinstance(value, bytes):
        return (value.rstrip(b" \0"),) if value.strip(b" \0") else ()
    values = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    texts = tuple("" if each is None else str(each).strip() for each in values)
    return texts if any(texts) else ()
