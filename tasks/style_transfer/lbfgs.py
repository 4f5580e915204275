"""L-BFGS: curvature from the last steps, and a line search of one look at the loss a step."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

HISTORY_SIZE = 10  # pairs of steps and changes of the gradient that are kept, as SciPy has it
ARMIJO_CONSTANT = (
    1e-4  # share of the fall that the slope promises, from which a step is good (Armijo)
)
MIN_SHRINKAGE, MAX_SHRINKAGE = 0.1, 0.5  # of the step before, that the next one is, when it was not
MAX_LINE_SEARCH_STEPS = 20  # steps along one direction before it is given up
CURVATURE_TOLERANCE = 1e-10  # share of the gradient's change that must lie along the step


class LBFGS(keras.optimizers.Optimizer):
    """Makes a loss small that always says the same of the same weights (Nocedal, 1980).

    Each call of `advance` is one look at the loss. If it has fallen enough since the last point
    that was good, a new direction is taken from there, by the two-loop recursion (Nocedal &
    Wright, 2006, algorithm 7.4); if not, a shorter step along the old one is tried next, as a
    parabola through what is known of it says. All that it knows is in variables, so that a
    checkpoint holds it.

    Args:
        learning_rate: length of the first step, as a share of the gradient's direction scaled to
            `scale`, and factor of all full steps.
        scale: how far the first step may move a weight.
    """

    def __init__(self, learning_rate=1.0, scale=1.0, **kwargs):
        super().__init__(learning_rate=float(learning_rate), **kwargs)
        self.scale = scale

    def build(self, variables):
        """Makes room for what is known of some weights."""
        if self.built:
            return
        super().build(variables)
        size = sum(math.prod(v.shape) for v in variables)
        shapes = {
            "steps": (HISTORY_SIZE, size),
            "changes": (HISTORY_SIZE, size),
            "point": (size,),
            "gradient": (size,),
            "direction": (size,),
            "loss": (),
            "slope": (),
            "length": (),
            "tries": (),
            "pairs": (),
            "begun": (),
        }
        for name, shape in shapes.items():
            setattr(self, f"_{name}", self.add_variable(shape, name=name))

    def line_search_step(self, loss, gradients):
        """Moves the weights on, to where the loss is to be looked at next.

        Args:
            loss: at the weights as they are.
            gradients: of it, one for each weight.
        """
        position = _flatten([tf.convert_to_tensor(v) for v in self._trainable_variables])
        gradient = _flatten(gradients)
        loss = tf.cast(loss, tf.float32)
        sufficient_decrease = ARMIJO_CONSTANT * self._length * self._slope
        accepted = (loss <= self._loss + sufficient_decrease) | (self._begun.value == 0)
        given_up = self._tries >= MAX_LINE_SEARCH_STEPS
        tf.cond(
            accepted | given_up,
            lambda: self._new_direction(position, gradient, loss, accepted),
            lambda: self._backtrack(loss),
        )
        self._assign_flat(self._point + self._length * self._direction)
        self.iterations.assign_add(1)

    def get_config(self):
        """Returns what makes another one like it."""
        return {**super().get_config(), "scale": self.scale}

    def _new_direction(self, position, gradient, loss, accepted):
        """Takes a new direction from a good point, or anew from the last good one."""
        step, change = position - self._point, gradient - self._gradient
        has_curvature = tf.reduce_sum(step * change) > CURVATURE_TOLERANCE * tf.reduce_sum(
            change**2
        )
        pairs = tf.cast(self._pairs.value, tf.int32)
        new = accepted & (self._begun.value > 0) & has_curvature
        row = tf.one_hot(pairs % HISTORY_SIZE, HISTORY_SIZE, on_value=new, off_value=False)[:, None]
        self._steps.assign(tf.where(row, step, self._steps))
        self._changes.assign(tf.where(row, change, self._changes))
        pairs = tf.where(accepted, pairs + tf.cast(new, tf.int32), 0)
        point = tf.where(accepted, position, self._point)
        gradient = tf.where(accepted, gradient, self._gradient)
        direction = -self._inverse_hessian_product(gradient, pairs)
        slope = tf.reduce_sum(direction * gradient)
        first = self.scale / tf.maximum(tf.reduce_max(tf.abs(gradient)), 1e-30)
        use_gradient = (pairs == 0) | (slope >= 0)
        direction = tf.where(use_gradient, -first * gradient, direction)
        self._direction.assign(direction)
        self._slope.assign(tf.reduce_sum(direction * gradient))
        self._point.assign(point)
        self._gradient.assign(gradient)
        self._loss.assign(tf.where(accepted, loss, self._loss))
        self._length.assign(self.learning_rate)
        self._pairs.assign(tf.cast(pairs, tf.float32))
        self._tries.assign(0.0)
        self._begun.assign(1.0)
        return True

    def _backtrack(self, loss):
        """Takes a shorter step along the direction: to the foot of a parabola, within bounds."""
        decrease = -self._slope * self._length
        minimum = 0.5 * decrease / tf.maximum(loss - self._loss + decrease, 1e-30)
        minimum = tf.where(tf.math.is_finite(loss), minimum, MIN_SHRINKAGE)
        self._length.assign(self._length * tf.clip_by_value(minimum, MIN_SHRINKAGE, MAX_SHRINKAGE))
        self._tries.assign_add(1.0)
        return True

    def _inverse_hessian_product(self, gradient, pairs):
        """Returns the product of the inverse Hessian, as far as it is known, with a gradient."""
        rows = [
            (pairs - 1 - back) % HISTORY_SIZE for back in range(HISTORY_SIZE)
        ]  # the latest first
        known = [back < pairs for back in range(HISTORY_SIZE)]
        steps, changes = tf.convert_to_tensor(self._steps), tf.convert_to_tensor(self._changes)
        products = tf.reduce_sum(steps * changes, axis=-1)
        alphas, found = [], gradient
        for row, available in zip(rows, known, strict=True):
            alpha = tf.math.divide_no_nan(tf.reduce_sum(steps[row] * found), products[row])
            alphas.append(tf.where(available, alpha, 0.0))
            found -= alphas[-1] * changes[row]
        length = tf.reduce_sum(changes[rows[0]] ** 2)
        found *= tf.where(known[0], tf.math.divide_no_nan(products[rows[0]], length), 1.0)
        for row, available, alpha in reversed(list(zip(rows, known, alphas, strict=True))):
            back = tf.math.divide_no_nan(tf.reduce_sum(changes[row] * found), products[row])
            found += tf.where(available, alpha - back, 0.0) * steps[row]
        return found

    def _assign_flat(self, flat):
        """Gives the weights the values of one long vector."""
        start = 0
        for variable in self._trainable_variables:
            end = start + math.prod(variable.shape)
            variable.assign(tf.reshape(flat[start:end], variable.shape))
            start = end


def _flatten(tensors):
    return tf.concat([tf.reshape(tf.cast(x, tf.float32), [-1]) for x in tensors], axis=0)
