"""The learning rate schedule of a run as a Keras object."""

from __future__ import annotations

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="zoo")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of precomputed learning rates.

    Keras evaluates the schedule once per weight and step; in a small network a dozen operations
    each time would take longer than the update of the weight.

    Args:
        rates: One learning rate per step, `(steps,)`.
        scale: A factor, which is a variable of the optimizer, or `None`.
    """

    def __init__(self, rates, scale=None):
        super().__init__()
        self.values, self.scale = np.asarray(rates, "float32"), scale
        self.rates = keras.ops.convert_to_tensor(self.values)

    def __call__(self, step):
        """Returns the learning rate of a step from 0; after the last step, that of the last."""
        rate = keras.ops.take(self.rates, keras.ops.minimum(step, len(self.values) - 1))
        return rate if self.scale is None else rate * keras.ops.convert_to_tensor(self.scale)

    def then(self, later):
        """Returns this schedule continued by another."""
        return Schedule(np.concatenate([self.values, later.values]), self.scale)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {"rates": self.values.tolist()}
