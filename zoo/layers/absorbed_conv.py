"""A convolution that includes the frozen batch normalization after it."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class AbsorbedConv2D(keras.layers.Layer):
    """Convolves with `kernel * scale`, instead of scaling the output by a frozen normalization.

    `scale = gamma / sqrt(variance + epsilon)` is computed from the normalization's variables at
    every call, without a gradient. Kernel and bias are the variables of the convolution, so that
    they are trained as with the normalization after them. The product is computed at the precision
    of the variables, and then rounded to that of the convolution.

    Args:
        conv: a `Conv2D`, `DepthwiseConv2D` or `SeparableConv2D` without activation.
        norm: the `BatchNormalization` over the channels that follows it. It computes the same in
            training as at inference.

    Call arguments:
        x: `(batch, height, width, channels)`.

    Returns:
        `norm(conv(x), training=False)`.
    """

    def __init__(self, conv, norm, **kwargs):
        # With its own policy, so that Keras does not round the variables before the product.
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.conv, self.norm = conv, norm

    def build(self, input_shape):
        if not self.conv.built:
            self.conv.build(input_shape)
        if not self.norm.built:
            self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, x):
        scale, shift = self._affine()
        x = keras.ops.cast(x, self.conv.compute_dtype)
        x = _convolve(self.conv, x, scale)
        return keras.ops.add(x, keras.ops.cast(shift, x.dtype))  # TensorFlow fuses this, unlike `+`

    def get_config(self):
        own = {"conv": self.conv, "norm": self.norm}
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), **{name: serialize(own[name]) for name in own}}

    @classmethod
    def from_config(cls, config):
        revive = keras.saving.deserialize_keras_object
        return cls(**{**config, "conv": revive(config["conv"]), "norm": revive(config["norm"])})

    def _affine(self):
        """Returns the scale of the normalization, and the shift of both layers."""
        norm, ops = self.norm, keras.ops
        # As in Keras: the statistics may have half precision, but not the arithmetic.
        dtype = keras.backend.result_type(norm.moving_variance.dtype, "float32")
        scale = ops.rsqrt(ops.cast(norm.moving_variance, dtype) + norm.epsilon)
        if norm.scale:
            scale = scale * ops.cast(norm.gamma, dtype)
        shift = -ops.cast(norm.moving_mean, dtype) * scale
        if norm.center:
            shift = shift + ops.cast(norm.beta, dtype)
        scale, shift = ops.stop_gradient(scale), ops.stop_gradient(shift)
        if self.conv.use_bias:
            shift = shift + ops.cast(self.conv.bias, dtype) * scale
        return scale, shift


def _convolve(conv, x, scale):
    """Applies the convolution `conv` with each output channel multiplied by its scale."""

    def scaled(kernel, scale):
        return keras.ops.cast(keras.ops.cast(kernel, scale.dtype) * scale, x.dtype)

    if isinstance(conv, keras.layers.DepthwiseConv2D):
        kernel = scaled(conv.kernel, keras.ops.reshape(scale, conv.kernel.shape[-2:]))
        return keras.ops.depthwise_conv(x, kernel, **_geometry(conv))
    if isinstance(conv, keras.layers.SeparableConv2D):
        depthwise = keras.ops.cast(conv.depthwise_kernel, x.dtype)
        pointwise = scaled(conv.pointwise_kernel, scale)
        return keras.ops.separable_conv(x, depthwise, pointwise, **_geometry(conv))
    return conv.convolution_op(x, scaled(conv.kernel, scale))


def _geometry(conv):
    names = ("strides", "padding", "data_format", "dilation_rate")
    return {name: getattr(conv, name) for name in names}
