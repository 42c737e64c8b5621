"""Carrying the elements of a source over: what is dropped, and how the rest survives the change of encoding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag

__all__ = ["copy_header", "drop_stale", "keep_undecodable", "swap_words"]

STALE_KEYWORDS = (
    "IconImageSequence",  # shows the source's pixels
    "HistogramSequence",  # counts the source's pixels
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "InstanceCreatorUID",  # the device that made the source instance
    "PixelDataProviderURL",  # points to the source's pixels
    "DataSetTrailingPadding",
    "ExtendedOffsetTable",  # these three describe compressed pixels
    "ExtendedOffsetTableLengths",
    "EncapsulatedPixelDataValueTotalLength",
    "RetrieveAETitle",  # these say where the source instance is kept
    "RetrieveURL",
    "RetrieveURI",
    "InstanceAvailability",
    "StorageMediaFileSetID",
    "StorageMediaFileSetUID",
)
"""Elements that would be untrue in the derived slice and cannot be recomputed."""

SIGNATURE_TAGS = frozenset({Tag("MACParametersSequence"), Tag("DigitalSignaturesSequence")})
"""Signatures cover the source's bytes; they may stand in any item."""

WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Value representations that are arrays of words, with the size of a word."""

OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAY_DATA, OVERLAY_BIT_POSITION = 0x3000, 0x0102


def copy_header(header: Dataset) -> Dataset:
    """A deep copy that shares tags and unparsed elements, which nothing can change: most of a header is unparsed."""
    elements = [header.get_item(tag) for tag in header.keys()]  # noqa: SIM118 - a Dataset iterates over elements
    unchangeable = [*header.keys(), *(element for element in elements if element.is_raw)]
    return copy.deepcopy(header, {id(each): each for each in unchangeable})


def swap_words(dataset: Dataset) -> None:
    """Turn big endian words into little endian ones: pydicom swaps numbers when it writes, but not arrays of words.

    Arrays that hold part of a word cannot be turned and are dropped.
    """
    for item in _items(dataset):
        swap_words(item)
    for tag in list(dataset.keys()):
        size = WORD_BYTES.get(dataset.get_item(tag).VR or "")
        if size:
            element = dataset[tag]
            content = element.value or b""
            if len(content) % size:
                del dataset[tag]
            else:
                element.value = np.frombuffer(content, f">u{size}").astype(f"<u{size}").tobytes()


def drop_stale(dataset: Dataset, *, keep_private: bool) -> None:
    """Remove what is not true of the derived pixels, and private elements, which nobody can check."""
    for keyword in STALE_KEYWORDS:
        dataset.pop(Tag(keyword), None)
    _drop_embedded_overlays(dataset)
    _drop_everywhere(dataset, lambda tag: tag in SIGNATURE_TAGS or (tag.is_private and not keep_private))


def _drop_everywhere(dataset: Dataset, unwanted: Callable[[BaseTag], bool]) -> None:
    for tag in [tag for tag in dataset.keys() if unwanted(tag)]:  # noqa: SIM118 - a Dataset iterates over elements
        del dataset[tag]
    for item in _items(dataset):
        _drop_everywhere(item, unwanted)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the items of all sequences, without parsing other elements: their bytes are to be copied as they are."""
    for tag in list(dataset.keys()):
        if _is_sequence(dataset, tag):
            try:
                yield from dataset[tag].value or []
            except Exception:
                # what cannot be parsed cannot be cleaned either
                del dataset[tag]


def _is_sequence(dataset: Dataset, tag: BaseTag) -> bool:
    vr = dataset.get_item(tag).VR
    # implicit VR states none, and UN hides one that the dictionary knows
    return vr == "SQ" or (vr in (None, "UN") and dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ")


def _drop_embedded_overlays(dataset: Dataset) -> None:
    """Drop overlays that lay in the unused bits of the pixels: those bits are cleared."""
    for group in OVERLAY_GROUPS:
        is_embedded = Tag(group, OVERLAY_BIT_POSITION) in dataset and Tag(group, OVERLAY_DATA) not in dataset
        if is_embedded:
            for tag in [tag for tag in dataset.keys() if tag.group == group]:  # noqa: SIM118
                del dataset[tag]


def keep_undecodable(derived: Dataset) -> None:
    """Carry values that violate their representation as they are.

    From an explicit little endian source pydicom copies bytes. From other sources it parses every value and encodes
    it anew; one that cannot be is kept as its bytes with VR UN, which is what UN is for.
    """
    if derived.original_encoding == (False, True):
        return
    for item in _items(derived):
        if item.original_encoding != (None, None):
            keep_undecodable(item)
    for tag in list(derived.keys()):
        value = derived.get_item(tag).value
        if isinstance(value, bytes) and not _is_encodable(derived, tag):
            unknown = DataElement(tag, "UN", value, already_converted=True)
            unknown.VR = "UN"  # the constructor puts the dictionary's VR there, with which the bytes cannot be encoded
            derived[tag] = unknown


def _is_encodable(dataset: Dataset, tag: BaseTag) -> bool:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    try:
        write_data_element(buffer, dataset[tag], dataset.get("SpecificCharacterSet"))
    except Exception:
        return False
    return True
