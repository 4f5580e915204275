"""Dynamic batching: order, size, bounds, failures."""

from __future__ import annotations

import threading

import pytest

from tasks.serve.batcher import Batcher, QueueFullError


class Recorder:
    """Doubles numbers and records the batches; it waits for `go` before each."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def __call__(self, items, key):
        self.entered.set()
        assert self.go.wait(30)
        self.batches.append((list(items), key))
        return [2 * item for item in items]


@pytest.fixture
def recorder():
    return Recorder()


def batcher(recorder, **options):
    chosen = {"batch_size": 4, "workers": 1, "max_wait": 0.0, "queue_size": 16, **options}
    return Batcher(recorder, **chosen)


def busy(recorder, made):
    """Occupies the worker, so that what is submitted next waits."""
    recorder.go.clear()
    (future,) = made.submit([0])
    assert recorder.entered.wait(30)
    return future


def test_waiting_items_are_one_batch_in_order(recorder):
    made = batcher(recorder)
    first = busy(recorder, made)
    futures = made.submit([1, 2, 3]) + made.submit([4, 5])
    assert made.waiting == 5
    recorder.go.set()
    assert [future.result(30) for future in [first, *futures]] == [0, 2, 4, 6, 8, 10]
    assert recorder.batches == [([0], None), ([1, 2, 3, 4], None), ([5], None)]
    made.close()


def test_items_with_other_options_are_predicted_apart(recorder):
    made = batcher(recorder)
    busy(recorder, made)
    futures = made.submit([1], "a") + made.submit([2], "b") + made.submit([3], "b")
    recorder.go.set()
    assert [future.result(30) for future in futures] == [2, 4, 6]
    assert recorder.batches[1:] == [([1], "a"), ([2, 3], "b")]
    made.close()


def test_a_worker_waits_for_a_batch_to_fill(recorder):
    made = batcher(recorder, max_wait=30.0, batch_size=3)
    futures = made.submit([1])
    futures += made.submit([2])
    futures += made.submit([3])
    assert [future.result(30) for future in futures] == [2, 4, 6]
    assert recorder.batches == [([1, 2, 3], None)]
    made.close()


def test_a_full_queue_refuses_all_items_of_a_request(recorder):
    made = batcher(recorder, queue_size=3)
    busy(recorder, made)
    kept = made.submit([1, 2])
    with pytest.raises(QueueFullError):
        made.submit([3, 4])
    recorder.go.set()
    assert [future.result(30) for future in kept] == [2, 4]
    made.close()
    assert [item for items, _ in recorder.batches for item in items] == [0, 1, 2]


def test_what_nobody_waits_for_is_not_predicted(recorder):
    made = batcher(recorder)
    busy(recorder, made)
    gone, kept = made.submit([1, 2])
    assert gone.cancel()
    recorder.go.set()
    assert kept.result(30) == 4
    assert recorder.batches[1] == ([2], None)
    made.close()


def test_an_error_belongs_to_its_batch():
    def fail_on_zero(items, key):
        return [1 / item for item in items]

    made = batcher(fail_on_zero)
    with pytest.raises(ZeroDivisionError):
        made.submit([0])[0].result(30)
    assert made.submit([2])[0].result(30) == 0.5
    made.close()


def test_closing_finishes_what_waits_and_ends_the_threads(recorder):
    made = batcher(recorder, workers=2)
    futures = made.submit(range(9))
    made.close()
    assert [future.result(0) for future in futures] == [2 * item for item in range(9)]
    assert not [x for x in threading.enumerate() if x in made._threads]


def test_sizes_of_batches_are_observed(recorder):
    sizes = []
    made = batcher(recorder, observe=sizes.append)
    made.submit([1])[0].result(30)
    made.close()
    assert sizes == [1]
