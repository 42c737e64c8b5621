"""Where low-dose and full-dose scans lie beside each other: the folders of two public data sets, and lists of pairs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctclip.errors import ConfigError, DataError
from ctclip.files import folders_below

AUTO, MAYO, TCIA, LIST = "auto", "mayo2016", "tcia", "pairs"

MAYO_DOSE = re.compile(r"^(quarter|QD|full|FD)_")
"""Start of the dose folders of the AAPM-Mayo 2016 challenge: ``quarter_1mm``, and ``QD_1mm`` of the archive around
it."""

MAYO_LOW = ("quarter_", "QD_")

TCIA_DOSE = re.compile(r"(low|full) dose images", re.IGNORECASE)
"""Part of the folder names of LDCT-and-Projection-data, which spells it "Low Dose Images" and "Full dose images"."""

LIST_SUFFIXES = (".json", ".csv")

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets put between columns instead of commas, by language."""

EXPECTED = (
    "expected quarter_* beside full_* (mayo2016), 'Low Dose Images' beside 'Full Dose Images' (tcia), or a JSON or CSV "
    "file whose entries have low and full (pairs)"
)


@dataclass(frozen=True)
class FoundPair:
    """A low-dose and a full-dose scan that a layout puts together; nothing is known about their content.

    Args:
        patient: hashed.
        low: DICOM folder or volume.
        full: the same for the full dose.
        low_series: SeriesInstanceUID, for a DICOM folder with several series; "" for the only one.
        full_series: the same for the full dose.
    """

    patient: str
    low: Path
    full: Path
    low_series: str = ""
    full_series: str = ""


Folders = tuple[list[Path], list[Path]]
"""Low-dose and full-dose folders that belong together: one of each, if all is well."""


def hashed(name: str) -> str:
    """A name that identifies without telling: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def find_layout(data: Path, layout: str = AUTO) -> tuple[list[FoundPair], list[str]]:
    """The pairs of scans that a folder or list names.

    ==========  ===================================================================================================
    layout      what it looks like
    ==========  ===================================================================================================
    mayo2016    ``<patient>/quarter_1mm`` and ``<patient>/full_1mm``, one scan each, at any depth, also below folders
                that are named so in turn: ``3mm B30/QD_3mm/quarter_3mm/<patient>/quarter_3mm`` and
                ``3mm B30/FD_3mm/full_3mm/<patient>/full_3mm``. The patient is the folder, since
                de-identified copies state one PatientID for all
    tcia        ``<patient>/<study>/1.000000-Low Dose Images-07574`` and, in the same study, ``1.000000-Full dose
                images-67226``
    pairs       a JSON list of objects, or a CSV file with a header line; ``low`` and ``full`` are paths relative to the
                list file, of DICOM folders or volumes; ``patient`` is optional: without it every path of a full
                dose counts as a patient, whose low doses may be several; ``low_series`` and ``full_series``,
                SeriesInstanceUIDs, choose from folders with several series
    ==========  ===================================================================================================

    Args:
        data: folder, or list.
        layout: "mayo2016", "tcia", "pairs", or "auto": the one of them that fits.

    Returns:
        the pairs in the order of their paths or entries, and one line without names for each that is left out. Both are
        empty when no layout fits.

    Raises:
        ConfigError: for an unknown layout.
        DataError: when ``data`` does not exist, two layouts fit, or a list is malformed.
    """
    if layout not in (AUTO, LIST, *FOLDER_LAYOUTS):
        raise ConfigError(f"unknown layout {layout!r}; expected {AUTO}, {MAYO}, {TCIA} or {LIST}")
    if not data.exists():
        raise DataError(f"no such file or folder: {data}; {EXPECTED}")
    if layout == LIST or (layout == AUTO and data.is_file()):
        return _read_list(data)
    chosen = _recognise(data) if layout == AUTO else layout
    return _pair_folders(data, chosen) if chosen else ([], [])


def _recognise(root: Path) -> str | None:
    """The folder layout with at least one pair."""
    fitting = [name for name, find in FOLDER_LAYOUTS.items() if any(low and full for low, full in find(root))]
    if len(fitting) > 1:
        raise DataError(f"{root.name} holds the layouts {' and '.join(fitting)}; give a folder with one of them")
    return fitting[0] if fitting else None


def _mayo2016(root: Path) -> list[Folders]:
    """Innermost dose folders, grouped by what their paths say beside the dose."""
    folders = [path for path in _folders(root) if MAYO_DOSE.match(path.name)]
    outer = {parent for path in folders for parent in path.parents}
    groups: dict[Hashable, Folders] = defaultdict(lambda: ([], []))
    for path in folders:
        if path not in outer:
            place = tuple(MAYO_DOSE.sub("", part) for part in path.relative_to(root).parts)
            groups[place][not path.name.startswith(MAYO_LOW)].append(path)
    return list(groups.values())


def _tcia(root: Path) -> list[Folders]:
    """Image folders by study; projections are named otherwise."""
    groups: dict[Hashable, Folders] = defaultdict(lambda: ([], []))
    for path in _folders(root):
        found = TCIA_DOSE.search(path.name)
        if found:
            groups[path.parent][found[1].lower() == "full"].append(path)
    return list(groups.values())


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder, _ in folders_below(root) if folder != root)


FOLDER_LAYOUTS: dict[str, Callable[[Path], list[Folders]]] = {MAYO: _mayo2016, TCIA: _tcia}


def _pair_folders(root: Path, layout: str) -> tuple[list[FoundPair], list[str]]:
    pairs: list[FoundPair] = []
    problems: list[str] = []
    groups = FOLDER_LAYOUTS[layout](root)
    for low, full in groups:
        if len(low) == len(full) == 1:
            above = low[0].absolute().parent
            pairs.append(FoundPair(hashed(above.name if layout == MAYO else above.parent.name), low[0], full[0]))
        elif low and full:
            found = f"{len(low)} low-dose and {len(full)} full-dose folders stand for one scan"
            problems.append(f"{found}: left out; keep one of each, or name the pairs in a list")
    alone = {"full": sum(not full for _, full in groups), "low": sum(not low for low, _ in groups)}
    problems += [
        f"left out without a {dose}-dose folder beside them: {count}" for dose, count in alone.items() if count
    ]
    return pairs, problems


def _read_list(path: Path) -> tuple[list[FoundPair], list[str]]:
    pairs: list[FoundPair] = []
    problems: list[str] = []
    for number, entry in enumerate(_entries(path), start=1):
        low, full = path.parent / entry["low"], path.parent / entry["full"]
        missing = [dose for dose, place in (("low", low), ("full", full)) if not place.exists()]
        if missing:
            problems.append(f"entry {number}: the {missing[0]}-dose path does not exist; left out")
        else:
            series = [str(entry.get(key) or "") for key in ("low_series", "full_series")]
            pairs.append(FoundPair(hashed(_patient_of(entry)), low, full, *series))
    return pairs, problems


def _patient_of(entry: dict[str, Any]) -> str:
    """The patient that is stated (0 may be a number), else one for all low doses of a full-dose scan."""
    stated = entry.get("patient")
    return str(entry["full"] if stated in (None, "") else stated)


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file() or path.suffix.lower() not in LIST_SUFFIXES:
        raise DataError(f"{path.name} is no list of pairs; expected a JSON or CSV file")
    try:
        text = path.read_text("utf-8-sig")
        entries = json.loads(text) if path.suffix.lower() == ".json" else _lines_of_csv(path, text)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read as a JSON or CSV list ({type(error).__name__})") from error
    if not isinstance(entries, list):
        raise DataError(f"{path.name} holds no list; expected entries with 'low' and 'full'")
    if not entries:
        raise DataError(f"{path.name} lists no pairs; expected entries with 'low' and 'full'")
    for number, entry in enumerate(entries, start=1):
        paths = [entry.get(key) for key in ("low", "full")] if isinstance(entry, dict) else [None]
        if not all(isinstance(each, str) and each for each in paths):
            raise DataError(f"{path.name}, entry {number}: needs 'low' and 'full', paths relative to the list")
    return entries


def _lines_of_csv(path: Path, text: str) -> list[dict[str, Any]]:
    lines = csv.DictReader(io.StringIO(text))
    columns = list(lines.fieldnames or [])
    if columns and not {"low", "full"} <= set(columns):
        raise DataError(f"{path.name}: {_wrong_header(columns, path.parent)}")
    return list(lines)


def _wrong_header(columns: list[str], folder: Path) -> str:
    """What is wrong, without what stands there: a list without names of columns begins with those of patients."""
    for mark, name in OTHER_SEPARATORS.items():
        if any(mark in column for column in columns):
            return f"found columns separated by {name}, expected low and full; separate them by commas"
    if any(set("/\\.") & set(column) or (column and os.path.exists(folder / column)) for column in columns):
        return "found paths in its first line, expected names of columns; begin with the line low,full"
    lacking = " or ".join(repr(name) for name in ("low", "full") if name not in columns)
    return f"none of its {len(columns)} columns is called {lacking}; name them in the first line, as in low,full"
