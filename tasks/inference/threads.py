"""The threads that read and answer images, and functions that they can share.

Each worker reads a batch and answers it, on its share of the cores. It waits for nobody, where
threads that compute one batch together wait for the slowest of them at every layer.
"""

from __future__ import annotations

import os
import threading

MAX_WORKERS = 16  # workers, each with a batch in memory


def num_workers():
    """Returns how many threads read and answer images."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def threads_per_worker():
    """Returns the number of threads that one worker computes with."""
    return max(1, (os.cpu_count() or 1) // num_workers())


def with_lock(function):
    """Returns a function that does not run in two threads at once."""
    lock = threading.Lock()

    def wrapper(images):
        with lock:
            return function(images)

    return wrapper


def per_thread(make):
    """Returns what `make` returns, made anew for each thread that calls it."""
    local = threading.local()

    def wrapper(images):
        if not hasattr(local, "answer"):
            local.wrapper = make()
        return local.wrapper(images)

    return wrapper
