"""Optimizers and learning rate schedules by name."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager

from tasks.distributed import replicas
from tasks.engine import schedule_shapes
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, keras

param_groups = LazyModule("tasks.engine.param_groups")
schedules = LazyModule("tasks.engine.schedules")

SCHEDULES, PLATEAU = schedule_shapes.SCHEDULE_NAMES, "plateau"

SGD_VARIANTS = {  # names of Keras's SGD with options
    "sgd": {"momentum": False, "nesterov": False},
    "momentum": {"momentum": True, "nesterov": False},
    "nesterov": {"momentum": True, "nesterov": True},
}
WRAPPERS = ("optimizer", "lossscaleoptimizer", "multioptimizer")  # not optimizers by themselves
NO_DECAY_NAMES = ["bias", "gamma", "beta"]  # of variables without weight decay
NO_DECAY_EMBEDDINGS = re.compile(r"(^|/)(class_token|positions)/")  # the same, of ViT
# The default weight decay by optimizer. That of AdamW is multiplied by learning rates of 1e-3 or
# less: of 1e-4, 0.05 and 0.5, the first had no effect (docs/fine-tuning.md).
DEFAULT_WEIGHT_DECAYS = {"adamw": 0.05}
DEFAULT_WEIGHT_DECAY = 1e-4


def create_optimizer(
    name,
    rate,
    *,
    momentum=0.9,
    weight_decay=0.0,
    clip_norm=0.0,
    gradient_accumulation_steps=1,
    ema_decay=0.0,
    compression="none",
):
    """Returns the optimizer called `name`, a distributed one in the scope of several replicas.

    Args:
        name: `sgd`, `momentum` (Polyak, 1964), `nesterov` (Sutskever et al., 2013), or the name
            of any other Keras optimizer in lower case, such as `adagrad`, `rmsprop`, `adam`,
            `adamw` or `lion`.
        rate: The learning rate, a number or a schedule.
        momentum: The momentum of optimizers that have one.
        weight_decay: Decoupled weight decay: each update subtracts `rate * weight_decay` times
            the kernel. Biases and normalization parameters are not decayed.
        clip_norm: The maximum global norm of the gradients (Pascanu et al., 2013); 0 for none.
        gradient_accumulation_steps: Steps whose gradients are averaged into one update.
        ema_decay: Decay per update of an exponential moving average of the weights (Polyak &
            Juditsky, 1992), which `ema_weights` swaps in; 0 for none.
        compression: The data type of gradients between replicas, one of
            `replicas.GRADIENT_COMPRESSIONS`.
    """
    make = optimizer_class(name)
    known = inspect.signature(make).parameters
    requested = {"momentum": momentum, "weight_decay": weight_decay or None}
    options = {key: value for key, value in requested.items() if key in known}
    if name.lower() in SGD_VARIANTS:
        has = SGD_VARIANTS[name.lower()]
        options |= {"momentum": momentum * has["momentum"], "nesterov": has["nesterov"]}
    if name.lower() == "adamw":
        options["weight_decay"] = weight_decay  # the default of Keras is not 0
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    if gradient_accumulation_steps > 1:
        options["gradient_accumulation_steps"] = gradient_accumulation_steps
    if ema_decay:  # Keras averages after each step, also where it only accumulates
        options |= {"use_ema": True, "ema_momentum": ema_decay ** (1 / gradient_accumulation_steps)}
    made = (replicas.distributed_optimizer(make) if replicas.is_multi_replica() else make)(
        rate, **options
    )
    made.compression = compression
    if getattr(rate, "scale", None) is not None:
        made._track_variable(rate.scale)  # so that a compiled step has it as state, on JAX too
    made.exclude_from_weight_decay(var_names=NO_DECAY_NAMES)
    # At its end `fit` would replace the weights, which are trained further, by their averages.
    made.finalize_variable_values = lambda variables: None
    return made


def exclude_embeddings_from_weight_decay(optimizer, variables):
    """Excludes learned tokens and positions from weight decay, besides biases and normalization.

    Args:
        optimizer: A Keras optimizer that is not built yet.
        variables: The variables that it will update.
    """
    embeddings = [variable for variable in variables if NO_DECAY_EMBEDDINGS.search(variable.path)]
    optimizer.exclude_from_weight_decay(var_list=embeddings, var_names=NO_DECAY_NAMES)


def optimizer_from_flags(task, rates, *, clip=True):
    """Returns the optimizer that a task's flags describe, for a schedule of rates."""
    return create_optimizer(
        task.optimizer,
        rates,
        momentum=task.momentum,
        weight_decay=default_weight_decay(task.optimizer)
        if task.weight_decay < 0
        else task.weight_decay,
        clip_norm=task.clip_norm if clip else 0.0,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        ema_decay=task.ema_decay,
        compression=task.gradient_compression,
    )


def default_weight_decay(name):
    """Returns the default weight decay of the optimizer called `name`."""
    return DEFAULT_WEIGHT_DECAYS.get(name.lower(), DEFAULT_WEIGHT_DECAY)


def optimizer_class(name):
    """Returns the class of the optimizer called `name`; case does not matter."""
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer)
    }
    for wrapper in WRAPPERS:
        classes.pop(wrapper, None)
    classes |= dict.fromkeys(SGD_VARIANTS, keras.optimizers.SGD)
    if name.lower() not in classes:
        raise unknown_name_error("optimizer", name, sorted(classes))
    return classes[name.lower()]


@contextmanager
def ema_weights(optimizer):
    """Swaps in the moving averages of the weights, if the optimizer computes them."""
    own = [(weight, keras.ops.convert_to_numpy(weight)) for weight, _ in _ema_pairs(optimizer)]
    load_ema_weights(optimizer)
    try:
        yield
    finally:
        for weight, value in own:
            weight.assign(value)


def load_ema_weights(optimizer):
    """Replaces the weights by their moving averages, if the optimizer computes them."""
    for weight, average in _ema_pairs(optimizer):
        weight.assign(average)


def with_loss_scaling(optimizer):
    """Returns an optimizer with loss scaling under a float16 policy, otherwise the same one.

    The current dtype policy and scope must be those in which the model is built.
    """
    is_float16 = keras.config.dtype_policy().name == "mixed_float16"
    known = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not is_float16 or known or keras.backend.backend() != "tensorflow":
        return optimizer
    made = param_groups.DynamicLossScaleOptimizer(optimizer)
    made.build([v for part in inner_optimizers(optimizer) for v in part._trainable_variables])
    return made


def optimizer_variables(optimizer):
    """Returns the variables of an optimizer that change: moments, counters, loss scales."""
    found = [variable for part in inner_optimizers(optimizer) for variable in part.variables]
    inner = getattr(optimizer, "inner_optimizer", None)
    return [*found, *(optimizer._variables if inner else ())]


def inner_optimizers(optimizer):
    """Returns the optimizers of the parameter groups, or the optimizer itself."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # float16 scales the loss
    return list(getattr(optimizer, "parts", [optimizer]))


def _ema_pairs(optimizer):
    """Returns pairs `(weight, moving average)` of the weights that an optimizer updates."""
    return [
        (weight, average)
        for part in inner_optimizers(optimizer)
        if part.use_ema
        for weight, average in zip(
            part._trainable_variables, part._model_variables_moving_average, strict=True
        )
        if average is not None
    ]


def create_schedule(name, peak, *, steps, warmup_steps=0, **options):
    """Returns a Keras learning rate schedule.

    Args:
        name: One of `SCHEDULES`.
        peak: The peak learning rate.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear warmup to the peak; 0 for the default of the schedule.
        **options: `decay`, `milestones` and `power` of `schedule_shapes.multipliers`.

    Raises:
        UsageError: The warmup is as long as the run.
    """
    if warmup_steps >= steps:
        raise UsageError(
            f"a warmup of {warmup_steps} steps is as long as the run, which has {steps}; shorten it"
        )
    own = {"decay": 0.1, "milestones": (0.5, 0.75), "power": 1.0, **options}
    scale = None
    if name == PLATEAU:
        scale = keras.Variable(1.0, trainable=False, autocast=False, name="rate_scale")
    return schedules.Schedule(
        peak * schedule_shapes.multipliers(name, steps, warmup_steps, own), scale
    )


def set_rate_factor(optimizer, factor):
    """Sets the factor of an optimizer's learning rates, if its schedule is `plateau`."""
    for part in inner_optimizers(optimizer):
        scale = getattr(getattr(part, "_learning_rate", None), "scale", None)
        if scale is not None:
            scale.assign(factor)


def plateau_factor(task, history):
    """Returns the factor of the learning rates by the `plateau` schedule.

    Each time that the monitored metric does not improve for `--plateau-patience` epochs, the
    learning rates are multiplied by `--decay-factor`. Without validation the training loss is
    monitored.

    Args:
        task: The task with these flags.
        history: One row per epoch of the stage so far.
    """
    factor, waited, best = 1.0, 0, None
    for row in history:
        better = best is None or (
            task.better(row, best) if task.monitored_values(row) else row["loss"] < best["loss"]
        )
        best, waited = (row, 0) if better else (best, waited + 1)
        if waited == task.plateau_patience:
            factor, waited = factor * task.decay_factor, 0
    return factor


def schedule_from_flags(task, peak, steps, epochs):
    """Returns the schedule that a task's flags describe, for `steps` steps in `epochs` epochs.

    In a stage of a plan, which may be as short as the warmup, the warmup is limited to half of it.
    """
    warmup = round(task.warmup_epochs * steps / epochs)
    return create_schedule(
        task.schedule,
        peak * task.rate_factor(),
        steps=steps,
        warmup_steps=warmup if epochs == task.epochs else min(warmup, steps // 2),
        decay=task.decay_factor,
        milestones=parse_milestones(task.milestones),
        power=task.power,
    )


def parse_milestones(text):
    """Returns the milestones of a flag, fractions of the run such as `0.5,0.75`.

    Raises:
        UsageError: They are not ascending numbers between 0 and 1.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [0.0]
    if found != sorted(set(found)) or not all(0 < share < 1 for share in found):
        raise UsageError(
            f"--milestones takes ascending fractions of the run such as 0.5,0.75, not {text!r}"
        )
    return tuple(found)
