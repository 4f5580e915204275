"""Optimisers and schedules, by the names that the field has for them."""

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

SGD_VARIANTS = {  # names for Keras's SGD: with which of its options
    "sgd": {"momentum": False, "nesterov": False},
    "momentum": {"momentum": True, "nesterov": False},
    "nesterov": {"momentum": True, "nesterov": True},
}
WRAPPERS = ("optimizer", "lossscaleoptimizer", "multioptimizer")  # no optimisers by themselves
NO_DECAY_NAMES = ["bias", "gamma", "beta"]  # parts of the names of variables without weight decay
NO_DECAY_EMBEDDINGS = re.compile(
    r"(^|/)(class_token|positions)/"
)  # in paths of variables: likewise (ViT)
# Weight decay where the flag leaves it to the optimiser. That of AdamW is multiplied by rates of
# 1e-3 or less: of 1e-4, 0.05, 0.5 the first did nothing (docs/fine-tuning.md).
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
    """Returns the optimiser called `name`; made for replicas if it is in the scope of several.

    Args:
        name: `sgd`, `momentum` (Polyak, 1964), `nesterov` (Sutskever et al., 2013), or the name
            of any other of Keras's classes in lower case, such as `adagrad`, `rmsprop`, `adam`,
            `adamw` or `lion`.
        rate: a number or a schedule.
        momentum: given to optimisers that have one.
        weight_decay: decoupled: each update takes `rate * weight_decay` of every kernel away,
            and nothing of biases and normalisation.
        clip_norm: longest gradient, all weights together (Pascanu et al., 2013); 0 for any.
        gradient_accumulation_steps: steps whose gradients are averaged into one update.
        ema_decay: decay, per update, of a running average of the weights (Polyak & Juditsky,
            1992), which `averaged` lends to the model; 0 for none.
        compression: one of `replicas.GRADIENT_COMPRESSIONS`: how gradients travel between replicas.
    """
    make = optimizer_class(name)
    known = inspect.signature(make).parameters
    requested = {"momentum": momentum, "weight_decay": weight_decay or None}
    options = {key: value for key, value in requested.items() if key in known}
    if name.lower() in SGD_VARIANTS:
        has = SGD_VARIANTS[name.lower()]
        options |= {"momentum": momentum * has["momentum"], "nesterov": has["nesterov"]}
    if name.lower() == "adamw":
        options["weight_decay"] = weight_decay  # its own default is not none
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    if gradient_accumulation_steps > 1:
        options["gradient_accumulation_steps"] = gradient_accumulation_steps
    if ema_decay:  # Keras takes the average at each step, also at those that only accumulate
        options |= {"use_ema": True, "ema_momentum": ema_decay ** (1 / gradient_accumulation_steps)}
    made = (replicas.distributed_optimizer(make) if replicas.is_multi_replica() else make)(
        rate, **options
    )
    made.compression = compression
    if getattr(rate, "scale", None) is not None:
        made._track_variable(rate.scale)  # so that it is known to a compiled step, on JAX too
    made.exclude_from_weight_decay(var_names=NO_DECAY_NAMES)
    # `fit` would end in putting the averages in the place of the weights that go on learning.
    made.finalize_variable_values = lambda variables: None
    return made


def exclude_embeddings_from_weight_decay(optimizer, variables):
    """Excludes learned tokens and positions from weight decay, besides biases and normalisation.

    Args:
        optimizer: of Keras, not yet built.
        variables: those that it is to update.
    """
    embeddings = [variable for variable in variables if NO_DECAY_EMBEDDINGS.search(variable.path)]
    optimizer.exclude_from_weight_decay(var_list=embeddings, var_names=NO_DECAY_NAMES)


def optimizer_from_flags(task, rates, *, clip=True):
    """Returns the optimiser that a task's flags describe, for a schedule of rates."""
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
    """Returns the weight decay of the optimiser called `name` where no other is asked for."""
    return DEFAULT_WEIGHT_DECAYS.get(name.lower(), DEFAULT_WEIGHT_DECAY)


def optimizer_class(name):
    """Returns the class of the optimiser called `name`, in any case of letters."""
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer)
    }
    for wrapper in WRAPPERS:
        classes.pop(wrapper, None)
    classes |= dict.fromkeys(SGD_VARIANTS, keras.optimizers.SGD)
    if name.lower() not in classes:
        raise unknown_name_error("optimiser", name, sorted(classes))
    return classes[name.lower()]


@contextmanager
def ema_weights(optimizer):
    """Lends weights their running averages, if the optimiser that updates them takes such."""
    own = [(weight, keras.ops.convert_to_numpy(weight)) for weight, _ in _ema_pairs(optimizer)]
    load_ema_weights(optimizer)
    try:
        yield
    finally:
        for weight, value in own:
            weight.assign(value)


def load_ema_weights(optimizer):
    """Replaces the weights that an optimiser updates by their running averages, if it has them."""
    for weight, average in _ema_pairs(optimizer):
        weight.assign(average)


def with_loss_scaling(optimizer):
    """Returns an optimiser that scales losses, if float16 is computed in, or it as it is.

    It is for models that are made now, in this scope, by the dtype policy of now.
    """
    is_float16 = keras.config.dtype_policy().name == "mixed_float16"
    known = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not is_float16 or known or keras.backend.backend() != "tensorflow":
        return optimizer
    made = param_groups.DynamicLossScaleOptimizer(optimizer)
    made.build([v for part in inner_optimizers(optimizer) for v in part._trainable_variables])
    return made


def optimizer_variables(optimizer):
    """Returns the variables of an optimiser that change in a run: moments, counters, scales."""
    found = [variable for part in inner_optimizers(optimizer) for variable in part.variables]
    inner = getattr(optimizer, "inner_optimizer", None)
    return [*found, *(optimizer._variables if inner else ())]


def inner_optimizers(optimizer):
    """Returns the optimisers that one consists of: itself, or those of its groups of weights."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # float16 scales the loss
    return list(getattr(optimizer, "parts", [optimizer]))


def _ema_pairs(optimizer):
    """Returns `(weight, running average)` of the weights that an optimiser updates."""
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
    """Returns the learning rate over a run, as a Keras schedule.

    Args:
        name: one of `SCHEDULES`.
        peak: the highest rate.
        steps: optimiser steps of the whole run.
        warmup_steps: steps in which the rate rises in a straight line to the peak; where 0,
            the schedule's own share of the run.
        **options: the numbers `decay`, `milestones` and `power` of `schedule_shapes.multipliers`.

    Raises:
        UsageError: the warm-up leaves nothing of the run.
    """
    if warmup_steps >= steps:
        raise UsageError(
            f"a warm-up of {warmup_steps} steps leaves nothing of a run of {steps}; shorten it"
        )
    own = {"decay": 0.1, "milestones": (0.5, 0.75), "power": 1.0, **options}
    scale = None
    if name == PLATEAU:
        scale = keras.Variable(1.0, trainable=False, autocast=False, name="rate_scale")
    return schedules.Schedule(
        peak * schedule_shapes.multipliers(name, steps, warmup_steps, own), scale
    )


def set_rate_factor(optimizer, factor):
    """Multiplies the rates of an optimiser by a factor, where its schedule is `plateau`."""
    for part in inner_optimizers(optimizer):
        scale = getattr(getattr(part, "_learning_rate", None), "scale", None)
        if scale is not None:
            scale.assign(factor)


def plateau_factor(task, history):
    """Returns the factor of the rates after some epochs of a stage, by the schedule `plateau`.

    Each time that `--plateau-patience` epochs bring no better validation figure, the one that the
    best epoch is chosen by, the rates are multiplied by `--decay-factor`. It is the training loss
    where there is no validation.

    Args:
        task: whose flags say so.
        history: a row per epoch of the stage so far.
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
    """Returns the schedule that a task's flags describe, for some steps in so many of its epochs.

    Where these are a stage of a plan, which may be as short as the warm-up, the warm-up is half of
    it at most.
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
    """Returns the milestones that a flag names, shares of the run such as `0.5,0.75`.

    Raises:
        UsageError: they are no rising numbers between 0 and 1.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [0.0]
    if found != sorted(set(found)) or not all(0 < share < 1 for share in found):
        raise UsageError(
            f"--milestones takes rising shares of the run such as 0.5,0.75; not {text!r}"
        )
    return tuple(found)
