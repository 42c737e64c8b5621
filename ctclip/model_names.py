"""The models that are taken when none is named; known before anything heavy is imported."""

from __future__ import annotations

DEFAULT_MODEL, NATURAL_MODEL = "ct-compact", "natural-compact"
"""For CT and for photographs."""
