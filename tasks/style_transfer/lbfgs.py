"""L-BFGS as a Keras optimizer, whose line search evaluates the loss once per training step."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

HISTORY_SIZE = 10  # correction pairs (changes of weights and of gradients) to keep, as in SciPy
ARMIJO_CONSTANT = 1e-4  # sufficient decrease, as a fraction of that predicted by the slope
MIN_SHRINKAGE, MAX_SHRINKAGE = 0.1, 0.5  # bounds of the factor of the step length in backtracking
MAX_LINE_SEARCH_STEPS = 20  # loss evaluations along one direction
CURVATURE_TOLERANCE = 1e-10  # minimum curvature of a pair, relative to its squared gradient change


class LBFGS(keras.optimizers.Optimizer):
    """L-BFGS (Nocedal, 1980) for a deterministic loss.

    Each call of `line_search_step` is one evaluation of the loss. If the loss satisfies the Armijo
    condition with respect to the last accepted point, the current point is accepted and a new
    direction is computed by the two-loop recursion (Nocedal & Wright, 2006, algorithm 7.4).
    Otherwise the step along the current direction is shortened, by quadratic interpolation. All
    state is in variables, so that checkpoints contain it.

    Args:
        learning_rate: factor of the step length.
        scale: maximum change of a weight in the first step.
    """

    def __init__(self, learning_rate=1.0, scale=1.0, **kwargs):
        super().__init__(learning_rate=float(learning_rate), **kwargs)
        self.scale = scale

    def build(self, variables):
        """Creates the state variables for some weights."""
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
        """Moves the weights to the next point at which the loss is to be evaluated.

        Args:
            loss: the loss at the current weights, a scalar.
            gradients: its gradients, one per weight.
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
        """Returns the config of the optimizer."""
        return {**super().get_config(), "scale": self.scale}

    def _new_direction(self, position, gradient, loss, accepted):
        """Computes a new direction at an accepted point, or restarts at the last accepted one."""
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
        """Shortens the step by quadratic interpolation, within bounds."""
        decrease = -self._slope * self._length
        minimum = 0.5 * decrease / tf.maximum(loss - self._loss + decrease, 1e-30)
        minimum = tf.where(tf.math.is_finite(loss), minimum, MIN_SHRINKAGE)
        self._length.assign(self._length * tf.clip_by_value(minimum, MIN_SHRINKAGE, MAX_SHRINKAGE))
        self._tries.assign_add(1.0)
        return True

    def _inverse_hessian_product(self, gradient, pairs):
        """Returns the product of the approximate inverse Hessian and a gradient."""
        # Rows of the pairs, the latest first.
        rows = [(pairs - 1 - back) % HISTORY_SIZE for back in range(HISTORY_SIZE)]
        available = [back < pairs for back in range(HISTORY_SIZE)]
        steps, changes = tf.convert_to_tensor(self._steps), tf.convert_to_tensor(self._changes)
        products = tf.reduce_sum(steps * changes, axis=-1)
        alphas, product = [], gradient
        for row, is_available in zip(rows, available, strict=True):
            alpha = tf.math.divide_no_nan(tf.reduce_sum(steps[row] * product), products[row])
            alphas.append(tf.where(is_available, alpha, 0.0))
            product -= alphas[-1] * changes[row]
        squared_change = tf.reduce_sum(changes[rows[0]] ** 2)
        product *= tf.where(
            available[0], tf.math.divide_no_nan(products[rows[0]], squared_change), 1.0
        )
        for row, is_available, alpha in reversed(list(zip(rows, available, alphas, strict=True))):
            beta = tf.math.divide_no_nan(tf.reduce_sum(changes[row] * product), products[row])
            product += tf.where(is_available, alpha - beta, 0.0) * steps[row]
        return product

    def _assign_flat(self, flat):
        """Assigns the values of a flat vector to the weights."""
        start = 0
        for variable in self._trainable_variables:
            end = start + math.prod(variable.shape)
            variable.assign(tf.reshape(flat[start:end], variable.shape))
            start = end


def _flatten(tensors):
    return tf.concat([tf.reshape(tf.cast(x, tf.float32), [-1]) for x in tensors], axis=0)
