"""The threads that read and answer images, and functions that they can share.

Each worker reads a batch and answers it, on its share of the cores. It waits for nobody, where
threads that compute one batch together wait for the slowest of them at every layer.
"""

from __future__ import annotations

import os
import threading

MOST = 16  # workers, each with a batch in memory


def count():
    """Returns how many threads read and answer images."""
    return min(MOST, os.cpu_count() or 1)


def threads():
    """Returns the number of threads that one worker computes with."""
    return max(1, (os.cpu_count() or 1) // count())


def one_at_a_time(function):
    """Returns a function that does not run in two threads at once."""
    lock = threading.Lock()

    def answer(images):
        with lock:
            return function(images)

    return answer


def for_each_thread(make):
    """Returns what `make` returns, made anew for each thread that calls it."""
    local = threading.local()

    def answer(images):
        if not hasattr(local, "answer"):
            local.answer = make()
        return local.answer(images)

    return answer
