"""``map_ahead``: the order, errors and memory of ``map``, in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ctclip.threads import map_ahead

LONG_S = 10.0


def test_results_come_in_the_order_of_the_items() -> None:
    def later_items_are_faster(item: int) -> int:
        time.sleep(0.01 * (5 - item % 5))
        return item * item

    assert list(map_ahead(later_items_are_faster, range(20), workers=4)) == [item * item for item in range(20)]


def test_no_items_give_no_results() -> None:
    assert list(map_ahead(str, [])) == []


def test_an_error_of_the_function_is_raised_where_its_result_is_due() -> None:
    results = map_ahead(lambda item: 10 // item, [5, 2, 0, 1], workers=2)
    assert next(results) == 2
    assert next(results) == 5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [], "nothing comes after an error"


def test_an_error_of_an_item_is_raised_by_the_consumer() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(map_ahead(str, items()))


def test_no_more_than_ahead_results_wait() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(50):
            drawn += 1
            yield item

    for taken, _ in enumerate(map_ahead(str, items(), workers=3, ahead=4), start=1):
        assert drawn - taken <= 4


def test_items_are_drawn_in_the_thread_of_the_consumer() -> None:
    drawn_in, worked_in = set(), set()

    def items() -> Iterator[int]:
        for item in range(10):
            drawn_in.add(threading.current_thread())
            yield item

    assert len(list(map_ahead(lambda _: worked_in.add(threading.current_thread()), items()))) == 10
    assert drawn_in == {threading.current_thread()}
    assert threading.current_thread() not in worked_in


def test_who_closes_early_waits_for_no_more_than_the_work_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = [], threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            release.wait(LONG_S)
        return item

    class Pool(ThreadPoolExecutor):
        """Lets the work in hand end when the rest has been cancelled."""

        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            release.set()
            super().shutdown(*args, **kwargs)

    monkeypatch.setattr("ctclip.threads.ThreadPoolExecutor", Pool)
    results = map_ahead(work, range(100), workers=1, ahead=4)
    assert next(results) == 0
    results.close()
    assert release.is_set()
    assert len(begun) <= 2, "the work that had not begun is cancelled"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ctclip")]
