"""Callbacks of Keras in a run, which calls `fit` once per epoch."""

from __future__ import annotations

import functools
from contextlib import contextmanager

from tasks.engine import callbacks as engine_callbacks
from zoo.errors import UsageError
from zoo.lazy import keras


@contextmanager
def keras_callbacks_scope(callbacks):
    """Returns a scope in which runs call Keras callbacks.

    `on_train_begin` and `on_train_end` are called once per run; `on_epoch_begin` before an epoch,
    `on_epoch_end` after its validation and checkpoint, with the row of the history, without the
    number of the epoch, as `logs`; the methods of batches as by `fit`. `self.model` is the model
    that is trained in the current stage of the plan. `self.model.stop_training = True` ends the run
    after the epoch, as early stopping does.

    Args:
        callbacks: `keras.callbacks.Callback` objects, one of them, or `None`.

    Raises:
        UsageError: One of them is something else.
    """
    callbacks = callbacks or ()
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise UsageError(
                f"callbacks must be keras.callbacks.Callback objects, got {callback!r:.100}"
            )
    if not callbacks:
        yield
        return
    begun = []
    forward = _forward(callbacks, begun)
    listener = functools.partial(_end_epoch, callbacks)
    engine_callbacks.keras_callbacks.append(forward)
    engine_callbacks.epoch_listeners.append(listener)
    try:
        yield
        if begun:
            for callback in callbacks:
                callback.on_train_end()
    finally:
        engine_callbacks.keras_callbacks.remove(forward)
        engine_callbacks.epoch_listeners.remove(listener)


def _end_epoch(callbacks, history):
    row = dict(history[-1])
    epoch = int(row.pop("epoch")) - 1
    for callback in callbacks:
        callback.on_epoch_end(epoch, dict(row))


def _forward(callbacks, begun):
    """Returns a callback that calls those methods of `callbacks` that `fit` may call directly."""

    def begin_epoch(epoch, logs=None):
        for callback in callbacks:
            callback.set_model(forward.model)
            callback.set_params(forward.params)
            if not begun:
                callback.on_train_begin()
        begun.append(epoch)
        for callback in callbacks:
            callback.on_epoch_begin(epoch, logs)

    def each(method):
        def call(batch, logs=None):
            for callback in callbacks:
                getattr(callback, method)(batch, logs)

        return call

    names = ("on_train_batch_begin", "on_train_batch_end")
    forward = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin_epoch, **{name: each(name) for name in names}
    )
    return forward
