"""Training steps that compile and fit cannot express, in a form that `fit` can run.

TensorFlow alone: Keras gives each backend a step of another form.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tasks.distributed import replicas
from tasks.engine import param_groups
from zoo.errors import UsageError


class CustomStepModel(keras.Model):
    """Networks that a function of its own teaches, step by step.

    Args:
        networks: models that are taught together, by name; `step` finds them as
            `loop.networks`.
        names: of what `step` returns, `loss` among them. The mean of each over an epoch is a
            metric.
        step: `step(loop, batch)` returns a dict of scalars, means over the examples of this
            replica. It changes weights with `minimize`.

    Raises:
        UsageError: Keras runs on another backend than TensorFlow.
    """

    def __init__(self, networks, names, step, **kwargs):
        super().__init__(**kwargs)
        if keras.config.backend() != "tensorflow":
            raise UsageError(
                f"this task learns on TensorFlow alone, not on {keras.config.backend()}; unset "
                "KERAS_BACKEND"
            )
        self.networks, self.step = networks, step
        self.means = {name: keras.metrics.Mean(name) for name in names}
        self.built = True

    def minimize(self, optimizer, loss, tape=None):
        """Takes one step on the weights of an optimiser.

        Args:
            optimizer: one of `optimize.inner_optimizers` of that with which the loop is compiled.
            loss: a function of nothing that returns the mean over this replica's examples.
            tape: a `tf.GradientTape` that has recorded how something came about that the loss is
                made of, so that it need not be made again.

        Returns:
            That mean.
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
        """Takes a step, and returns the means so far."""
        for name, value in self.step(self, data).items():
            self.means[name].update_state(value)
        return {name: mean.result() for name, mean in self.means.items()}
