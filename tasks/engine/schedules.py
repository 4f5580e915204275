"""How the learning rate changes over a run: one formula per name, warm-up for all."""

from __future__ import annotations

import math

import keras
from keras import ops

# Of the way after warm-up, a tensor from 0 to 1, and the schedule's own numbers: the share of the
# peak. Step: He et al., 2015; cosine: Loshchilov & Hutter, 2016; one_cycle: Smith & Topin, 2017.
SHAPES = {
    "constant": lambda way, own: ops.ones_like(way),
    "step": lambda way, own: own["decay"] ** _passed(way, own["milestones"]),
    "exponential": lambda way, own: own["decay"] ** way,
    "polynomial": lambda way, own: own["decay"] + (1 - own["decay"]) * (1 - way) ** own["power"],
    "cosine": lambda way, own: _cosine(way),
    "one_cycle": lambda way, own: ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine(way),
}
NAMES = tuple(SHAPES)

ONE_CYCLE_WARMUP, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1e-4


@keras.saving.register_keras_serializable(package="zoo")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate at each step of a run.

    Args:
        name: a key of `SHAPES`.
        peak: the highest rate.
        steps: optimiser steps of the whole run.
        warmup_steps: steps in which the rate rises in a straight line to the peak; 0 for the
            schedule's own, which is none but for `one_cycle`.
        decay: the factor at each milestone of `step`; what is left of the peak at the end of
            `exponential` and `polynomial`.
        milestones: shares of the run, warm-up included, at which `step` falls.
        power: of `polynomial`; 1 is a straight line.
    """

    def __init__(
        self, name, peak, steps, *, warmup_steps=0, decay=0.1, milestones=(0.5, 0.75), power=1.0
    ):
        super().__init__()
        cycle = name == "one_cycle"
        self.name, self.peak, self.steps = name, peak, steps
        self.warmup_steps = warmup_steps or (int(ONE_CYCLE_WARMUP * steps) if cycle else 0)
        self.start = ONE_CYCLE_START if cycle else 0.0
        self.own = {"decay": decay, "milestones": tuple(milestones), "power": power}

    def __call__(self, step):
        """Returns the rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        after = max(self.steps - self.warmup_steps, 1)
        way = ops.clip((step - self.warmup_steps) / after, 0.0, 1.0)
        if self.name == "step":  # milestones are said of the whole run
            way = ops.minimum(step / self.steps, 1.0)
        rate = self.peak * SHAPES[self.name](way, self.own)
        if not self.warmup_steps:
            return rate
        risen = self.start + (1 - self.start) * step / self.warmup_steps
        return ops.where(step < self.warmup_steps, self.peak * risen, rate)

    def get_config(self):
        """Returns the arguments that make an equal schedule."""
        own = {"name": self.name, "peak": self.peak, "steps": self.steps, **self.own}
        return {**own, "warmup_steps": self.warmup_steps}


def _cosine(way):
    return 0.5 * (1 + ops.cos(math.pi * way))


def _passed(way, milestones):
    """Counts the milestones that have been passed."""
    return sum(ops.cast(way >= milestone, "float32") for milestone in milestones)
