"""Custom training steps, for `fit`, that a compiled loss cannot express.

TensorFlow only: the training step has another form on each backend of Keras.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tasks.distributed import replicas
from tasks.engine import param_groups
from zoo.errors import UsageError


class CustomStepModel(keras.Model):
    """Networks that are trained by a custom step.

    Args:
        networks: Models that are trained together, by name, as the attribute `networks`.
        names: Names of the scalars that `step` returns, including `loss`. The mean of each over
            an epoch is a metric.
        step: `step(custom_step_model, batch)` returns a dict of scalars, means over the examples
            of this replica. It updates weights with `minimize`.

    Raises:
        UsageError: The backend of Keras is not TensorFlow.
    """

    def __init__(self, networks, names, step, **kwargs):
        super().__init__(**kwargs)
        if keras.config.backend() != "tensorflow":
            raise UsageError(
                f"this task trains on TensorFlow only, not on {keras.config.backend()}; unset "
                "KERAS_BACKEND"
            )
        self.networks, self.step = networks, step
        self.means = {name: keras.metrics.Mean(name) for name in names}
        self.built = True

    def minimize(self, optimizer, loss, tape=None):
        """Takes one step on the weights of an optimizer.

        Args:
            optimizer: One of `optimize.inner_optimizers` of the compiled optimizer.
            loss: A function without arguments that returns the mean loss of this replica.
            tape: A `tf.GradientTape` that has recorded intermediate results of the loss, which
                then need not be computed again.

        Returns:
            The mean loss of this replica.
        """
        with tape or tf.GradientTape() as tape:
            value = loss()
            share = value / replicas.num_replicas()
            share = self.optimizer.scale_loss(share)
        variables = optimizer._trainable_variables
        gradients = tape.gradient(share, variables)
        if isinstance(self.optimizer, param_groups.DynamicLossScaleOptimizer):
            self.optimizer.update(optimizer, gradients, variables)
        else:
            optimizer.apply(gradients, variables)
        return value

    def train_step(self, data):
        """Takes a step, and returns the running means."""
        for name, value in self.step(self, data).items():
            self.means[name].update_state(value)
        return {name: mean.result() for name, mean in self.means.items()}
