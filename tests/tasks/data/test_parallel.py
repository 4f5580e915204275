"""`ordered_map`: results in order, with a bounded number of pending calls."""

import threading

import numpy as np
import pytest

from tasks.data import decoding
from tasks.data.parallel import AHEAD, ordered_map


class Counter:
    """Counts the calls that have started and whose result is not consumed yet."""

    def __init__(self):
        self.lock, self.now, self.peak = threading.Lock(), 0, 0

    def begin(self, item):
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        return item

    def consume(self):
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_with_few_outstanding(threads):
    counter, found = Counter(), []
    for item in ordered_map(counter.begin, iter(range(200)), threads):
        counter.consume()
        found.append(item)
    assert found == list(range(200))
    assert counter.peak <= AHEAD * threads + 1  # the one that is being yielded


def test_stopping_early_cancels_the_rest():
    taken = []
    results = ordered_map(lambda item: item, (taken.append(n) or n for n in range(1000)), 2)
    assert next(results) == 0
    results.close()
    assert len(taken) <= AHEAD * 2 + 1


def test_an_exception_reaches_the_consumer():
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda item: 1 // item, [2, 1, 0, 1], 2))


def test_decoding_keeps_few_images_in_memory():
    counter = Counter()
    images = np.zeros((2000, 4, 4, 3), "uint8")

    def one(index):
        counter.begin(index)
        return [images[index]]

    class Buffer:
        def __setitem__(self, place, part):
            counter.consume()

    good, dropped = decoding.read_into("train", 2000, one, [Buffer()])
    assert good == list(range(2000))
    assert dropped == ()
    threads = decoding.os.cpu_count()
    assert counter.peak <= (AHEAD * threads + 1) * decoding.MAX_READ_CHUNK
