"""An initializer that makes a transposed convolution a bilinear interpolation."""

from __future__ import annotations

import keras
import numpy as np


@keras.saving.register_keras_serializable("zoo", name="Bilinear")
class BilinearInitializer(keras.initializers.Initializer):
    """Initializes a `Conv2DTranspose` to upsample each channel bilinearly.

    The kernel size should be `2 * stride - stride % 2`, and the padding `same`: the output is then
    that of `keras.layers.UpSampling2D(stride, interpolation="bilinear")`, except at the border,
    beyond which the input counts as zero.

    Reference:
        Long et al., 2015, section 3.3.
    """

    def __call__(self, shape, dtype=None):
        *sides, outputs, inputs = shape
        rows, columns = map(_triangle_filter, sides)
        kernel = np.outer(rows, columns)[..., None, None] * np.eye(outputs, inputs)
        return keras.ops.convert_to_tensor(kernel, dtype or keras.config.floatx())


def _triangle_filter(side):
    """Returns the weights of linear interpolation, the largest in the middle."""
    stride = (side + 1) // 2
    middle = (side - 1) / 2
    return 1 - np.abs(np.arange(side) - middle) / stride
