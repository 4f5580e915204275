"""Merges batch normalization into the convolution before it: for inference, or while frozen."""

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
    """A chain of nodes, each the only consumer of the one before.

    Attributes:
        conv: the node of a convolution or dense layer without activation.
        norm: the node of batch normalization over its channels.
        relu: the node of `relu` after it, or `None`.
    """

    conv: object
    norm: object
    relu: object


def fold(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """Returns a model for inference, with batch normalization folded into the layers before it.

    The kernel and bias of each convolution or dense layer whose only consumer is a batch
    normalization are changed to include it; a `relu` after that becomes the layer's activation.
    The model has weights of its own. Its outputs are those of the given model up to rounding.
    Nested models are flattened.

    Args:
        model: a functional model, or a built Sequential model.
        dtype: a dtype policy for the copied layers, such as `bfloat16`; by default each layer
            keeps its own. Layers before the first kernel, the last kernel and the layers after it
            also keep theirs, so that pixels and logits are not rounded.

    Raises:
        UsageError: the model is not a graph of layers, or a layer of it cannot be copied.

    Example:
        >>> fast = zoo.surgery.fold(zoo.build("resnet50.imagenet"), "bfloat16")
    """
    net = graphs.flatten(model)
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
            return args  # the convolution has computed it
        layer = copy(node, chain)
        outputs = layer(*args, **kwargs)
        if layer is not node.operation and not graphs.functional_graph(layer):
            layer.set_weights(folded_weights(chain) if chain else node.operation.get_weights())
            if hasattr(layer, "finalize_state"):  # `Normalization` computes with copies
                layer.finalize_state()
        return outputs

    return graphs.rebuild(net, call, name=model.name)


def absorb(model: keras.Model) -> keras.Model:
    """Returns a model for training in which frozen batch normalization is part of convolutions.

    Unlike in `fold`, kernels are not changed: `zoo.layers.AbsorbedConv2D` multiplies the kernel by
    the frozen scale in each step. It replaces each convolution whose only consumer is a frozen
    batch normalization. The returned model shares layers and variables with `model`, so that
    training it trains `model`, with the same updates. Other layers stay trainable or frozen.

    Args:
        model: a functional model, or a built Sequential model. A `BatchNormalization` is frozen
            if its `trainable` is `False`; set that before.

    Raises:
        UsageError: the model is not a graph of layers.

    Example:
        >>> fast = zoo.surgery.absorb(model)
        >>> fast.compile(...)
        >>> fast.fit(...)
        >>> model.save("model.keras")
    """
    net = graphs.flatten(model)
    absorbed = [chain for chain in find_conv_batch_norm(net, ABSORBABLE) if _absorbable(chain)]
    convs = {id(chain.conv) for chain in absorbed}
    norms = {id(chain.norm): chain for chain in absorbed}
    made = {}

    def absorb_nested(model):
        if id(model) not in made:
            made[id(model)] = absorb(model)
        return made[id(model)]

    def call(node, *args, **kwargs):
        if id(node) in convs:
            return args
        if graphs.functional_graph(node.operation):
            return absorb_nested(node.operation)(*args, **kwargs)
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
    """Returns the chains of a graph, as `ConvBatchNormRelu`.

    Args:
        net: a graph.
        kinds: names of the Keras classes of the first layer; subclasses do not count.
    """
    kinds = tuple(getattr(keras.layers, kind) for kind in kinds)
    consumers = graphs.consumers(net)

    def only_consumer(node):
        found = consumers[id(node.output_tensors[0])]
        return found[0] if len(found) == 1 else None

    found = []
    for node in graphs.nodes(net):
        if type(node.operation) in kinds and _is_linear(node.operation):
            norm = only_consumer(node)
            if norm and _is_channel_batch_norm(norm):
                after = only_consumer(norm)
                found.append(
                    ConvBatchNormRelu(node, norm, after if after and _is_relu(after) else None)
                )
    return found


def folded_weights(chain):
    """Returns the weights of a chain's first layer with the batch normalization folded in."""
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
            f"dtype must be a dtype policy such as bfloat16, not {arguments.short_repr(dtype)}"
        ) from error


def _chain_nodes(chain):
    return [node for node in (chain.conv, chain.norm, chain.relu) if node]


def _is_linear(layer):
    """Returns whether a layer only multiplies by its kernel and adds its bias."""
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
    """Returns the ids of the nodes from the first kernels on and before the last ones."""
    order = graphs.nodes(net)
    from_kernel, to_kernel = set(), set()  # tensors after a kernel, and before one
    after, before = set(), set()
    for node in order:
        depends = any(id(x) in from_kernel for x in node.input_tensors)
        if depends or graphs.has_kernel(node.operation):
            after.add(id(node))
            from_kernel.update(id(x) for x in node.output_tensors)
    for node in reversed(order):
        needed = any(id(x) in to_kernel for x in node.output_tensors)
        if needed:
            before.add(id(node))
        if needed or graphs.has_kernel(node.operation):
            to_kernel.update(id(x) for x in node.input_tensors)
    return after & before


def _copy_layer(operation, name, policy, chain):
    """Returns a copy of a layer without its weights; an operation of `keras.ops` as it is."""
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
    except Exception as error:  # a custom layer may raise anything
        raise UsageError(
            f"{operation.name} ({type(operation).__name__}) cannot be copied: {error}; its class "
            "needs get_config() with every argument of its constructor"
        ) from error
