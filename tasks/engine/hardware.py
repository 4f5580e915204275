"""What suits the processor that a run is on: its numbers and its compiler."""

from __future__ import annotations

from tasks.distributed import replicas
from zoo.errors import UsageError
from zoo.lazy import keras, tf

MAX_FLOPS_PER_EXECUTION = 1e10  # FLOPs that are over in a fraction of a second on any machine
MAX_STEPS_PER_EXECUTION = 32


def steps_per_execution(flops):
    """Returns how many steps to run without coming back to Python, from 1 to `MOST_STEPS`.

    Args:
        flops: of the model for the examples of one step, forwards; 0 if they are not known.
    """
    return (
        max(1, min(MAX_STEPS_PER_EXECUTION, int(MAX_FLOPS_PER_EXECUTION // (3 * flops))))
        if flops
        else 1
    )


def compile_options(task, training_model):
    """Returns what `compile` is told besides optimiser, loss and metrics, as keyword arguments.

    Called inside the strategy's scope. Batch normalisation is synchronised here, or not.

    Args:
        task: a `tasks.engine.task.Task`.
        training_model: a `keras.Model` that is not compiled yet.

    Raises:
        UsageError: the replicas of the scope cannot do what the flags say, or XLA cannot.
    """
    replicas.check_replicas(task)
    replicas.set_sync_batch_norm(
        training_model, task.sync_batch_norm == "on" and replicas.is_multi_replica()
    )
    return {
        "jit_compile": jit_compile(task.jit_compile if task.compilable else "off", training_model)
    }


def jit_compile(setting, training_model):
    """Returns Keras's `jit_compile` for training here.

    Args:
        setting: `on`, `off`, or `auto`: XLA for a GPU that is alone. On a CPU, where Keras would
            use
            it too, XLA compiles for long and its convolutions are slower than TensorFlow's own;
            and it compiles for one device, where Keras hands it the step of all replicas.
        training_model: a `keras.Model`.

    Raises:
        UsageError: `on` is asked for a model with layers that XLA does not know.
    """
    if setting == "auto":
        alone = not replicas.is_multi_replica()
        return "auto" if alone and tf.config.list_physical_devices("GPU") else False
    unknown_layers = [x.name for x in training_model._flatten_layers() if not x.supports_jit]
    if setting == "on" and unknown_layers:
        raise UsageError(
            f"--jit-compile on: XLA cannot compile the layer {unknown_layers[0]}; "
            "take --jit-compile auto"
        )
    return setting == "on"


def resolve_auto_flags(task, model, strategy):
    """Returns what the flags of a task that are `auto` mean in a run, by their names.

    Args:
        task: a `tasks.engine.task.Task`.
        model: that it trains.
        strategy: name of that in whose scope it does.
    """
    alone = strategy == "one"
    jit_supported = task.compilable and all(x.supports_jit for x in model._flatten_layers())
    compiled = alone and jit_supported and bool(tf.config.list_physical_devices("GPU"))
    found = {
        "precision": keras.config.dtype_policy().name,
        "jit_compile": "on" if compiled else "off",
        "features": "auto" if alone else "off",
        "strategy": strategy,
    }
    return {name: value for name, value in found.items() if getattr(task, name) == "auto"}
