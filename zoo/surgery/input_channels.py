"""A network for images of other channels: grey, or more than red, green and blue."""

from __future__ import annotations

from zoo import arguments, graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np

CHANNELWISE_LAYERS = (  # layers that do the same to every channel of an image
    *("ZeroPadding2D", "Cropping2D", "CenterCrop", "Resizing", "Dropout", "SpatialDropout2D"),
    *("RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
)
RGB = 3
MAX_CHANNELS = 2**16  # channels of an image


def channels(model, count):
    """Returns a model for images of another number of channels that keeps what it knows.

    To a network for RGB, one channel is grey, and two are red and blue with green half way: a
    fixed layer makes three of them. Of more than three, channel `i` counts as colour `i % 3`: the
    first convolution gets a kernel for each, its colour's divided by how many share it, and what
    normalises pixels does so as for that colour. A network for grey images gets the mean. In
    every case an image whose channels are all equal gives what its grey image gave before.

    Args:
        model: a functional model of one image, or a Sequential one that is built.
        count: how many channels the images have.

    Returns:
        A model that shares its layers with the one given, but for those adapted.

    Raises:
        UsageError: the network is for neither 1 nor 3 channels, or something before its first
            convolution looks at colours in a way that is not known.
    """
    net = graphs.flat(model)
    old = graphs.single_input(net)
    count = arguments.check_int(count, "the number of channels", max_value=MAX_CHANNELS)
    now = old.shape[-1]
    if count == now:
        return model
    if now not in (1, RGB) or len(old.shape) != 4:
        raise UsageError(
            f"{model.name} takes {old.shape[1:]}; only networks for images of 1 or 3 channels can "
            "be adapted: put zoo.layers.MixChannels before it"
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


class _ChannelAdapter:
    """Calls nodes for more channels than three, adapted up to the first convolution.

    `places` says which of the network's three channels each channel of the image stands for.
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
        layer = node.operation
        kind = type(layer).__name__
        [out] = node.output_tensors
        if kind == "Conv2D" and layer.groups == 1:
            return _widen_kernel(layer, rgb_indices)(*args)
        if kind == "Flip" and layer.axis in (-1, 3):
            self.channel_maps[id(out)] = [RGB - 1 - rgb_index for rgb_index in rgb_indices]
            return args
        if kind == "PixelNormalization":  # of models that earlier versions saved
            rgb_indices = (
                [RGB - 1 - rgb_index for rgb_index in rgb_indices] if layer.reverse else rgb_indices
            )
            layer = _per_channel(layer, rgb_indices, ("mean", "scale"), reverse=False)
        elif kind == "Rescaling":
            layer = _per_channel(layer, rgb_indices, ("scale", "offset"))
        elif kind == "Divide" and not isinstance(args[1], keras.KerasTensor):
            by = args[1]
            args = (
                args[0],
                np.array(_select_per_channel(by, rgb_indices), by.dtype) if np.ndim(by) else by,
            )
        elif kind == "Normalization" and layer.axis in ((-1,), (3,)):
            own = {
                "mean": _select_per_channel(layer.mean, rgb_indices),
                "variance": _select_per_channel(layer.variance, rgb_indices),
            }
            layer = type(layer).from_config({**layer.get_config(), **own})
        elif kind not in CHANNELWISE_LAYERS:
            raise UsageError(
                f"{self.name} cannot be adapted to {len(rgb_indices)} channels: {layer.name} "
                f"({kind}), "
                "before its first convolution, is not known to treat channels one by one; put "
                "zoo.layers.MixChannels before the network"
            )
        self.channel_maps[id(out)] = rgb_indices
        return layer(*args, **kwargs)


def _mix_channels(image, matrix, name):
    """Returns fixed sums of an image's channels, `len(matrix)` of them, in float32 at least."""
    policy = keras.config.dtype_policy().compute_dtype
    precise = "float64" if policy == "float64" else "float32"
    image = graphs.set_operation_name(keras.ops.cast(image, precise), f"{name}_cast")
    return graphs.set_operation_name(keras.ops.matmul(image, np.array(matrix, precise)), name)


def _rgb_matrix(count):
    return {1: [[1, 1, 1]], 2: [[1, 0.5, 0], [0, 0.5, 1]]}[count]


def _select_per_channel(values, rgb_indices):
    """Returns one value a channel of an image, of one for each colour or for all."""
    values = np.asarray(keras.ops.convert_to_numpy(values), "float64").reshape(-1)
    return [float(values[rgb_index % len(values)]) for rgb_index in rgb_indices]


def _per_channel(layer, rgb_indices, names, **changes):
    """Returns a layer like another with its values for the channels of an image."""
    config = {**layer.get_config(), **changes}
    for name in names:
        if np.ndim(config[name]):
            config[name] = _select_per_channel(config[name], rgb_indices)
    return type(layer).from_config(config)


def _widen_kernel(conv, rgb_indices):
    """Returns a convolution like another with a kernel for each channel of an image."""
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    shares = np.array([1 / rgb_indices.count(rgb_index) for rgb_index in rgb_indices], kernel.dtype)
    wide = type(conv).from_config(conv.get_config())
    wide.build((None, None, None, len(rgb_indices)))
    bias = [keras.ops.convert_to_numpy(conv.bias)] if conv.use_bias else []
    wide.set_weights([kernel[:, :, rgb_indices] * shares[:, None], *bias])
    return wide
