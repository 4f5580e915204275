"""Several optimisers as one: groups of weights with rates and moments of their own."""

from __future__ import annotations

import keras


class Groups(keras.optimizers.MultiOptimizer):
    """Updates each group of weights by its own optimiser, and clips all their gradients together.

    Args:
        members: `(optimizer, variables)` of each group. The optimisers are built here, and keep
            what they know when they are handed on to another `Groups`.
        clip_norm: longest gradient, all groups together; 0 for any.
    """

    def __init__(self, members, clip_norm=0.0):
        for optimizer, variables in members:
            optimizer.build(variables)
        owners = {id(v): optimizer for optimizer, variables in members for v in variables}
        super().__init__(lambda variable: owners[id(variable)])
        self.parts, self.clip_norm = [optimizer for optimizer, _ in members], clip_norm

    @property
    def learning_rate(self):
        """The highest rate of any group."""
        rates = [optimizer.learning_rate for optimizer in self.parts]
        return keras.ops.max(keras.ops.stack(rates))

    def finalize_variable_values(self, var_list):
        """Does nothing at the end of `fit`, as the members, and asks nobody who was not built."""

    def apply(self, grads, trainable_variables=None):
        """Updates the weights; gradients are clipped by the norm of all of them."""
        if self.clip_norm:
            limit = self.clip_norm * (self.loss_scale_factor or 1)
            norm = keras.ops.sqrt(sum(keras.ops.sum(keras.ops.square(g)) for g in grads))
            factor = limit / keras.ops.maximum(norm, limit)
            grads = [keras.ops.cast(factor, g.dtype) * g for g in grads]
        super().apply(grads, trainable_variables)
