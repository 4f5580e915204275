"""The learning rate of each step of a run, as Keras wants it."""

from __future__ import annotations

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="zoo")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate at each step of a run, computed beforehand.

    Keras asks for it once per weight and step, and in a small network a dozen operations each
    time would take longer than the weight's own update.

    Args:
        rates: one per step, `(steps,)`.
        scale: a variable that they are multiplied by, or `None`. It is a variable of the optimizer.
    """

    def __init__(self, rates, scale=None):
        super().__init__()
        self.values, self.scale = np.asarray(rates, "float32"), scale
        self.rates = keras.ops.convert_to_tensor(self.values)

    def __call__(self, step):
        """Returns the rate of a step, counted from 0; behind the last one, that of the last."""
        rate = keras.ops.take(self.rates, keras.ops.minimum(step, len(self.values) - 1))
        return rate if self.scale is None else rate * keras.ops.convert_to_tensor(self.scale)

    def then(self, later):
        """Returns the schedule of this one's steps and those of another behind them."""
        return Schedule(np.concatenate([self.values, later.values]), self.scale)

    def get_config(self):
        """Returns the arguments that make an equal schedule."""
        return {"rates": self.values.tolist()}
