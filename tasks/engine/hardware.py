"""What suits the processor that a run is on: its numbers and its compiler."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.engine import replicas
from zoo.errors import UsageError, unknown
from zoo.lazy import keras, tf

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
SMALL = 1e9  # FLOPs for one example under which casting costs what bfloat16 saves, or more
TINY = 5e7  # FLOPs of a step, forwards, under which threads wait for each other for nothing
INSTANT = 1e10  # FLOPs that are over in a fraction of a second on any machine
MOST_STEPS = 32
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # as /proc/cpuinfo names them


def policy(name, flops=0):
    """Returns the Keras dtype policy that `name` means here.

    Args:
        name: a policy, or `auto`: `mixed_bfloat16` on a GPU of compute capability 8 or more and
            on a CPU that multiplies bfloat16, `float32` elsewhere and for small models.
        flops: of the model for one example, 0 if they are not known.
    """
    if name == "auto":
        small = 0 < flops < SMALL
        return "mixed_bfloat16" if has_bfloat16() and not small else "float32"
    if name not in POLICIES:
        raise unknown("precision", name, ["auto", *POLICIES])
    return name


@contextmanager
def computing(name, flops=0):
    """Lets models be built, for a while, that compute as `policy` says of its arguments."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy(name, flops))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def tiny(flops):
    """Tells whether a step of so many FLOPs, forwards, is too short for cores to share it out."""
    return 0 < flops < TINY


def one_thread():
    """Lets each operation of this process keep to one core.

    It is for a process that trains a tiny network and does nothing else: TensorFlow takes it up
    when it starts, and for good. Where it has started, or `TF_NUM_INTRAOP_THREADS` is set, nothing
    happens.
    """
    if keras.backend.backend() == "tensorflow" and "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):  # it has started
            tf.config.threading.set_intra_op_parallelism_threads(1)


def alternates():
    """Tells whether operations that do not need each other run at the same time here."""
    tensorflow = keras.backend.backend() == "tensorflow"
    return tensorflow and not tf.config.list_physical_devices("GPU")


def steps_at_once(flops):
    """Returns how many steps to run without coming back to Python, from 1 to `MOST_STEPS`.

    Args:
        flops: of the model for the examples of one step, forwards; 0 if they are not known.
    """
    return max(1, min(MOST_STEPS, int(INSTANT // (3 * flops)))) if flops else 1


def compiling(task, learner):
    """Returns what `compile` is told besides optimiser, loss and metrics, as keyword arguments.

    Called inside the strategy's scope. Batch normalisation is synchronised here, or not.

    Args:
        task: a `tasks.engine.task.Task`.
        learner: a `keras.Model` that is not compiled yet.

    Raises:
        UsageError: the replicas of the scope cannot do what the flags say, or XLA cannot.
    """
    replicas.settled(task)
    replicas.synchronise(learner, task.sync_batch_norm == "on" and replicas.several())
    return {"jit_compile": jit(task.jit if task.compilable else "off", learner)}


def jit(asked, learner):
    """Returns Keras's `jit_compile` for training here.

    Args:
        asked: `on`, `off`, or `auto`: XLA for a GPU that is alone. On a CPU, where Keras would use
            it too, XLA compiles for long and its convolutions are slower than TensorFlow's own;
            and it compiles for one device, where Keras hands it the step of all replicas.
        learner: a `keras.Model`.

    Raises:
        UsageError: `on` is asked for a model with layers that XLA does not know.
    """
    if asked == "auto":
        alone = not replicas.several()
        return "auto" if alone and tf.config.list_physical_devices("GPU") else False
    unknown_layers = [x.name for x in learner._flatten_layers() if not x.supports_jit]
    if asked == "on" and unknown_layers:
        raise UsageError(
            f"--jit on: XLA cannot compile the layer {unknown_layers[0]}; take --jit auto"
        )
    return asked == "on"


def resolved(task, model, strategy):
    """Returns what the flags of a task that are `auto` mean in a run, by their names.

    Args:
        task: a `tasks.engine.task.Task`.
        model: that it trains.
        strategy: name of that in whose scope it does.
    """
    alone = strategy == "one"
    known = task.compilable and all(x.supports_jit for x in model._flatten_layers())
    compiled = alone and known and bool(tf.config.list_physical_devices("GPU"))
    found = {
        "precision": keras.config.dtype_policy().name,
        "jit": "on" if compiled else "off",
        "features": "auto" if alone else "off",
        "strategy": strategy,
    }
    return {name: value for name, value in found.items() if getattr(task, name) == "auto"}


def share_gpus():
    """Lets this process take of the GPUs' memory what it uses, where TensorFlow would take all."""
    if keras.backend.backend() != "tensorflow":
        return
    with suppress(RuntimeError):  # they are in use
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def has_bfloat16():
    """Tells whether the device that a run would use computes in bfloat16 by itself."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())
