"""Lazy imports, and the logging that they configure."""

import logging

import keras
import pytest

from zoo.lazy import tf


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="warnings of TensorFlow")
def test_tensorflow_retracing_warnings_are_hidden():
    shown = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    log = logging.getLogger("tensorflow")
    log.addHandler(handler)
    try:
        doubled = tf.function(lambda number: 2 * number)
        for number in range(10):
            doubled(number)
        log.warning("something else")
    finally:
        log.removeHandler(handler)
    assert shown == ["something else"]
