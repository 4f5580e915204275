"""The learning rate of each step of a run, as Keras wants it."""

from __future__ import annotations

import keras

from tasks.engine import rates
from tasks.engine.rates import NAMES

__all__ = ["NAMES", "Schedule"]


@keras.saving.register_keras_serializable(package="zoo")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate at each step of a run, computed beforehand.

    Keras asks for it once per weight and step, and in a small network a dozen operations each
    time would take longer than the weight's own update.

    Args:
        name: one of `NAMES`.
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
        self.own = {"decay": decay, "milestones": tuple(milestones), "power": power}
        self.config = {"name": name, "peak": peak, "steps": steps, "warmup_steps": warmup_steps}
        shares = rates.shares(name, steps, warmup_steps, self.own)
        self.rates = keras.ops.convert_to_tensor(peak * shares, "float32")

    def __call__(self, step):
        """Returns the rate of a step, counted from 0; behind the last one, that of the last."""
        return keras.ops.take(self.rates, keras.ops.minimum(step, len(self.rates) - 1))

    def get_config(self):
        """Returns the arguments that make an equal schedule."""
        return {**self.config, **self.own}
