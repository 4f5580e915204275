"""Features of many images, computed batch by batch in worker threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from tasks.inference import threads
from zoo.lazy import LazyModule, np

tqdm = LazyModule("tqdm")

PREFETCH_BATCHES = 2  # per worker: one in progress and one waiting
FLOAT16_MAX = 65504.0


class Float16Overflow(Exception):
    """A feature does not fit into float16."""


def feature_batches(run, examples, size, dtype, done):
    """Yields the features of the images from index `done` on, batch by batch and in order.

    Each worker reads and computes a batch. Few batches are in memory at a time.

    Args:
        run: A function from images to features.
        examples: Examples with `pixels`.
        size: The batch size.
        dtype: `float16` or `float32`, of the result.
        done: The number of images whose features exist.

    Raises:
        Float16Overflow: A feature exceeds the range of `float16`.
    """
    max_value = FLOAT16_MAX if dtype == "float16" else np.inf

    def work(start):
        found = run(read_images(examples, start, min(start + size, len(examples))))
        if max_value < np.inf and np.abs(found).max() > max_value:
            raise Float16Overflow
        return found.astype(dtype)  # a copy: the runtime may reuse its buffer

    pool, pending = ThreadPoolExecutor(threads.num_workers()), deque()
    with tqdm.tqdm(
        total=len(examples), initial=done, unit="image", leave=False, delay=2, disable=None
    ) as bar:
        try:
            for start in range(done, len(examples), size):
                pending.append(pool.submit(work, start))
                if len(pending) > PREFETCH_BATCHES * threads.num_workers():
                    yield _next_result(pending, bar)
            while pending:
                yield _next_result(pending, bar)
        finally:
            pool.shutdown(cancel_futures=True)


def read_images(examples, start, end):
    """Returns the images from index `start` to `end`, a contiguous array."""
    pixels = examples.pixels
    part = slice(start, end) if isinstance(pixels, np.ndarray) else np.arange(start, end)
    return np.ascontiguousarray(pixels[part])


def _next_result(pending, bar):
    found = pending.popleft().result()
    bar.update(len(found))
    return found
