"""Where a run's replicas live: the only file that names a `tf.distribute` strategy."""

from __future__ import annotations

import contextlib

from zoo.errors import UsageError
from zoo.lazy import keras, tf


def strategy(name):
    """Returns the `tf.distribute.Strategy` called `name`.

    Args:
        name: `mirrored` uses every GPU or, without any, every logical CPU; `one` no strategy
            at all; `auto` means `mirrored` when there are two GPUs or more, and `one` otherwise
            or where Keras does not run on TensorFlow.

    Raises:
        UsageError: replicas are asked of another backend, which would train one and say nothing.
    """
    backend = keras.backend.backend()
    if name == "mirrored" and backend != "tensorflow":
        raise UsageError(f"--strategy mirrored needs KERAS_BACKEND=tensorflow; this is {backend}")
    if name == "auto":
        several = backend == "tensorflow" and len(tf.config.list_logical_devices("GPU")) > 1
        name = "mirrored" if several else "one"
    return STRATEGIES[name]()


def mirrored():
    """Returns a strategy with one replica per GPU or, without any, per logical CPU."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    # The default reduction hands two optimisers' sums to each other when one step runs
    # both (tensorflow#62790), as every GAN does; copying through the hierarchy does not.
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices],
        cross_device_ops=tf.distribute.HierarchicalCopyAllReduce(),
    )


def scope(model):
    """Returns the scope of the strategy that a model was made in."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def summed(value):
    """Returns the sum of a tensor over all replicas that compute a step: itself, where one does."""
    if keras.backend.backend() != "tensorflow" or tf.distribute.in_cross_replica_context():
        return value
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


STRATEGIES = {
    "one": lambda: tf.distribute.get_strategy(),
    "mirrored": mirrored,
}
