"""Which slices stand for a series."""

from __future__ import annotations


def evenly_spread(count: int, at_most: int) -> list[int]:
    """Up to ``at_most`` indices below ``count``: the middles of equal parts, ascending."""
    parts = min(count, at_most)
    return [(2 * i + 1) * count // (2 * parts) for i in range(parts)]
