"""Pooling with a dilation rate."""

from __future__ import annotations

import math

import keras


@keras.saving.register_keras_serializable("zoo")
class DilatedPooling2D(keras.layers.Layer):
    """Pools windows of every `dilation_rate`-th pixel.

    Where a window extends beyond the border, only the pixels inside the image count, as with the
    `same` padding of Keras's pooling layers.

    Args:
        pool_size: height and width of a window, in pixels that are pooled.
        strides: stride from window to window.
        dilation_rate: stride from pixel to pixel within a window.
        padding: pixels of padding: `((top, bottom), (left, right))`.
        average: whether to average, instead of taking the maximum.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        `(batch, new height, new width, channels)`; a side is `ceil((side + padding -
        (pool_size - 1) * dilation_rate) / strides)`.
    """

    def __init__(
        self,
        pool_size,
        strides=1,
        dilation_rate=1,
        padding=((0, 0), (0, 0)),
        average=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_size = tuple(pool_size)
        self.strides, self.dilation_rate = strides, dilation_rate
        self.padding = tuple(tuple(sides) for sides in padding)
        self.average = average

    def call(self, x):
        if not self.average:
            return self._pooled(x, -math.inf, keras.ops.maximum)
        inside = keras.ops.ones_like(x[:1, :, :, :1])
        return self._pooled(x, 0, keras.ops.add) / self._pooled(inside, 0, keras.ops.add)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        lengths = zip(sides, self.padding, self.pool_size, strict=True)
        return batch, *(self._length(*length) for length in lengths), channels

    def get_config(self):
        names = ("pool_size", "strides", "dilation_rate", "padding", "average")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _length(self, side, padding, size):
        reach = (size - 1) * self.dilation_rate
        return None if side is None else -(-(side + sum(padding) - reach) // self.strides)

    def _pooled(self, x, outside, combine):
        """Reduces each window by `combine`; pixels outside the image have the value `outside`."""
        x = keras.ops.pad(x, [(0, 0), *self.padding, (0, 0)], constant_values=outside)
        for axis, size in enumerate(self.pool_size, start=1):
            found = None
            for index in range(size):
                start, left = (self.dilation_rate * count for count in (index, size - 1 - index))
                places = [slice(None)] * 4
                places[axis] = slice(start, -left or None, self.strides)
                part = x[tuple(places)]
                found = part if found is None else combine(found, part)
            x = found
        return x
