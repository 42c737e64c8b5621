"""Medians and ratios on a clock that tells a script."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.timing import Spread, interleaved, ratio, seconds_of, spread


class FakeClock:
    """Stands still except while a call runs."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, *durations: float) -> Callable[[], None]:
        """A call that takes the next of these durations each time."""
        remaining = iter(durations)

        def run() -> None:
            self.calls.append(name)
            self.now += next(remaining)

        return run


def test_a_call_is_timed() -> None:
    clock = FakeClock()
    assert seconds_of(clock.call("a", 2.5), clock=clock) == 2.5


def test_candidates_take_turns() -> None:
    clock = FakeClock()
    candidates = {"slow": clock.call("slow", 4, 6), "fast": clock.call("fast", 1, 2)}
    assert interleaved(candidates, repeats=2, clock=clock) == {"slow": [4, 6], "fast": [1, 2]}
    assert clock.calls == ["slow", "fast", "slow", "fast"]


def test_spread_is_median_smallest_and_largest() -> None:
    assert spread([3.0, 1.0, 100.0]) == Spread(median=3.0, low=1.0, high=100.0)
    assert spread([1.0, 2.0]).median == 1.5


def test_a_slow_round_cancels_in_the_ratio() -> None:
    """The machine is ten times slower in the second round: both times tell so, the ratio does not."""
    assert ratio([4.0, 40.0, 4.0], [2.0, 20.0, 2.0]) == Spread(median=2.0, low=2.0, high=2.0)


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
