"""Carrying the elements of a source over: what is dropped, and how the rest survives the change of encoding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.hooks import raw_element_vr
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import TEXT_VR_DELIMS, VR

from ctclip.dicom.lenient import int_of, texts_of

__all__ = ["bytes_of_broken_text", "copy_header", "drop_stale", "make_explicit", "put_bytes"]

STALE_KEYWORDS = (
    "HistogramSequence",  # counts the source's pixels
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "InstanceCreatorUID",  # the device that made the source instance
    "InstanceCoercionDateTime",  # when elements of the source instance were replaced
    "SOPInstanceStatus",  # these four authorize the source instance for diagnosis
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
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

STALE_EVERYWHERE = frozenset(map(Tag, ("IconImageSequence", "MACParametersSequence", "DigitalSignaturesSequence")))
"""Icons show the pixels before, signatures cover the bytes before; both may stand in any item."""

VR_LENGTH = 2
"""pydicom's dictionary has longer ones too, such as "US or SS"."""

KNOWN_VRS = frozenset(vr.value for vr in VR if len(vr.value) == VR_LENGTH)

ARRAYS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Value representations that are arrays of words, with the size of a word."""

WORD_BYTES = {**ARRAYS, "AT": 2, "US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "UV": 8, "SV": 8, "FD": 8}
"""All that depend on the byte order."""

TEXTS = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"])
"""Value representations that are padded with a space."""

ITEM = {True: b"\xfe\xff\x00\xe0", False: b"\xff\xfe\xe0\x00"}
"""How a sequence with an item starts in little and in big endian."""

FILE_GROUPS = (0x0000, 0x0002)
"""Commands and file meta have no place in a data set, and pydicom writes none that holds them."""

OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAY_DATA, OVERLAY_BIT_POSITION = 0x3000, 0x0102


def copy_header(header: Dataset) -> Dataset:
    """A data set that can be changed and parsed without a change of ``header``; without its file meta and its preamble,
    which may make a file something else as well, a TIFF image or a program.

    Unparsed elements, which nothing can change, are shared: nearly all of a header.
    """
    copied = Dataset({tag: each if each.is_raw else copy.deepcopy(each) for tag, each in header.items()})
    implicit, little = header.original_encoding
    copied.set_original_encoding(implicit, little, header.original_character_set)
    return copied


def make_explicit(dataset: Dataset, *, signed: bool = False) -> None:
    """Turn elements of any encoding into explicit little endian ones without decoding them.

    pydicom would decode every value and encode it anew, which changes texts that are invalid in their character set,
    fails for values that break their representation, and leaves arrays of words in big endian order. Here bytes stay as
    they are but for the order inside words. Numbers that are no whole words become UN; arrays of such words in big
    endian order cannot be turned and are dropped. Values of odd length are padded.

    Args:
        dataset: changed in place, at every level.
        signed: whether the pixels that the data set belongs to are, when it does not say so itself.
    """
    representation = int_of(dataset, "PixelRepresentation")
    signed = signed if representation is None else representation == 1
    for item in _items(dataset):
        make_explicit(item, signed=signed)
    raws = {tag: raw for tag, each in dataset.items() if (raw := _as_raw(each, dataset)) is not None}
    explicit = {tag: _explicit(raw, _representation(raw, dataset, signed=signed)) for tag, raw in raws.items()}
    for tag in raws:
        del dataset[tag]
    # from the end: pydicom decodes a private element that is set after its creator
    for tag in sorted(explicit, reverse=True):
        element = explicit[tag]
        if element is not None:
            dataset[tag] = element
    dataset.set_original_encoding(False, True)


def _as_raw(element: Any, dataset: Dataset) -> RawDataElement | None:
    """An element whose bytes are to be turned, as it was read; None for decoded values and bytes that fit already."""
    if element.is_raw and _is_explicit(element):
        return None
    if element.is_raw:
        return element._replace(value=element.value or b"")
    value = b"" if element.is_empty and len(element.VR) != VR_LENGTH else element.value
    if not isinstance(value, bytes):
        return None
    little = dataset.original_encoding[1] is not False
    return RawDataElement(element.tag, element.VR, len(value), value, 0, False, little)


def _is_explicit(raw: RawDataElement) -> bool:
    """Whether an element can be written as it is: nearly all of an explicit little endian file."""
    unit = max(2, WORD_BYTES.get(raw.VR or "", 1))
    as_it_is = raw.is_little_endian and not raw.is_implicit_VR and raw.VR in KNOWN_VRS
    return as_it_is and raw.value is not None and len(raw.value) % unit == 0


def _representation(raw: RawDataElement, dataset: Dataset, *, signed: bool) -> str:
    """The VR that an element states, or the one that the dictionaries know."""
    found: dict[str, str] = {"VR": raw.VR or ""}
    if raw.VR is None:
        raw_element_vr(raw, found, ds=dataset)
    if len(found["VR"]) == VR_LENGTH:
        return found["VR"] if found["VR"] in KNOWN_VRS else "UN"
    if "OW" in found["VR"]:  # such as "OB or OW"
        return "OW"
    return "SS" if signed else "US"


def _explicit(raw: RawDataElement, vr: str) -> RawDataElement | None:
    content, size = raw.value or b"", WORD_BYTES.get(vr, 1)
    if len(content) % size:
        if vr in ARRAYS and not raw.is_little_endian:
            return None
        vr = "UN"
    elif not raw.is_little_endian and size > 1:
        content = np.frombuffer(content, f">u{size}").astype(f"<u{size}").tobytes()
    content += (b" " if vr in TEXTS else b"\0") * (len(content) % 2)
    return RawDataElement(raw.tag, vr, len(content), content, raw.value_tell, False, True)


def bytes_of_broken_text(dataset: Dataset, keyword: str) -> bytes:
    """The value of an unparsed text that would be damaged by being decoded, put among others and encoded; else b"".

    Texts in another character set than the header names are common, and pydicom puts question marks into some.
    """
    element: Any = dataset.get_item(Tag(keyword), keep_deferred=True)
    if element is None or not element.is_raw:
        return b""
    value = bytes(element.value or b"").strip(b" \0")
    encodings = convert_encodings(list(texts_of(dataset, "SpecificCharacterSet")))
    try:
        text = decode_bytes(value, encodings, TEXT_VR_DELIMS)
        mixed = f"a {text} a"
        again = decode_bytes(encode_string(mixed, encodings), encodings, TEXT_VR_DELIMS)
        survives = encode_string(text, encodings) == value and again == mixed
    except (LookupError, UnicodeError):
        survives = False
    return b"" if survives else value


def put_bytes(dataset: Dataset, keyword: str, value: bytes) -> None:
    """Set a text by its bytes in an explicit little endian data set."""
    tag = Tag(keyword)
    padded = value + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)


def drop_stale(dataset: Dataset, *, keep_private: bool) -> None:
    """Remove what is not true of the derived pixels, and private elements, which nobody can check."""
    for keyword in STALE_KEYWORDS:
        dataset.pop(Tag(keyword), None)
    _drop_embedded_overlays(dataset)
    for tag in [tag for tag in dataset.keys() if tag.group in FILE_GROUPS]:  # noqa: SIM118
        del dataset[tag]
    _drop_everywhere(dataset, lambda tag: tag in STALE_EVERYWHERE or (tag.is_private and not keep_private))


def _drop_everywhere(dataset: Dataset, unwanted: Callable[[BaseTag], bool]) -> None:
    for tag in [tag for tag in dataset.keys() if unwanted(tag)]:  # noqa: SIM118 - a Dataset iterates over elements
        del dataset[tag]
    for item in _items(dataset):
        _drop_everywhere(item, unwanted)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the items of all sequences, without parsing other elements: their bytes are to be copied as they are."""
    for tag, element in list(dataset.items()):
        if _is_sequence(element):
            try:
                items = list(_parsed(dataset, tag))
            except Exception:
                # what cannot be parsed cannot be cleaned either
                del dataset[tag]
            else:
                yield from items


def _parsed(dataset: Dataset, tag: BaseTag) -> Iterable[Dataset]:
    element: Any = dataset.get_item(tag, keep_deferred=True)
    if element.is_raw and element.value:
        if element.VR == "UN":  # inside it is little endian (PS3.5 6.2.2), and pydicom leaves long ones alone
            element = element._replace(VR="SQ", is_little_endian=True)
            dataset[tag] = element
        if not element.value.startswith(ITEM[element.is_little_endian]):
            raise ValueError("no item")  # pydicom makes one of anything
    items = dataset[tag].value or ()
    if items and not isinstance(items, Sequence):
        raise TypeError("no sequence")
    return items


def _is_sequence(element: DataElement | RawDataElement) -> bool:
    # implicit VR states none, and UN hides one that the dictionary knows
    if element.VR in (None, "UN") and dictionary_has_tag(element.tag):
        return dictionary_VR(element.tag) == "SQ"
    return element.VR == "SQ"


def _drop_embedded_overlays(dataset: Dataset) -> None:
    """Drop overlays that lay in the unused bits of the pixels: those bits are cleared."""
    for group in OVERLAY_GROUPS:
        is_embedded = Tag(group, OVERLAY_BIT_POSITION) in dataset and Tag(group, OVERLAY_DATA) not in dataset
        if is_embedded:
            for tag in [tag for tag in dataset.keys() if tag.group == group]:  # noqa: SIM118
                del dataset[tag]
