"""Patches for two bugs of Keras under `MultiWorkerMirroredStrategy`.

`fit` of Keras 3.15 fails with several workers (keras-team/keras#20585). Before it builds a model,
it averages a batch over the replicas, outside of any compiled function and with structures that
`reduce` does not take; and it averages what a step returns over an axis that scalars do not have.
`docs/keras-multiworker-bug.md` is the report. Versions of Keras without the bugs are not changed.
"""

from __future__ import annotations

import importlib
import inspect

from zoo.lazy import keras, tf

TRAINER = "keras.src.backend.tensorflow.trainer"
BUGGY_LINES = {  # function: the wrong line in it
    "_maybe_symbolic_build": "self.distribute_strategy.reduce(",
    "reduce_per_replica": 'strategy.reduce("MEAN", v, axis=0)',
}


def find_bugs():
    """Returns the names of the functions with bugs in this version of Keras."""
    module = importlib.import_module(TRAINER)
    functions = {
        "_maybe_symbolic_build": module.TensorFlowTrainer._maybe_symbolic_build,
        "reduce_per_replica": module.reduce_per_replica,
    }
    return [
        name
        for name, function in functions.items()
        if BUGGY_LINES[name] in inspect.getsource(function)
    ]


def apply_patches():
    """Replaces the functions of Keras that have bugs; returns their names."""
    module, found = importlib.import_module(TRAINER), find_bugs()
    if "reduce_per_replica" in found:
        module.reduce_per_replica = _patched_reduce_per_replica(module.reduce_per_replica)
    if "_maybe_symbolic_build" in found:
        module.TensorFlowTrainer._maybe_symbolic_build = _patched_symbolic_build
    return found


def _patched_reduce_per_replica(original):
    """Returns a `reduce_per_replica` that averages the values of replicas elementwise."""

    def reduce_per_replica(values, strategy, reduction):
        multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if not multi_worker or reduction not in ("auto", "mean"):
            return original(values, strategy, reduction)
        mean = tf.distribute.ReduceOp.MEAN
        return keras.tree.map_structure(lambda v: strategy.reduce(mean, v, axis=None), values)

    return reduce_per_replica


def _patched_symbolic_build(model, iterator=None, data_batch=None):
    """Builds a model for the part of a batch of the first replica of this process."""
    strategy = model._distribute_strategy
    if strategy is None:
        return
    for _, _, distributed in iterator or ():
        data_batch = keras.tree.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], next(distributed)
        )
        break
    with strategy.scope():
        model._symbolic_build(data_batch=data_batch)
