"""Batch normalisation inside the convolution before it: for inference, or while it is frozen."""

from __future__ import annotations

import collections
from dataclasses import dataclass

from zoo import arguments, graphs
from zoo.errors import UsageError
from zoo.lazy import keras, np
from zoo.lazy_layers import layers

ABSORBABLE = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
FOLDABLE = (*ABSORBABLE, "Conv2DTranspose", "Conv1D", "Conv3D", "DepthwiseConv1D", "Dense")


@dataclass(frozen=True)
class ConvBatchNormRelu:
    """Nodes that follow each other, each the only reader of the one before.

    Attributes:
        conv: a convolution or a dense layer without activation.
        norm: batch normalisation over its channels.
        relu: `relu` after that, or `None`.
    """

    conv: object
    norm: object
    relu: object


def fold(model, dtype=None):
    """Returns a model for inference, with batch normalisation folded into what comes before it.

    Each convolution or dense layer that batch normalisation alone reads gets a kernel and a bias
    that do the work of both, and `relu` if that is next. The weights are the new model's own; the
    outputs are those of the old one, but for rounding. Models inside the model are dissolved.

    Args:
        model: a functional model, or a Sequential one that is built.
        dtype: another dtype policy to compute with, such as `bfloat16`; by default each layer
            keeps its own. What comes before the first kernel, and the last kernel and what comes
            after it, stay as they are, so that pixels and logits are not rounded.

    Raises:
        UsageError: the model is no graph of layers, or a layer of it cannot be copied.

    Example:
        >>> fast = zoo.surgery.fold(zoo.build("resnet50.imagenet"), "bfloat16")
    """
    net = graphs.flat(model)
    if dtype is not None:
        _check_policy(dtype)
    found = find_conv_batch_norm(net, FOLDABLE)
    parts = {id(node): chain for chain in found for node in _chain_nodes(chain)}
    inner = _between_kernels(net) if dtype else set()
    copies, names = {}, collections.Counter()

    def copy(node, chain):
        operation = node.operation
        key = (id(operation), chain and id(chain.norm.operation), bool(chain and chain.relu))
        if key not in copies:
            names[operation.name] += 1
            number = names[operation.name]
            name = operation.name if number == 1 else f"{operation.name}_fold{number}"
            policy = dtype if id(node) in inner else None
            copies[key] = _copy_layer(operation, name, policy, chain)
        return copies[key]

    def call(node, *args, **kwargs):
        chain = parts.get(id(node))
        if chain and node is not chain.conv:
            return args  # which the convolution made of it
        layer = copy(node, chain)
        outputs = layer(*args, **kwargs)
        if layer is not node.operation and not graphs.functional_graph(layer):
            layer.set_weights(folded_weights(chain) if chain else node.operation.get_weights())
            if hasattr(layer, "finalize_state"):  # `Normalization` computes with copies
                layer.finalize_state()
        return outputs

    return graphs.rebuild(net, call, name=model.name)


def absorb(model):
    """Returns a model in which convolutions do the work of the frozen normalisation behind them.

    It has the layers and variables of `model`, which learns when it learns, in the same steps as
    it would itself; `zoo.layers.AbsorbedConv2D` stands where a convolution is read by a frozen
    batch normalisation alone. Whatever else learns or is frozen stays so.

    Args:
        model: a functional model, or a Sequential one that is built. A `BatchNormalization` is
            frozen if its `trainable` is `False`; set that before.

    Raises:
        UsageError: the model is no graph of layers.

    Example:
        >>> fast = zoo.surgery.absorb(model)
        >>> fast.compile(...)
        >>> fast.fit(...)
        >>> model.save("model.keras")
    """
    net = graphs.flat(model)
    absorbed = [chain for chain in find_conv_batch_norm(net, ABSORBABLE) if _absorbable(chain)]
    convs = {id(chain.conv) for chain in absorbed}
    norms = {id(chain.norm): chain for chain in absorbed}
    made = {}

    def inside(model):
        if id(model) not in made:
            made[id(model)] = absorb(model)
        return made[id(model)]

    def call(node, *args, **kwargs):
        if id(node) in convs:
            return args
        if graphs.functional_graph(node.operation):
            return inside(node.operation)(*args, **kwargs)
        if id(node) not in norms:
            return graphs.call_node(node, *args, **kwargs)
        conv, norm = norms[id(node)].conv.operation, node.operation
        pair = (id(conv), id(norm))
        if pair not in made:
            name = f"{conv.name}_{norm.name}"
            made[pair] = layers.AbsorbedConv2D(conv, norm, name=name)
        return made[pair](*args)

    return graphs.rebuild(net, call, name=model.name)


def find_conv_batch_norm(net, kinds):
    """Returns the chains of a graph whose first layer is just one of some kinds of Keras's."""
    kinds = tuple(getattr(keras.layers, kind) for kind in kinds)
    readers = graphs.consumers(net)

    def only_reader(node):
        found = readers[id(node.output_tensors[0])]
        return found[0] if len(found) == 1 else None

    found = []
    for node in graphs.nodes(net):
        if type(node.operation) in kinds and _is_linear(node.operation):
            norm = only_reader(node)
            if norm and _is_channel_batch_norm(norm):
                after = only_reader(norm)
                found.append(
                    ConvBatchNormRelu(node, norm, after if after and _is_relu(after) else None)
                )
    return found


def folded_weights(chain):
    """Returns the weights of a chain's first layer that do the work of its normalisation too."""
    conv, norm = chain.conv.operation, chain.norm.operation

    def array(weight):
        return np.asarray(keras.ops.convert_to_numpy(weight), "float64")

    scale = 1 / np.sqrt(array(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * array(norm.gamma)
    shift = array(norm.beta) if norm.center else 0.0
    bias = array(conv.bias) if conv.use_bias else 0.0
    bias = shift + (bias - array(norm.moving_mean)) * scale
    *first, kernel = [array(w) for w in conv.weights if w is not getattr(conv, "bias", None)]
    if "Depthwise" in type(conv).__name__:
        scale = scale.reshape(kernel.shape[-2:])
    elif "Transpose" in type(conv).__name__:
        scale = scale[:, None]
    return [*first, kernel * scale, bias]


def _check_policy(dtype):
    try:
        keras.dtype_policies.get(dtype)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"dtype must be a policy such as bfloat16, not {arguments.short_repr(dtype)}"
        ) from error


def _chain_nodes(chain):
    return [node for node in (chain.conv, chain.norm, chain.relu) if node]


def _is_linear(layer):
    """Tells whether all that a layer gives is a product with its kernel, and its bias."""
    return (
        layer.activation is keras.activations.linear
        and layer.activity_regularizer is None
        and getattr(layer, "data_format", None) in (None, "channels_last")
        and getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
    )


def _is_channel_batch_norm(node):
    norm = node.operation
    last = len(node.output_tensors[0].shape) - 1
    return (
        type(norm) is keras.layers.BatchNormalization
        and norm.axis in (-1, last)
        and norm.activity_regularizer is None
        and node.arguments.kwargs.get("mask") is None
    )


def _is_relu(node):
    layer = node.operation
    if layer.__class__ is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    if layer.__class__ is keras.layers.Activation:
        return layer.activation is keras.activations.relu
    return False


def _absorbable(chain):
    conv, norm = chain.conv.operation, chain.norm.operation
    return not norm.trainable and conv.compute_dtype == norm.compute_dtype


def _between_kernels(net):
    """Returns the ids of the nodes that have a kernel both before and after them, or are one."""
    order = graphs.nodes(net)
    seen, last = set(), set()  # tensors behind a kernel, and before one
    after, before = set(), set()
    for node in order:
        if any(id(x) in seen for x in node.input_tensors) or graphs.has_kernel(node.operation):
            after.add(id(node))
            seen.update(id(x) for x in node.output_tensors)
    for node in reversed(order):
        heard = any(id(x) in last for x in node.output_tensors)
        if heard:
            before.add(id(node))
        if heard or graphs.has_kernel(node.operation):
            last.update(id(x) for x in node.input_tensors)
    return after & before


def _copy_layer(operation, name, policy, chain):
    """Returns a new layer like another, without its weights; a plain operation has none."""
    if not isinstance(operation, keras.Layer):
        return operation
    if graphs.functional_graph(operation):
        return fold(operation, policy)
    config = {**operation.get_config(), "name": name}
    if policy:
        config["dtype"] = policy
    if chain:
        config["use_bias"] = True
        config["activation"] = "relu" if chain.relu else None
    try:
        return type(operation).from_config(config)
    except Exception as error:  # a layer of somebody else's may raise anything
        raise UsageError(
            f"{operation.name} ({type(operation).__name__}) cannot be copied: {error}; "
            "give its class get_config() with every argument of its constructor"
        ) from error
