"""The devices of this process: threads of the CPU and memory of the GPUs."""

from __future__ import annotations

import os
from contextlib import suppress

from zoo.lazy import keras, tf

# FLOPs of a forward pass of a batch below which more threads only wait for each other.
MIN_MULTITHREADED_STEP_FLOPS = 5e7


def is_tiny(flops):
    """Tells whether a step of so many FLOPs, forwards, is too short for cores to share it out."""
    return 0 < flops < MIN_MULTITHREADED_STEP_FLOPS


def use_single_thread():
    """Lets each operation of this process keep to one core.

    It is for a process that trains a tiny network and does nothing else: TensorFlow takes it up
    when it starts, and for good. Where it has started, or `TF_NUM_INTRAOP_THREADS` is set, nothing
    happens.
    """
    if keras.backend.backend() == "tensorflow" and "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):  # it has started
            tf.config.threading.set_intra_op_parallelism_threads(1)


def runs_ops_concurrently():
    """Tells whether operations that do not need each other run at the same time here."""
    tensorflow = keras.backend.backend() == "tensorflow"
    return tensorflow and not tf.config.list_physical_devices("GPU")


def enable_memory_growth():
    """Lets this process take of the GPUs' memory what it uses, where TensorFlow would take all."""
    if keras.backend.backend() != "tensorflow":
        return
    with suppress(RuntimeError):  # they are in use
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
