"""Adapts a network to images with another number of channels: gray, or more than RGB."""

from __future__ import annotations

from zoo import arguments, graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.parts.blocks import RGB

CHANNELWISE_LAYERS = (  # they treat all channels alike
    *("ZeroPadding2D", "Cropping2D", "CenterCrop", "Resizing", "Dropout", "SpatialDropout2D"),
    *("RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
)
MAX_CHANNELS = 2**16  # of an image


def channels(model: keras.Model, count: int) -> keras.Model:
    """Returns a model for images with another number of channels that uses the trained weights.

    In a network for RGB images, one channel is repeated three times; two channels become red and
    blue, with their mean as green. With more than three, channel `i` is treated as color `i % 3`:
    the kernel of the first convolution is repeated, divided by the number of channels of the
    same color, and pixels are normalized with the constants of that color. A network for gray
    images gets the mean of the channels. In every case, an image with equal channels has the
    same output as the gray image had before.

    Args:
        model: a functional model with one input image, or a built Sequential model.
        count: number of channels of the images.

    Returns:
        A model that shares its layers with the given one, except the adapted ones.

    Raises:
        UsageError: the network has neither 1 nor 3 input channels, or a layer before its first
            convolution is not known to treat channels separately.
    """
    net = graphs.flatten(model)
    old = graphs.single_input(net)
    count = arguments.check_int(count, "the number of channels", max_value=MAX_CHANNELS)
    now = old.shape[-1]
    if count == now:
        return model
    if now not in (1, RGB) or len(old.shape) != 4:
        raise UsageError(
            f"{model.name} has the input shape {old.shape[1:]}; only networks for images with 1 or "
            "3 channels can be adapted: put zoo.layers.MixChannels before it"
        )
    shape = (*old.shape[:-1], count)
    image = keras.Input(batch_shape=shape, dtype=old.dtype, name=old.name)
    if now == 1 or count < RGB:
        matrix = [[1 / count]] * count if now == 1 else _rgb_matrix(count)
        x = _mix_channels(image, matrix, graphs.unique_name(net, f"channels_{count}_to_{now}"))
        tensor_map = graphs.replay(net, {id(old): x}, graphs.call_node)
    else:
        tensor_map = graphs.replay(net, {id(old): image}, _ChannelAdapter(model.name, count, old))
    outputs = keras.tree.map_structure(lambda y: tensor_map[id(y)], net.output)
    inputs = keras.tree.map_structure(lambda _: image, net.input)
    return keras.Model(inputs, outputs, name=model.name)


def reverses_channels(operation):
    """Returns whether an operation of a graph converts RGB to BGR."""
    kind = type(operation).__name__
    if kind == "PixelNormalization":  # in models saved by earlier versions
        return operation.reverse
    return kind == "Flip" and operation.axis in (-1, 3)


class _ChannelAdapter:
    """Calls nodes with more than three channels, adapted up to the first convolution.

    `channel_maps` has, by the id of a tensor, the index in RGB of each of its channels.
    """

    def __init__(self, name, count, image):
        self.name, self.channel_maps = name, {id(image): [i % RGB for i in range(count)]}

    def __call__(self, node, *args, **kwargs):
        rgb_indices = next(
            (self.channel_maps[id(x)] for x in node.input_tensors if id(x) in self.channel_maps),
            None,
        )
        if rgb_indices is None:
            return graphs.call_node(node, *args, **kwargs)
        layer, kind = node.operation, type(node.operation).__name__
        if kind == "Conv2D" and layer.groups == 1:
            return _widen_kernel(layer, rgb_indices)(*args)
        [out] = node.output_tensors
        reverses = reverses_channels(layer)
        if reverses:
            rgb_indices = [RGB - 1 - rgb_index for rgb_index in rgb_indices]
        self.channel_maps[id(out)] = rgb_indices
        if reverses and kind == "Flip":  # the channels stay, their indices in RGB are reversed
            return args
        if kind == "Divide" and not isinstance(args[1], keras.KerasTensor):
            x, divisor = args
            if np.ndim(divisor):
                divisor = np.array(_select_per_channel(divisor, rgb_indices), divisor.dtype)
            return layer(x, divisor, **kwargs)
        return self._adapt_layer(layer, kind, rgb_indices)(*args, **kwargs)

    def _adapt_layer(self, layer, kind, rgb_indices):
        """Returns a layer before the first convolution, adapted to the channels of its input."""
        if kind == "PixelNormalization":  # in models saved by earlier versions
            return _per_channel(layer, rgb_indices, ("mean", "scale"), reverse=False)
        if kind == "Rescaling":
            return _per_channel(layer, rgb_indices, ("scale", "offset"))
        if kind == "Normalization" and layer.axis in ((-1,), (3,)):
            own = {
                "mean": _select_per_channel(layer.mean, rgb_indices),
                "variance": _select_per_channel(layer.variance, rgb_indices),
            }
            return type(layer).from_config({**layer.get_config(), **own})
        if kind in CHANNELWISE_LAYERS:
            return layer
        raise UsageError(
            f"{self.name} cannot be adapted to {len(rgb_indices)} channels: its layer "
            f"{layer.name} ({kind}), before the first convolution, is not known to treat "
            "channels separately; put zoo.layers.MixChannels before the network"
        )


def _mix_channels(image, matrix, name):
    """Returns the product of an image's channels and a fixed matrix, in float32 or float64."""
    policy = keras.config.dtype_policy().compute_dtype
    precise = "float64" if policy == "float64" else "float32"
    image = graphs.set_operation_name(keras.ops.cast(image, precise), f"{name}_cast")
    return graphs.set_operation_name(keras.ops.matmul(image, np.array(matrix, precise)), name)


def _rgb_matrix(count):
    return {1: [[1, 1, 1]], 2: [[1, 0.5, 0], [0, 0.5, 1]]}[count]


def _select_per_channel(values, rgb_indices):
    """Returns one value per channel of an image, from one per color or one for all."""
    values = np.asarray(keras.ops.convert_to_numpy(values), "float64").reshape(-1)
    return [float(values[rgb_index % len(values)]) for rgb_index in rgb_indices]


def _per_channel(layer, rgb_indices, names, **changes):
    """Returns a copy of a layer with its values per color replaced by values per channel."""
    config = {**layer.get_config(), **changes}
    for name in names:
        if np.ndim(config[name]):
            config[name] = _select_per_channel(config[name], rgb_indices)
    return type(layer).from_config(config)


def _widen_kernel(conv, rgb_indices):
    """Returns a copy of a convolution with a kernel for each channel of an image."""
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    shares = np.array([1 / rgb_indices.count(rgb_index) for rgb_index in rgb_indices], kernel.dtype)
    wide = type(conv).from_config(conv.get_config())
    wide.build((None, None, None, len(rgb_indices)))
    bias = [keras.ops.convert_to_numpy(conv.bias)] if conv.use_bias else []
    wide.set_weights([kernel[:, :, rgb_indices] * shares[:, None], *bias])
    return wide
