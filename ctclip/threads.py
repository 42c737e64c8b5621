"""Work in threads beside the caller's own: files are read and written while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 1,
    ahead: int = 4,
    initializer: Callable[[], None] | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> Iterator[Result]:
    """``map(function, items)`` in threads, a few items ahead of the consumer.

    Items are drawn in the consumer's thread, results come in the order of the items, and the first error of an item or
    of the function is raised where its result is due. No more than ``ahead`` results wait, so that memory stays flat.

    Args:
        function: called in the threads.
        items: drawn as the results are consumed.
        workers: threads.
        ahead: results that may be in work or wait.
        initializer: called in every thread before its first item.
        pool: threads that go on afterwards, instead of ``workers`` new ones.

    Yields:
        the results.
    """
    waiting: deque[Future[Result]] = deque()
    threads = pool or ThreadPoolExecutor(workers, thread_name_prefix="ctclip", initializer=initializer)
    try:
        for item in items:
            waiting.append(threads.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()
        if pool is None:
            threads.shutdown()
