"""Max pooling with indices, and unpooling with them."""

from __future__ import annotations

import keras

POOL_SIZE = 2  # height and width of the windows in pixels


@keras.saving.register_keras_serializable("zoo")
class ArgmaxPooling2D(keras.layers.Layer):
    """Returns the maximum of every 2 x 2 pixels, and its index in the window.

    In maps of an odd size the last row or column is repeated. If values are equal, the index is
    that of the first one, in row-major order. It has no weights.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        The maxima, `(batch, ceil(height / 2), ceil(width / 2), channels)`, and their indices, an
        int8 tensor of the same shape, `2 * row + column` inside the window.

    Reference:
        Badrinarayanan et al., 2015, section 3.
    """

    def call(self, x):
        for axis in (1, 2):
            x = _pad_to_even(x, axis)
        # JAX needs explicit strides, as a pair.
        maxima = keras.ops.max_pool(
            x, (POOL_SIZE, POOL_SIZE), (POOL_SIZE, POOL_SIZE), data_format="channels_last"
        )
        # From the last to the first, so that the first of equal values remains.
        indices = keras.ops.full_like(maxima, POOL_SIZE * POOL_SIZE - 1, dtype="int8")
        for index in reversed(range(POOL_SIZE * POOL_SIZE - 1)):
            row, column = divmod(index, POOL_SIZE)
            is_maximum = keras.ops.equal(x[:, row::POOL_SIZE, column::POOL_SIZE, :], maxima)
            indices = keras.ops.where(is_maximum, keras.ops.cast(index, "int8"), indices)
        return maxima, indices

    def compute_output_spec(self, x):
        batch, *sides, channels = x.shape
        shape = (
            batch,
            *(None if side is None else -(-side // POOL_SIZE) for side in sides),
            channels,
        )
        return keras.KerasTensor(shape, self.compute_dtype), keras.KerasTensor(shape, "int8")


@keras.saving.register_keras_serializable("zoo")
class MaxUnpooling2D(keras.layers.Layer):
    """Puts each value where the maximum of its window was, and zeros elsewhere.

    Call arguments:
        inputs: values, `(batch, height, width, channels)`, and the indices from
            `ArgmaxPooling2D`, of the same shape.

    Returns:
        `(batch, 2 * height, 2 * width, channels)`.

    Reference:
        Badrinarayanan et al., 2015, figure 3.
    """

    def call(self, inputs):
        x, indices = inputs
        _, *sides, channels = x.shape
        rows, columns = (
            keras.ops.shape(x)[i] if side is None else side for i, side in enumerate(sides, 1)
        )
        parts = [
            keras.ops.where(keras.ops.equal(indices, index), x, keras.ops.zeros_like(x))
            for index in range(POOL_SIZE * POOL_SIZE)
        ]
        lines = [
            keras.ops.stack(parts[POOL_SIZE * row : POOL_SIZE * row + POOL_SIZE], axis=3)
            for row in range(POOL_SIZE)
        ]
        lines = keras.ops.stack(lines, axis=2)  # batch, rows, 2, columns, 2, channels
        return keras.ops.reshape(lines, (-1, POOL_SIZE * rows, POOL_SIZE * columns, channels))

    def compute_output_shape(self, input_shape):
        (batch, *sides, channels), _ = input_shape
        return batch, *(None if side is None else POOL_SIZE * side for side in sides), channels


def _pad_to_even(x, axis):
    """Repeats the last row or column of maps that have an odd number of them."""
    side = x.shape[axis]
    if side is not None and side % POOL_SIZE == 0:
        return x
    side = keras.ops.shape(x)[axis] if side is None else side
    indices = keras.ops.arange(0, side + side % POOL_SIZE, dtype="int32")
    return keras.ops.take(x, keras.ops.minimum(indices, side - 1), axis=axis)
