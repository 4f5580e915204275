"""Wrappers of optimizers: parameter groups with their own learning rates, and loss scaling."""

from __future__ import annotations

import keras

from tasks.distributed import replicas, strategies
from zoo.lazy import tf


class ParamGroupOptimizer(keras.optimizers.MultiOptimizer):
    """Updates each parameter group by its own optimizer, and clips all gradients together.

    Args:
        groups: `(optimizer, variables)` of each group. The optimizers are built here, and keep
            their state when they become part of another `ParamGroupOptimizer`.
        clip_norm: The maximum global norm of the gradients of all groups; 0 for none.
    """

    def __init__(self, groups, clip_norm=0.0):
        for optimizer, variables in groups:
            optimizer.build(variables)
        owners = {id(v): optimizer for optimizer, variables in groups for v in variables}
        super().__init__(lambda variable: owners[id(variable)])
        self.parts, self.clip_norm = [optimizer for optimizer, _ in groups], clip_norm
        if clip_norm and replicas.is_multi_replica():
            for optimizer in self.parts:
                optimizer._sums = list  # the gradients are summed over replicas already

    @property
    def learning_rate(self):
        """The highest learning rate of any group."""
        rates = [optimizer.learning_rate for optimizer in self.parts]
        return keras.ops.max(keras.ops.stack(rates))

    def finalize_variable_values(self, var_list):
        """Does nothing, like those of the groups, some of which may not be built."""

    def apply(self, grads, trainable_variables=None):
        """Updates the weights; gradients are clipped by the norm of all of them."""
        if self.clip_norm:
            if replicas.is_multi_replica():
                grads = replicas.all_reduce_gradients(grads, self.parts[0].compression)
            limit = self.clip_norm * (self.loss_scale_factor or 1)
            norm = keras.ops.sqrt(sum(keras.ops.sum(keras.ops.square(g)) for g in grads))
            factor = limit / keras.ops.maximum(norm, limit)
            grads = [keras.ops.cast(factor, g.dtype) * g for g in grads]
        super().apply(grads, trainable_variables)


class DynamicLossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling for float16: skips steps whose gradients are not finite.

    The optimizer of Keras checks the gradients of one replica before they are summed, and does
    not support a `CustomStepModel`. TensorFlow only.
    """

    def apply(self, grads, trainable_variables=None):
        """Updates the weights, or halves the scale where a gradient is not finite."""
        self.update(self.inner_optimizer, grads, trainable_variables)

    def update(self, part, grads, variables):
        """Updates the weights of one of several optimizers that share the scale.

        Args:
            part: One of `optimize.inner_optimizers` of this one.
            grads: Gradients of the scaled loss, one for each of the variables.
            variables: The variables of the part.
        """
        indices = [i for i, g in enumerate(grads) if g is not None]

        def apply_update(found):
            unscaled = [None] * len(grads)
            for i, g in zip(indices, found, strict=True):
                unscaled[i] = g / tf.cast(self.dynamic_scale, g.dtype)
            part.apply(unscaled, variables)
            steps = tf.convert_to_tensor(self.step_counter) + 1
            should_grow = steps >= self.dynamic_growth_steps
            self.dynamic_scale.assign(self.dynamic_scale * tf.where(should_grow, 2.0, 1.0))
            self.step_counter.assign(tf.where(should_grow, tf.zeros_like(steps), steps))

        def skip(found):
            self.dynamic_scale.assign(self.dynamic_scale / 2)
            self.step_counter.assign(0)

        found = [tf.convert_to_tensor(grads[i]) for i in indices]
        replicas.cond_across_replicas(self._finite(found), apply_update, skip, found)

    def build(self, var_list):
        """Creates the scale, and builds the inner optimizer."""
        if not self.built:
            super().build(var_list)
            self._trainable_variables = []  # the parts have them, in their order

    def _finite(self, grads):
        """Returns whether the gradients of all replicas are finite."""
        num_nonfinite = tf.reduce_sum([tf.cast(~self.check_finite([g]), "float32") for g in grads])
        return strategies.all_reduce_sum(num_nonfinite) == 0
