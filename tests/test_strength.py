from __future__ import annotations

import pytest

from ctclip.errors import ConfigError
from ctclip.strength import DEFAULT_STRENGTH, STRENGTHS, find_strength


def test_presets_are_ordered_and_numbers_are_taken_as_they_are() -> None:
    assert 0 < find_strength("low") < find_strength("medium") < find_strength("high") < 1
    assert set(STRENGTHS) == {"low", "medium", "high"}
    assert find_strength("0.4") == find_strength(0.4) == 0.4
    assert find_strength(0) == 0
    assert str(find_strength("-0")) == "0.0"


def test_presets_are_those_that_the_published_figures_are_for() -> None:
    assert STRENGTHS == {"low": 0.25, "medium": 0.37, "high": 0.8}
    assert DEFAULT_STRENGTH == "medium"


@pytest.mark.parametrize("strength", ["strong", "", -0.1, 1.1, "nan"])
def test_everything_else_is_refused(strength: str | float) -> None:
    with pytest.raises(ConfigError, match="low, medium, high or a number from 0 to 1"):
        find_strength(strength)
