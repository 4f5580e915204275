"""Padding, cropping and resizing, so that networks of certain sizes take images of any size."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo", name="MirrorPadding2D")
class ReflectPadToMultiple2D(keras.layers.Layer):
    """Pads images by reflection, to sizes that a network takes.

    Computes in float32 at least, as `PixelNormalization` does. It has no weights.

    Args:
        multiple: pixels are added at the bottom and on the right until height and width are
            `remainder` modulo `multiple`.
        remainder: remainder of height and width divided by `multiple`.
        margin: pixels that are then added on all four sides.

    Call arguments:
        x: `(batch, height, width, channels)`, of any height and width.

    Returns:
        `(batch, larger height, larger width, channels)`; pixels of the border are not repeated,
        as with NumPy's mode `reflect`.

    Reference:
        Ronneberger et al., 2015, figure 2.
    """

    def __init__(self, multiple=1, remainder=0, margin=0, **kwargs):
        super().__init__(**kwargs)
        if self.compute_dtype != "float64":
            self.dtype_policy = "float32"
        self.multiple, self.remainder, self.margin = multiple, remainder, margin

    def call(self, x):
        x = keras.ops.cast(x, self.compute_dtype)
        for axis in (1, 2):
            if x.shape[axis] is None or self._added(x.shape[axis]) or self.margin:
                x = keras.ops.take(x, self._reflected_indices(_side(x, axis)), axis=axis)
        return x

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        sides = [
            None if side is None else side + self._added(side) + 2 * self.margin for side in sides
        ]
        return batch, *sides, channels

    def get_config(self):
        own = {"multiple": self.multiple, "remainder": self.remainder, "margin": self.margin}
        return {**super().get_config(), **own}

    # Dividends are not negative: in ONNX files of tf2onnx the remainder has the dividend's sign.
    def _added(self, side):
        excess = (side - self.remainder + self.multiple) % self.multiple
        return (self.multiple - excess) % self.multiple

    def _reflected_indices(self, side):
        """Returns for each output pixel the index of its pixel in the image."""
        end = side + self._added(side) + self.margin
        period = keras.ops.maximum(2 * (side - 1), 1)
        indices = keras.ops.arange(-self.margin, end, dtype="int32") + self.margin * period
        indices = keras.ops.mod(indices, period)
        return keras.ops.minimum(indices, period - indices)


@keras.saving.register_keras_serializable("zoo", name="CutLike")
class CropLike(keras.layers.Layer):
    """Crops maps at the bottom and on the right to the size of others.

    Call arguments:
        inputs: the maps, `(batch, height, width, channels)`, and others that are not larger.

    Returns:
        `(batch, height of the others, width of the others, channels)`.
    """

    def call(self, inputs):
        x, other = inputs
        return x[:, : _side(other, 1), : _side(other, 2), :]

    def compute_output_shape(self, input_shape):
        return _resized_shape(*input_shape)


@keras.saving.register_keras_serializable("zoo")
class ResizeLike(keras.layers.Layer):
    """Resizes maps bilinearly to the size of others.

    Call arguments:
        inputs: the maps, `(batch, height, width, channels)`, and others.

    Returns:
        `(batch, height of the others, width of the others, channels)`.
    """

    def call(self, inputs):
        x, other = inputs
        # Not `keras.ops.image.resize`: Keras 3.15 compares the size with zero in Python, which
        # fails for a size that is known only when the graph runs.
        resize = keras.src.ops.image.Resize((_side(other, 1), _side(other, 2)), "bilinear")
        return resize.call(x)

    def compute_output_shape(self, input_shape):
        return _resized_shape(*input_shape)


def _side(x, axis):
    """Returns the length of an axis, as a number if it is static."""
    return keras.ops.shape(x)[axis] if x.shape[axis] is None else x.shape[axis]


def _resized_shape(shape, other):
    return (*shape[:1], *other[1:3], *shape[3:])
