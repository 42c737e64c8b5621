from __future__ import annotations

import pytest

from ctclip.metrics.acceptance import (
    BIAS,
    EDGE_SHARPNESS,
    EDGE_SLOPE,
    LESIONS,
    NOISE,
    SHARPNESS,
    STRUCTURE,
    TEXTURE,
    Criterion,
)


@pytest.mark.parametrize(
    ("criterion", "passing", "failing"),
    [
        (NOISE, (-50, -30), (-51, -29, 30)),
        (BIAS, (0, 1), (1.1,)),
        (TEXTURE, (0.85, 1.2), (0.84,)),
        (EDGE_SHARPNESS, (-5, 5), (-5.1, 5.1)),
        (SHARPNESS, (-5, 5), (-5.1, 5.1)),
        (LESIONS, (0.95, 1.1), (0.94,)),
        (EDGE_SLOPE, (-5, 5), (-5.1, 5.1)),
        (STRUCTURE, (-0.1, 0.25), (0.26,)),
    ],
    ids=lambda each: each.name if isinstance(each, Criterion) else "",
)
def test_the_bar_lies_where_it_says(
    criterion: Criterion, passing: tuple[float, ...], failing: tuple[float, ...]
) -> None:
    assert all(criterion.passes(value) for value in passing)
    assert not any(criterion.passes(value) for value in failing)
    assert not criterion.passes(float("nan"))
