from __future__ import annotations

import threading

import pytest
import torch

from ctclip.inferers import ConcurrentPasses


@pytest.mark.parametrize(("device", "stays"), [("cuda", True), ("cpu", False)])
def test_a_gpu_is_served_by_the_same_thread_again(device: str, stays: bool) -> None:
    passes = ConcurrentPasses(torch.device(device))

    def threads_of_a_run() -> set[threading.Thread]:
        return set(passes.map(lambda _: threading.current_thread(), range(3)))

    first, second = threads_of_a_run(), threads_of_a_run()
    assert bool(first & second) == stays
    assert threading.current_thread() not in first


def test_a_run_that_is_closed_leaves_no_work_to_the_next() -> None:
    passes, begun = ConcurrentPasses(torch.device("cuda")), []
    results = passes.map(begun.append, range(100))
    next(results)
    results.close()
    assert list(passes.map(str, "ab")) == ["a", "b"]
    assert len(begun) < 10
