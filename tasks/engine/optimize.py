"""Optimisers and schedules, by Keras's names."""

from __future__ import annotations

import inspect

from zoo.errors import UsageError, unknown
from zoo.lazy import keras

SCHEDULES = {  # share of the run that warms up, rate it starts at, rate it ends at; of the peak
    "constant": {"warmup": 0.0, "start": 0.0, "end": 1.0},
    "cosine": {"warmup": 0.0, "start": 0.0, "end": 0.0},
    "one_cycle": {"warmup": 0.3, "start": 1 / 25, "end": 1e-4},  # Smith & Topin, 2017
}

WRAPPERS = ("optimizer", "lossscaleoptimizer", "multioptimizer")  # no optimisers by themselves
UNDECAYED = ["bias", "gamma", "beta"]  # parts of variable names that decay would only hurt


def optimizer(name, rate, *, momentum=0.9, weight_decay=0.0):
    """Returns the Keras optimiser called `name`.

    Args:
        name: its class name in lower case, such as `adamw`.
        rate: a number or a schedule.
        momentum: given to optimisers that have one; Nesterov's where they know it.
        weight_decay: decoupled: each step takes `rate * weight_decay` of every kernel away,
            and nothing of biases and normalisation.
    """
    make = find(name)
    known = inspect.signature(make).parameters
    wanted = {"momentum": momentum, "nesterov": momentum > 0, "weight_decay": weight_decay or None}
    options = {key: value for key, value in wanted.items() if key in known}
    if name.lower() == "adamw":
        options["weight_decay"] = weight_decay  # its own default is not none
    made = make(rate, **options)
    made.exclude_from_weight_decay(var_names=UNDECAYED)
    return made


def find(name):
    """Returns the class of the Keras optimiser called `name`, in any case of letters."""
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer)
    }
    for wrapper in WRAPPERS:
        classes.pop(wrapper, None)
    if name.lower() not in classes:
        raise unknown("optimiser", name, sorted(classes))
    return classes[name.lower()]


def schedule(name, peak, *, steps, warmup_steps=0):
    """Returns the learning rate over a run, as a Keras schedule.

    Args:
        name: a key of `SCHEDULES`.
        peak: the highest rate.
        steps: optimiser steps of the whole run.
        warmup_steps: steps in which the rate rises in a straight line to the peak; where 0,
            the schedule's own share of the run.
    """
    shape = SCHEDULES[name]
    warmup = int(warmup_steps or shape["warmup"] * steps)
    if warmup >= steps:
        raise UsageError(
            f"a warm-up of {warmup} steps leaves nothing of a run of {steps}; shorten it"
        )
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(peak, steps, alpha=shape["end"])
    return keras.optimizers.schedules.CosineDecay(
        peak * shape["start"],
        steps - warmup,
        alpha=shape["end"],
        warmup_target=peak,
        warmup_steps=warmup,
    )
