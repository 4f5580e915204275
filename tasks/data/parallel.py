"""A map over threads that keeps a bounded number of results in memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

AHEAD = 2  # calls submitted per thread: one that is running, and one that is queued


def ordered_map(function, items, threads):
    """Yields `function(item)` for each item, in order, computed by threads.

    Unlike `Executor.map`, it takes items from the iterable only as results are consumed: at most
    `AHEAD * threads` calls are submitted or finished and not yet yielded, however slow the
    consumer is.

    Args:
        function: Called with one item, by several threads at once.
        items: An iterable.
        threads: The number of threads.
    """
    items = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        pending = deque(pool.submit(function, item) for item in islice(items, AHEAD * threads))
        while pending:
            found = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(items, 1))
            yield found
    finally:  # also when the consumer stops early
        pool.shutdown(cancel_futures=True)
