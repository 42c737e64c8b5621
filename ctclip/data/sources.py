"""What a folder of training or evaluation data holds: one item per scan, with the patient that it belongs to."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.data.detached import how_to_convert
from ctclip.data.layouts import find_layout, hashed
from ctclip.data.pairs import find_pairs
from ctclip.data.volumes import is_volume_file
from ctclip.dicom import SliceFile, patient_key, scan
from ctclip.dicom.geometry import POSITION_TOLERANCE_MM
from ctclip.errors import DataError, SeriesError
from ctclip.files import files_below
from ctclip.settings import is_number

logger = logging.getLogger(__name__)

Item = dict[str, Any]

LAYOUTS = (
    "NIfTI, NRRD or MetaImage (.mha) volumes, DICOM series, the layouts of AAPM-Mayo 2016 and TCIA LDCT, "
    "a list of pairs (JSON or CSV), or a decathlon-style JSON list"
)


NAMED_LOW_DOSE = re.compile(r"(quarter|low)[ _-]?dose|^(quarter|QD)_", re.IGNORECASE)
"""Names of folders whose scans are hardly of normal dose."""

PARTS_OF_A_SET = ("imagestr", "imagests", "imagesval")
"""Folders of the Medical Segmentation Decathlon and of nnU-Net, in lower case: each holds a file per patient."""


def find_items(dataset_dir: str | Path, section: str = "training") -> list[Item]:
    """The scans in a data folder, whatever its layout; the log says how many, and how many pairs.

    ======================  =======================================================================================
    layout                  items
    ======================  =======================================================================================
    decathlon JSON file     its ``section``; paths are relative to the file; ``patient`` is taken over, or the
                            image's file name, its path where another has that name
    list of pairs           JSON or CSV, see :func:`~ctclip.data.pairs.find_pairs`
    AAPM-Mayo 2016, TCIA    each pair of low-dose and full-dose folders: image and label, paired by position, see
                            :func:`~ctclip.data.pairs.find_pairs`
    volumes                 each file; the patient is the folder below ``dataset_dir``, or else the file name;
                            ``imagesTr``, ``imagesTs`` and ``imagesVal`` are no patients, but what lies in them
    DICOM                   each axial CT series (its largest group of slices) whose slices lie at different
                            places; the patient is the PatientID, or else the study
    ======================  =======================================================================================

    Args:
        dataset_dir: folder, searched recursively, links included; a list, or a single scan.
        section: of a decathlon list.

    Returns:
        items with ``image`` (a file name, or the file names of DICOM slices in the order of their positions), ``label``
        of the same kind where the data has pairs, and ``patient``, sorted by patient. Patients are named by hashes,
        so that logs hold no identifiers.

    Raises:
        DataError: when nothing usable is found, or volumes beside DICOM series, in one line.
    """
    root = Path(dataset_dir)
    if not root.exists():
        raise DataError(f"no such file or folder: {root}; expected {LAYOUTS}")
    if root.is_dir():
        items = _from_pairs(root) or _of_normal_dose(root, _from_volumes_or_dicom(root))
    elif is_volume_file(root):
        items = [{"image": str(root), "patient": hashed(root.name)}]
    elif root.suffix.lower() == ".csv" or _is_list_of_pairs(root):
        items = _from_pairs(root)
    else:
        items = _from_decathlon(root, section) if root.suffix.lower() == ".json" else _from_dicom(root)
    if not items:
        remedy = how_to_convert(files_below(root) if root.is_dir() else [root])
        raise DataError(f"nothing to use in {root}: expected {LAYOUTS}" + (f"; {remedy}" if remedy else ""))
    logger.info(
        "found %d scans of %d patients; pairs of low and full dose among them: %d",
        len(items),
        len({item["patient"] for item in items}),
        sum("label" in item for item in items),
    )
    return sorted(items, key=lambda item: (item["patient"], str(item["image"])))


def split_by_patient(items: Sequence[Item], held_out: float, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """Part the items so that no patient is on both sides; of photographs each is a patient of its own.

    Args:
        items: from :func:`find_items` or :func:`~ctclip.data.images.find_images`.
        held_out: share of the patients in the second part; with more than 0 it holds at least one patient.
        seed: of the choice.

    Returns:
        the items to train on and the ones held out.

    Raises:
        DataError: when the share is no number from 0 to below 1, or no patient would be left to train on.
    """
    if not is_number(held_out) or not 0 <= held_out < 1:
        raise DataError(f"the share to hold out must be a number from 0 to below 1, found {held_out!r}")
    patients = sorted({item["patient"] for item in items})
    count = 0 if held_out == 0 else max(1, round(held_out * len(patients)))
    if count >= len(patients):
        raise DataError(
            f"cannot hold out {held_out:g} of {len(patients)} patients or images: at least one must be left to train on"
        )
    chosen = set(np.random.RandomState(seed).permutation(patients)[:count])
    return (
        [item for item in items if item["patient"] not in chosen],
        [item for item in items if item["patient"] in chosen],
    )


def patient_weights(items: Sequence[Item]) -> list[float]:
    """Sampling weight of each item that makes every patient equally likely, however many scans it has."""
    scans = Counter(item["patient"] for item in items)
    return [1 / scans[item["patient"]] for item in items]


def _from_decathlon(path: Path, section: str) -> list[Item]:
    """Entries of a list as MONAI's ``load_decathlon_datalist`` reads it; that one takes almost anything for a list."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path.name} cannot be read as JSON: {error}") from error
    entries = content.get(section) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(
            f"{path.name} is no decathlon-style list: expected an object with an array as section {section!r}"
        )
    items = [_decathlon_item(path.parent, section, entry) for entry in entries]
    names = Counter(Path(item["image"]).name for item in items)
    return [
        {**item, "patient": _decathlon_patient(item, entry, names)} for item, entry in zip(items, entries, strict=True)
    ]


def _decathlon_item(folder: Path, section: str, entry: Any) -> Item:
    if not isinstance(entry, dict) or "image" not in entry:
        raise DataError(f"every entry of {section!r} needs an 'image', found {str(entry)[:80]}")
    return {key: str(_file_below(folder, key, entry[key])) for key in ("image", "label") if key in entry}


def _decathlon_patient(item: Item, entry: dict[str, Any], names: Counter[str]) -> str:
    """The patient that is stated (0 may be a number), else, as for a pair, one of the entry's own."""
    stated = entry.get("patient")
    if stated not in (None, ""):
        return hashed(str(stated))
    name = Path(item["image"]).name
    return hashed(name if names[name] == 1 else str(entry["image"]))


def _file_below(folder: Path, key: str, name: Any) -> Path:
    if not isinstance(name, str) or not name:
        raise DataError(f"{key!r} in the data list must be the name of a file, found {str(name)[:80]!r}")
    path = folder / name
    if not path.exists():
        raise DataError(f"the data list names {name}, which is not there")
    if not path.is_file():
        raise DataError(f"the data list names {name}, which is a folder; expected a volume's file")
    return path


def _is_list_of_pairs(path: Path) -> bool:
    """A decathlon-style list is an object, one of pairs an array."""
    if path.suffix.lower() != ".json":
        return False
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), list)
    except ValueError:
        return False


def _from_volumes_or_dicom(root: Path) -> list[Item]:
    """One kind or the other: beside a DICOM series a volume is most likely its mask, or the same scan again."""
    volumes = _from_volumes(root)
    if not volumes:
        return _from_dicom(root)
    series = _from_dicom(root)
    if series:
        raise DataError(
            f"{root} holds {len(volumes)} volumes beside {len(series)} DICOM series; give a folder or a list with one "
            "of the two"
        )
    return volumes


def _of_normal_dose(root: Path, items: list[Item]) -> list[Item]:
    """The items, with a word about those that are named otherwise."""
    doubtful = sum(_is_named_low_dose(Path(path).relative_to(root)) for path in map(_first_file, items))
    if doubtful:
        logger.warning(
            "taken for normal dose, though a folder is named low or quarter dose: %d of %d scans; a list of pairs says "
            "which is which",
            doubtful,
            len(items),
        )
    return items


def _first_file(item: Item) -> str:
    return item["image"] if isinstance(item["image"], str) else item["image"][0]


def _is_named_low_dose(path: Path) -> bool:
    return any(NAMED_LOW_DOSE.search(name) for name in path.parts[:-1])


def _from_volumes(root: Path) -> list[Item]:
    files = files_below(root)
    if how_to_convert(files):
        logger.warning(how_to_convert(files))
    volumes = [path for path in files if is_volume_file(path)]
    return [{"image": str(path), "patient": hashed(_patient_of_volume(_inside(root, path)))} for path in volumes]


def _inside(root: Path, path: Path) -> Path:
    """The way from the root to a file through no linked folder, which may gather several patients; through the links
    where it lies elsewhere. Linked files count where the links lie: their contents may all lie in one folder."""
    whole, folder = root.resolve(), path.parent.resolve()
    return (folder / path.name).relative_to(whole) if folder.is_relative_to(whole) else path.relative_to(root)


def _patient_of_volume(path: Path) -> str:
    """The first name on the way to a file, or the first one below the part of a set that it lies in."""
    folders = [name.lower() for name in path.parts[:-1]]
    depths = [depth for depth, name in enumerate(folders, start=1) if name in PARTS_OF_A_SET]
    return path.parts[max(depths, default=0)]


def _from_pairs(root: Path) -> list[Item]:
    if find_layout(root) == ([], []):
        return []
    pairs, problems = find_pairs(root)
    for problem in problems:
        logger.warning(problem)
    return [
        {"image": [str(p) for p in pair.low], "label": [str(p) for p in pair.full], "patient": pair.patient}
        for pair in pairs
    ]


def _from_dicom(root: Path) -> list[Item]:
    try:
        usable = scan(root).usual
    except SeriesError:  # of a folder without any file
        return []
    volumes = [series for series in usable if not _repeats_a_position(series.stacks[0])]
    if len(volumes) < len(usable):
        logger.warning(
            "left out, since slices lie at one place: %d of %d series; ctclip denoise takes them",
            len(usable) - len(volumes),
            len(usable),
        )
    return [
        {"image": _paths(series.stacks[0]), "patient": hashed(patient_key(series.slices[0].path) or series.uid)}
        for series in volumes
    ]


def _repeats_a_position(stack: Sequence[SliceFile]) -> bool:
    """Whether a series is several volumes, such as the phases of a heart beat, and so none for training."""
    return bool((np.diff([item.position_mm for item in stack]) <= POSITION_TOLERANCE_MM).any())


def _paths(stack: Sequence[SliceFile]) -> list[str]:
    return [str(item.path) for item in stack]


def normal_dose(items: Sequence[Item]) -> list[Item]:
    """What training simulates low dose from: the label of each pair, the image of everything else."""
    return [{"image": item.get("label", item["image"]), "patient": item["patient"]} for item in items]


def are_pairs(items: Sequence[Item]) -> bool:
    """Whether the items are pairs, to be measured as they are, or scans that need simulated noise.

    Raises:
        DataError: for a mixture, whose figures would say nothing.
    """
    count = sum("label" in item for item in items)
    if 0 < count < len(items):
        raise DataError(
            f"{count} of {len(items)} entries have a 'label': expected all of them or none; split the list in two"
        )
    return count > 0
