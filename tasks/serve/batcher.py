"""Dynamic batching: requests that wait at the same time are predicted as one batch."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field


class QueueFullError(Exception):
    """Raised when more images wait than the queue holds."""


@dataclass
class _Job:
    item: object
    key: object
    result: Future = field(default_factory=Future)


class Batcher:
    """Worker threads that predict batches of items.

    A worker takes what waits, up to the batch size. If that is less, it waits for further items,
    at most `max_wait` after it took the first; idle workers add no latency beyond that.

    Args:
        predict: A thread-safe function of a list of items and their common key that returns one
            result per item.
        batch_size: The largest number of items per batch.
        workers: The number of threads.
        max_wait: Seconds to wait for a batch to fill.
        queue_size: The largest number of waiting items.
        observe: A function of the number of items of each batch, for statistics.
    """

    def __init__(
        self,
        predict: Callable[[Sequence, object], Sequence],
        *,
        batch_size: int,
        workers: int,
        max_wait: float,
        queue_size: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._predict, self._observe = predict, observe
        self.batch_size, self.max_wait = batch_size, max_wait
        self._queue: queue.Queue[_Job | None] = queue.Queue(queue_size)
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, items: Sequence, key=None) -> list[Future]:
        """Queues items; returns a future of the result of each.

        Args:
            items: The items, all of which are queued or none.
            key: What items of one call of `predict` have in common, such as options.

        Raises:
            QueueFullError: The queue has no room for them.
        """
        jobs = [_Job(item, key) for item in items]
        try:
            for job in jobs:
                self._queue.put_nowait(job)
        except queue.Full:
            for job in jobs:  # those that are queued already are skipped by the workers
                job.result.cancel()
            raise QueueFullError from None
        return [job.result for job in jobs]

    @property
    def waiting(self) -> int:
        """The number of items in the queue."""
        return self._queue.qsize()

    def close(self) -> None:
        """Predicts what waits, then ends the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self):
        while (first := self._queue.get()) is not None:
            jobs = [first]
            ended = self._fill(jobs)
            live = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            for _, group in itertools.groupby(live, key=lambda job: job.key):
                self._predict_jobs(list(group))
            if ended:
                return

    def _fill(self, jobs):
        """Takes further jobs for a batch; returns whether the end of all jobs was among them."""
        until = time.monotonic() + self.max_wait
        while len(jobs) < self.batch_size:
            try:
                job = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return False
            if job is None:
                return True
            jobs.append(job)
        return False

    def _predict_jobs(self, jobs):
        self._observe(len(jobs))
        try:
            results = self._predict([job.item for job in jobs], jobs[0].key)
        except Exception as error:  # it belongs to the requests; the worker goes on
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, result in zip(jobs, results, strict=True):
            job.result.set_result(result)
