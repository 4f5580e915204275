"""Worker threads for prediction, and functions that they can share.

Each worker reads a batch and predicts it on its share of the cores. It never waits for others,
while threads that compute one batch together wait for the slowest of them at every layer.
"""

from __future__ import annotations

import os
import threading

MAX_WORKERS = 16  # each has a batch in memory


def num_workers():
    """Returns the number of worker threads."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def threads_per_worker():
    """Returns the number of threads per worker."""
    return max(1, (os.cpu_count() or 1) // num_workers())


def with_lock(function):
    """Returns a function that runs in one thread at a time."""
    lock = threading.Lock()

    def wrapper(images):
        with lock:
            return function(images)

    return wrapper


def per_thread(make):
    """Returns a function that calls what `make` returns, made once for each thread."""
    local = threading.local()

    def wrapper(images):
        if not hasattr(local, "predict"):
            local.predict = make()
        return local.predict(images)

    return wrapper
