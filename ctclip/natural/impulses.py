"""Salt and pepper: single values that stand out from all of their neighbours."""

from __future__ import annotations

import numpy as np

from ctclip.natural.noise_level import NoiseLevel

OUTSTANDING_SD = 4.0
"""By how many SD of the other noise an impulse stands out; Gaussian noise of that SD practically never does."""

OUTSTANDING_MIN = 0.15
"""By how much at least, so that fine detail of images without noise is no impulse."""

MAX_TOGETHER = 0.2
"""The most of the values that stand out together, in relation to those alone; chance makes it so for impulses on 9 %
of the values."""

STRIP_ROWS = 64
"""Rows that are looked at together: all neighbours of a photograph, and those sorted, need 16 times its memory."""

MIN_SHARE = 0.0015
"""Below this share of the values nothing is replaced: single values of a clean image stand out too."""


NEIGHBOURS = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
"""Where they lie in a padded image, from a pixel's own place in the image."""


def find_impulses(image: np.ndarray, noise: NoiseLevel) -> np.ndarray:
    """Values beyond the second largest or smallest of their eight neighbours by far.

    The second, because two impulses may touch; a line or an edge holds three pixels of its kind and is none.

    Args:
        image: (rows, columns, channels) in [0, 1].
        noise: the other noise.

    Returns:
        (rows, columns, channels) bool.
    """
    padded = _padded(image)
    found = np.empty(image.shape, bool)
    for top in range(0, len(image), STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        found[rows] = _stand_out(image[rows], _neighbours(padded[top : top + STRIP_ROWS + 2]), noise)
    return found


def _stand_out(image: np.ndarray, neighbours: np.ndarray, noise: NoiseLevel) -> np.ndarray:
    neighbours = np.sort(neighbours, axis=0)
    gap = np.maximum(image - neighbours[-2], neighbours[1] - image)
    usual = noise.sd_at((neighbours[3] + neighbours[4]) / 2)
    return gap > np.maximum(OUTSTANDING_SD * usual, OUTSTANDING_MIN)


def keep_noise(found: np.ndarray) -> np.ndarray:
    """Those of the values from :func:`find_impulses` that are noise rather than detail of the scene.

    Impulses hit single values, so that most of them stand alone in their pixel; what stands out in several channels at
    once is a highlight or a speck, unless it is as rare as chance makes it. (Impulses that always hit all channels of
    a colour image are therefore taken for the scene.)

    Returns:
        (rows, columns, channels) bool, nowhere true when there are too few.
    """
    alone = found & (found.sum(axis=-1, keepdims=True) == 1)
    if alone.mean() < MIN_SHARE:
        return np.zeros_like(found)
    return found if found.mean() - alone.mean() < alone.mean() * MAX_TOGETHER else alone


def replace_impulses(image: np.ndarray, impulses: np.ndarray) -> np.ndarray:
    """A copy in which every impulse is the median of those of its neighbours that are none.

    Args:
        image: (rows, columns, channels).
        impulses: from :func:`find_impulses`.
    """
    padded = _padded(np.where(impulses, np.nan, image))
    rows, columns, channels = np.nonzero(impulses)
    healthy = np.stack([padded[rows + i, columns + j, channels] for i, j in NEIGHBOURS])
    count = np.isfinite(healthy).sum(axis=0)
    replaced = image.copy()
    some = np.flatnonzero(impulses.ravel())[count > 0]
    replaced.ravel()[some] = np.nanmedian(healthy[:, count > 0], axis=0)
    return replaced


def _padded(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")


def _neighbours(padded: np.ndarray) -> np.ndarray:
    """The eight neighbours of every value but those of the border, (8, rows - 2, columns - 2, channels)."""
    rows, columns = padded.shape[0] - 2, padded.shape[1] - 2
    return np.stack([padded[i : i + rows, j : j + columns] for i, j in NEIGHBOURS])
