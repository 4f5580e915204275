"""A frozen network as a TensorFlow graph.

Batch normalization is folded into the preceding kernels, and kernels are cast to the precision of
the graph. Weights are captured inputs of the graph: as constants they would be copied, hashed and
constant-folded, which takes seconds.
"""

from __future__ import annotations

from zoo import graphs
from zoo.lazy import keras, np, tf
from zoo.surgery import folding

KERNEL_OPS = {  # class of layer: its operation on an input and a kernel
    "Conv2D": lambda layer, x, kernel: layer.convolution_op(x, kernel),
    "DepthwiseConv2D": lambda layer, x, kernel: keras.ops.depthwise_conv(
        x, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
    ),
    "Dense": lambda layer, x, kernel: keras.ops.matmul(x, kernel),
}
# Layers without weights that may compute in any precision.
WEIGHTLESS_LAYERS = {
    *("Activation", "ReLU", "LeakyReLU", "Add", "Concatenate", "Dropout", "Flatten", "Reshape"),
    *("MaxPooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "Cropping2D"),
}


def trace(model, precision):
    """Returns a concrete function of TensorFlow that computes a model at inference.

    Args:
        model: A functional `keras.Model` from images to one tensor.
        precision: `float32`, or `bfloat16` for kernels and the operations between them. The
            layers before the first kernel, normalization that cannot be folded, averages, and
            other layers keep the precision of the model.

    Returns:
        A function from uint8 images `(batch, height, width, channels)` to float32. Its captured
        inputs are the current weights; later changes of the model do not affect it.

    Raises:
        UsageError: The model is not functional.
    """
    net = graphs.flatten(model)
    dtype = tf.as_dtype(precision)
    chains = {
        id(chain.conv): chain for chain in folding.find_conv_batch_norm(net, tuple(KERNEL_OPS))
    }
    folded = {id(chain.norm) for chain in chains.values()}
    kernels = {
        id(node): [
            _constant(value, dtype) for value in _kernel_and_bias(node, chains.get(id(node)))
        ]
        for node in graphs.nodes(net)
        if _is_kernel_layer(node.operation)
    }
    others = [n for n in graphs.nodes(net) if id(n) not in kernels and id(n) not in folded]
    weights = [w for node in others for w in getattr(node.operation, "weights", ())]
    constants = [(weight, _constant(_to_numpy(weight), weight.dtype)) for weight in weights]

    def call(node, *args, **kwargs):
        layer = node.operation
        if id(node) in folded:
            return args
        if id(node) in kernels:
            return _apply_kernel(layer, tf.cast(args[0], dtype), *kernels[id(node)])
        if type(layer).__name__ in WEIGHTLESS_LAYERS and _is_keras(layer):
            return layer.call(*args)
        return layer(*args, **kwargs)

    def forward(images):
        (entry,), (end,) = net.inputs, net.outputs
        with keras.StatelessScope(state_mapping=constants):
            made = graphs.replay(net, {id(entry): tf.cast(images, entry.dtype)}, call)
        return tf.cast(made[id(end)], tf.float32)

    shape = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, "images")
    return tf.function(forward, autograph=False).get_concrete_function(shape)


def _kernel_and_bias(node, chain):
    """Returns the kernel and bias (or `None`) of a layer, with BatchNorm folded into them."""
    if chain:
        return folding.folded_weights(chain)
    layer = node.operation
    return _to_numpy(layer.kernel), _to_numpy(layer.bias) if layer.use_bias else None


def _apply_kernel(layer, x, kernel, bias):
    y = KERNEL_OPS[type(layer).__name__](layer, x, kernel)
    y = y if bias is None else tf.nn.bias_add(y, bias)
    return layer.activation(y)


def _is_kernel_layer(layer):
    """Returns whether a layer only applies its kernel, bias and activation."""
    return (
        type(layer).__name__ in KERNEL_OPS
        and _is_keras(layer)
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and layer.quantization_mode is None
    )


def _is_keras(layer):
    return type(layer).__module__.startswith("keras.")


def _constant(value, dtype):
    if value is None:
        return None
    return tf.constant(np.asarray(value, tf.as_dtype(dtype).as_numpy_dtype))


def _to_numpy(weight):
    return keras.ops.convert_to_numpy(weight)
