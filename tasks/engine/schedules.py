"""How the learning rate changes over a run: one formula per name, warm-up for all."""

from __future__ import annotations

import keras
import numpy as np

# Of the way after warm-up, an array from 0 to 1, and the schedule's own numbers: the share of the
# peak. Step: He et al., 2015; cosine: Loshchilov & Hutter, 2016; one_cycle: Smith & Topin, 2017.
SHAPES = {
    "constant": lambda way, own: np.ones_like(way),
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
    """The learning rate at each step of a run, computed beforehand.

    Keras asks for it once per weight and step, and in a small network a dozen operations each
    time would take longer than the weight's own update.

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
        self.own = {"decay": decay, "milestones": tuple(milestones), "power": power}
        self.config = {"name": name, "peak": peak, "steps": steps, "warmup_steps": warmup_steps}
        rates = peak * _shares(name, steps, warmup_steps, self.own)
        self.rates = keras.ops.convert_to_tensor(rates, "float32")

    def __call__(self, step):
        """Returns the rate of a step, counted from 0; behind the last one, that of the last."""
        return keras.ops.take(self.rates, keras.ops.minimum(step, len(self.rates) - 1))

    def get_config(self):
        """Returns the arguments that make an equal schedule."""
        return {**self.config, **self.own}


def _shares(name, steps, warmup_steps, own):
    """Returns the share of the peak rate at each step, `(steps,)`."""
    cycle = name == "one_cycle"
    warmup = warmup_steps or (int(ONE_CYCLE_WARMUP * steps) if cycle else 0)
    step = np.arange(steps, dtype="float64")
    way = np.clip((step - warmup) / max(steps - warmup, 1), 0, 1)
    if name == "step":  # milestones are said of the whole run
        way = step / steps
    start = ONE_CYCLE_START if cycle else 0.0
    risen = start + (1 - start) * step / max(warmup, 1)
    return np.where(step < warmup, risen, SHAPES[name](way, own))


def _cosine(way):
    return 0.5 * (1 + np.cos(np.pi * way))


def _passed(way, milestones):
    """Counts the milestones that have been passed."""
    return sum((way >= milestone).astype("float64") for milestone in milestones)
