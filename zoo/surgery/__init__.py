"""What can be done to a network that exists already: ours, or one loaded from a user's file.

A functional `keras.Model` will do, and a Sequential one that is built; models inside it are taken
apart. What is given back shares layers and variables with the model that was given, unless its
function says otherwise.
"""

from __future__ import annotations

from zoo import graphs
from zoo.errors import UsageError
from zoo.graphs import flat
from zoo.lazy import keras
from zoo.surgery.feature_stages import depths, freeze, learnable, stages
from zoo.surgery.folding import absorb, fold
from zoo.surgery.input_channels import channels
from zoo.surgery.replace_head import head, resize

__all__ = [
    "absorb",
    "channels",
    "depths",
    "flat",
    "fold",
    "freeze",
    "head",
    "learnable",
    "resize",
    "split",
    "stages",
]


def split(model, learning=None):
    """Cuts a model in two: what gives the same features in every epoch, and what learns.

    The cut is at the last tensor that all of the rest is made of, such that every layer that
    learns or does something else in training comes after it: what is random (dropout,
    augmentation, stochastic depth) and batch normalisation that is not frozen. Where layers
    without weights could stand on either side, such as pooling, the smallest tensor is taken. Of a
    model of several inputs by name, of which one is `image`, the first part takes that one, and
    the second its features in place of it.

    Args:
        model: a functional model, or a Sequential one that is built.
        learning: the layers that learn: a set, or a function that tells of a layer; by default
            those with trainable weights.

    Returns:
        `(before, after)`, from image to features and from features to whatever the model gives;
        or `None` if no kernel would be on either side. They have the model's layers.

    Raises:
        UsageError: the model is no graph of layers.
    """
    net = graphs.flat(model)
    image = net.input.get("image") if isinstance(net.input, dict) else None
    order = graphs.nodes(net) if image is None else _image_first(net, image)
    learns = _trainable_predicate(learning)
    first = next((i for i, node in enumerate(order) if _may_change(node.operation, learns)), None)
    if first is None:
        return None
    places = [(index, x) for index, x in graphs.single_tensor_cuts(net, order) if index < first]
    kernels = [i for i, node in enumerate(order) if graphs.has_kernel(node.operation)]
    if not places or not kernels or places[-1][0] < kernels[0]:
        return None
    x = _smallest_cut(places, order)
    name = f"{model.name}_features" if image is None else "image"
    features = keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
    before = keras.Model(net.input if image is None else image, x, name=f"{model.name}_frozen")
    inputs = features if image is None else {**net.input, "image": features}
    others = [] if image is None else [y for y in net.inputs if y is not image]
    tensor_map = graphs.replay(
        net, {id(x): features, **{id(y): y for y in others}}, graphs.call_node
    )
    outputs = keras.tree.map_structure(lambda y: tensor_map[id(y)], net.output)
    return before, keras.Model(inputs, outputs, name=f"{model.name}_learning")


def _image_first(net, image):
    """Returns the nodes of a graph of several inputs, first those that need the image alone."""
    alone, first, rest = {id(image)}, [], []
    for node in graphs.nodes(net):
        needed = node.output_tensors if node.is_input else node.input_tensors
        mine = all(id(x) in alone for x in needed)
        (first if mine else rest).append(node)
        alone.update(id(x) for x in node.output_tensors if mine)
    return [*first, *rest]


def _trainable_predicate(learning):
    """Returns a function that tells whether a layer learns."""
    if learning is None:
        return lambda layer: bool(layer.trainable_weights)
    if callable(learning):
        return learning
    if not isinstance(learning, list | tuple | set | frozenset):
        kind = type(learning).__name__
        raise UsageError(f"what learns is a set of layers, or a function of a layer; not {kind}")
    chosen = {id(layer) for layer in learning}
    return lambda layer: id(layer) in chosen


def _may_change(operation, learns):
    """Tells whether an operation may give something else in the next epoch."""
    return any(
        learns(layer) or _differs_in_training(layer) for layer in graphs.layers_in(operation)
    )


def _differs_in_training(layer):
    """Tells whether a layer does in training something else than at inference."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    if layer._seed_generators:
        return True
    # Of a layer that nobody knows, and that asks whether it is training, it must be assumed.
    known = type(layer).__module__.startswith(("keras.src.layers.", "keras.src.models."))
    return layer._call_has_training_arg and not known


def _smallest_cut(places, order):
    """Returns the smallest of the last tensors that no weights are between, the last of equals."""
    end, best = places[-1]
    for index, x in reversed(places[:-1]):
        if any(getattr(node.operation, "weights", ()) for node in order[index + 1 : end + 1]):
            break
        if _tensor_bytes(x) < _tensor_bytes(best):
            best = x
    return best


def _tensor_bytes(x):
    """Returns the bytes of a tensor, where sides that are not known count as many pixels."""
    size = 1
    for side in x.shape[1:]:
        size *= 1024 if side is None else side
    return size * (2 if x.dtype in ("float16", "bfloat16") else 4)
