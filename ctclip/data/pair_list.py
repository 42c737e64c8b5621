"""The list of pairs that ``ctclip simulate`` writes beside low-dose partners and ``ctclip evaluate`` takes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ctclip.atomic import atomic_path
from ctclip.data.layouts import hashed
from ctclip.dicom import Series, patient_key
from ctclip.errors import ConfigError

PAIRS_FILE = "pairs.json"


def write_pair(source: Path, series: Series, folder: Path) -> None:
    """Add a pair to the list that ``ctclip evaluate`` takes, beside the partner; others whose low dose is there stay.

    Args:
        source: the folder that was scanned.
        series: with full dose.
        folder: of its partner.
    """
    target = folder.parent
    entry = {
        "low": folder.name,
        "low_series": folder.name,
        "full": os.path.relpath(source.resolve(), target.resolve()),
        "full_series": series.uid,
        "patient": hashed(patient_key(series.stacks[0][0].path) or series.uid),
    }
    others = [other for other in earlier_pairs(target) if other["low"] != folder.name]
    kept = [other for other in others if (target / other["low"]).exists()]
    with atomic_path(target / PAIRS_FILE) as partial:
        partial.write_text(json.dumps([*kept, entry], indent=1) + "\n")


def earlier_pairs(target: Path) -> list[dict[str, str]]:
    """The pairs that earlier runs have listed in a folder.

    Raises:
        ConfigError: when the file of their name is something else.
    """
    path = target / PAIRS_FILE
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        known = all(isinstance(entry["low"], str) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise ConfigError(f"{path} exists and is no list of pairs; choose another folder")
    return entries
