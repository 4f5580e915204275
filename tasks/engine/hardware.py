"""Compilation options and resolved `auto` flags for the hardware of a run."""

from __future__ import annotations

from tasks.distributed import replicas
from zoo.errors import UsageError
from zoo.lazy import keras, tf

MAX_FLOPS_PER_EXECUTION = 1e10  # a fraction of a second on any machine
MAX_STEPS_PER_EXECUTION = 32


def steps_per_execution(flops):
    """Returns the number of steps per execution, from 1 to `MAX_STEPS_PER_EXECUTION`.

    Args:
        flops: FLOPs of the forward pass of one step; 0 if unknown.
    """
    return (
        max(1, min(MAX_STEPS_PER_EXECUTION, int(MAX_FLOPS_PER_EXECUTION // (3 * flops))))
        if flops
        else 1
    )


def compile_options(task, training_model):
    """Returns further keyword arguments of `compile`, and applies `--sync-batch-norm`.

    Called within the strategy's scope.

    Args:
        task: A `tasks.engine.task.Task`.
        training_model: A `keras.Model` that is not compiled yet.

    Raises:
        UsageError: The flags do not suit the replicas of the scope, or XLA.
    """
    replicas.check_replicas(task)
    replicas.set_sync_batch_norm(
        training_model, task.sync_batch_norm == "on" and replicas.is_multi_replica()
    )
    return {
        "jit_compile": jit_compile(task.jit_compile if task.compilable else "off", training_model)
    }


def jit_compile(setting, training_model):
    """Returns the `jit_compile` argument of Keras for training on this hardware.

    Args:
        setting: `on`, `off`, or `auto`: XLA on a single GPU, and on JAX, which without it runs
            one operation after the other. On a CPU, where Keras would use it too, it takes long to
            compile and its convolutions are slower than those of TensorFlow; and it compiles for
            one device, while Keras passes it the step of all replicas.
        training_model: A `keras.Model`.

    Raises:
        UsageError: `on` for a model with layers that XLA does not support.
    """
    if setting == "auto":
        return "auto" if _prefers_xla() and not replicas.is_multi_replica() else False
    unknown_layers = [x.name for x in training_model._flatten_layers() if not x.supports_jit]
    if setting == "on" and unknown_layers:
        raise UsageError(
            f"--jit-compile on: XLA cannot compile the layer {unknown_layers[0]}; "
            "use --jit-compile auto"
        )
    return setting == "on"


def resolve_auto_flags(task, model, strategy, features):
    """Returns the values to which the flags of a task that are `auto` were resolved, by name.

    Args:
        task: A `tasks.engine.task.Task`.
        model: The model that it trains.
        strategy: The name of the strategy.
        features: What `--features` means for the run.
    """
    jit_supported = task.compilable and all(x.supports_jit for x in model._flatten_layers())
    compiled = strategy == "one" and jit_supported and _prefers_xla()
    found = {
        "precision": keras.config.dtype_policy().name,
        "jit_compile": "on" if compiled else "off",
        "features": features,
        "strategy": strategy,
    }
    return {name: value for name, value in found.items() if getattr(task, name) == "auto"}


def _prefers_xla():
    return keras.backend.backend() == "jax" or bool(tf.config.list_physical_devices("GPU"))
