from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch

from ctclip.inferers import ConcurrentPasses
from ctclip.inferers.passes import _setting


@pytest.mark.parametrize(("device", "stays"), [("cuda", True), ("cpu", False)])
def test_a_gpu_is_served_by_the_same_thread_again(device: str, stays: bool) -> None:
    passes = ConcurrentPasses(torch.device(device))

    def threads_of_a_run() -> set[threading.Thread]:
        return set(passes.map(lambda _: threading.current_thread(), range(3)))

    first, second = threads_of_a_run(), threads_of_a_run()
    assert bool(first & second) == stays
    assert threading.current_thread() not in first


@pytest.mark.parametrize(("cores", "count", "each"), [(1, 1, 1), (8, 8, 1), (12, 8, 1), (17, 8, 2)])
def test_a_cpu_runs_no_more_than_eight_passes(
    cores: int, count: int, each: int, threads: Callable[[int], None]
) -> None:
    threads(cores)
    passes = ConcurrentPasses(torch.device("cpu"))
    assert (passes.count, passes.threads_each) == (count, each)


def test_the_next_item_is_ready_when_a_pass_ends(threads: Callable[[int], None]) -> None:
    threads(2)
    passes = ConcurrentPasses(torch.device("cpu"))
    begun, inside, most_inside = threading.Semaphore(0), set[int](), []
    one_more_waits = threading.Event()

    def denoise(number: int) -> int:
        begun.release()
        with passes.one():
            inside.add(number)
            assert one_more_waits.wait(timeout=60)
            most_inside.append(len(inside))
            inside.remove(number)
        return number

    def wait_for_three() -> None:
        assert all(begun.acquire(timeout=60) for _ in range(3))
        one_more_waits.set()

    threading.Thread(target=wait_for_three).start()
    assert list(passes.map(denoise, range(6))) == list(range(6))
    assert max(most_inside) == 2


def test_a_run_that_is_closed_leaves_no_work_to_the_next() -> None:
    passes, begun = ConcurrentPasses(torch.device("cuda")), []
    results = passes.map(begun.append, range(100))
    next(results)
    results.close()
    assert list(passes.map(str, "ab")) == ["a", "b"]
    assert len(begun) < 10


def _number_in_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    with _setting:  # not between the two numbers that a new thread of a pass sets
        thread.start()
        thread.join()
    return found[0]


def test_the_number_of_threads_of_others_stays(threads: Callable[[int], None]) -> None:
    threads(4)
    passes = ConcurrentPasses(torch.device("cpu"))
    threads(3)
    first, second = (passes.map(lambda _: torch.get_num_threads(), range(20)) for _ in range(2))
    assert (next(first), next(second)) == (1, 1)
    assert (torch.get_num_threads(), _number_in_a_new_thread()) == (3, 3), "while passes run"
    assert set(first) == {1}
    with _setting:
        threads(2)
    assert set(second) == {1}
    assert (torch.get_num_threads(), _number_in_a_new_thread()) == (2, 2), "as others have set it meanwhile"


def _pass_on(passes: ConcurrentPasses, item: str) -> str:
    with passes.one():
        return item


def _results_in_a_fork(passes: ConcurrentPasses, results: multiprocessing.Queue) -> None:
    results.put(list(passes.map(partial(_pass_on, passes), "ab")))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_forked_process_has_threads_of_its_own(device: str, threads: Callable[[int], None]) -> None:
    threads(1)
    passes, fork = ConcurrentPasses(torch.device(device)), multiprocessing.get_context("fork")
    assert list(passes.map(partial(_pass_on, passes), "ab")) == ["a", "b"]
    results = fork.Queue()
    with passes.one():  # nor does the child wait for the passes of its parent
        child = fork.Process(target=_results_in_a_fork, args=(passes, results), daemon=True)
        child.start()
        assert results.get(timeout=60) == ["a", "b"]
    child.join()
