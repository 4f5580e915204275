"""An optimizer with a learning rate per stage of a network, some of which may be frozen."""

from __future__ import annotations

from tasks.engine.param_groups import ParamGroupOptimizer


class LayerwiseOptimizer(ParamGroupOptimizer):
    """Updates those of its variables that are passed: layers may be unfrozen during training.

    Args:
        groups: `(optimizer, variables)` of each group.
    """

    def apply(self, grads, trainable_variables=None):
        """Updates the weights of each group by its own optimizer."""
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        if not self.built:
            self.build(variables)
        pairs = list(zip(grads, variables, strict=True))
        for part in self.parts:
            if own := [pair for pair in pairs if self._optimizer_map(pair[1]) is part]:
                part.apply(*map(list, zip(*own, strict=True)))
        self._iterations.assign_add(1)
