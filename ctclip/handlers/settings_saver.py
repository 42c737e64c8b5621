"""What figures were measured with, beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ctclip import __version__
from ctclip.atomic import atomic_path


class SettingsSaver:
    """Writes ``settings.json`` when an evaluation has ended: the names in MONAI's ``metrics.csv`` say nothing of the
    window, the noise and the model.

    Args:
        save_dir: that of MONAI's ``MetricsSaver``; made when missing.
        settings: what JSON can hold; the version of ctclip is added.
    """

    def __init__(self, save_dir: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = Path(save_dir), {**settings, "ctclip": __version__}

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / "settings.json") as partial:
            partial.write_text(json.dumps(self.settings, indent=1) + "\n")
