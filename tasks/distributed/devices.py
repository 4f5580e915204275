"""The devices of this process: threads of the CPU and memory of the GPUs."""

from __future__ import annotations

import os
from contextlib import suppress

from zoo.lazy import keras, tf

# FLOPs of the forward pass of a batch below which several threads per operation are slower.
MIN_MULTITHREADED_STEP_FLOPS = 5e7


def is_tiny(flops):
    """Returns whether a step, by its forward FLOPs, is too short to use several threads."""
    return 0 < flops < MIN_MULTITHREADED_STEP_FLOPS


def use_single_thread():
    """Limits each operation of this process to one thread.

    It is for a process that only trains a tiny network: the setting is fixed once TensorFlow has
    started. It has no effect after that, or if `TF_NUM_INTRAOP_THREADS` is set.
    """
    if keras.backend.backend() == "tensorflow" and "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):  # it has started
            tf.config.threading.set_intra_op_parallelism_threads(1)


def runs_ops_concurrently():
    """Returns whether independent operations run concurrently on this device."""
    tensorflow = keras.backend.backend() == "tensorflow"
    return tensorflow and not tf.config.list_physical_devices("GPU")


def enable_memory_growth():
    """Makes TensorFlow allocate GPU memory as needed instead of all at once."""
    if keras.backend.backend() != "tensorflow":
        return
    with suppress(RuntimeError):  # they are in use
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
