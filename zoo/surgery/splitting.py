"""Splits a network into a frozen feature extractor and the part that is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection

from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import keras


def split(
    model: keras.Model,
    trainable: Collection[keras.layers.Layer] | Callable[[keras.layers.Layer], bool] | None = None,
) -> tuple[keras.Model, keras.Model] | None:
    """Splits a model into a frozen feature extractor and the part that is trained.

    The features of the first part are the same in every epoch, so that they can be cached. The
    split is at the last single tensor before all layers that are trained or behave differently in
    training: random ones (dropout, augmentation, stochastic depth) and batch normalization that is
    not frozen. Layers without weights, such as pooling, could be in either part; the split is then
    at the smallest tensor. If the model has several named inputs of which one is `image`, the first
    part takes only that one, and the second part takes its features under the same name.

    Args:
        model: a functional model, or a built Sequential model.
        trainable: the layers that are trained: a collection, or a function from a layer to a
            bool; by default those with trainable weights.

    Returns:
        `(before, after)`: models from image to features, and from features to the model's
        outputs. They share the model's layers. `None` if either would have no kernel.

    Raises:
        UsageError: the model is not a graph of layers.
    """
    net = graphs.flatten(model)
    image = net.input.get("image") if isinstance(net.input, dict) else None
    order = graphs.nodes(net) if image is None else _image_first(net, image)
    is_trained = _trainable_predicate(trainable)
    first = next(
        (i for i, node in enumerate(order) if _may_change(node.operation, is_trained)), None
    )
    if first is None:
        return None
    cuts = [(index, x) for index, x in graphs.single_tensor_cuts(net, order) if index < first]
    kernels = [i for i, node in enumerate(order) if graphs.has_kernel(node.operation)]
    if not cuts or not kernels or cuts[-1][0] < kernels[0]:
        return None
    x = _smallest_cut(cuts, order)
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
    """Returns the nodes of a graph with several inputs, first those that depend on `image` only."""
    image_only, first, others = {id(image)}, [], []
    for node in graphs.nodes(net):
        needed = node.output_tensors if node.is_input else node.input_tensors
        depends_on_image = all(id(x) in image_only for x in needed)
        (first if depends_on_image else others).append(node)
        image_only.update(id(x) for x in node.output_tensors if depends_on_image)
    return [*first, *others]


def _trainable_predicate(trainable):
    """Returns a function from a layer to whether it is trained."""
    if trainable is None:
        return lambda layer: bool(layer.trainable_weights)
    if callable(trainable):
        return trainable
    if not isinstance(trainable, list | tuple | set | frozenset):
        kind = type(trainable).__name__
        raise UsageError(
            f"trainable must be a collection of layers, or a function of a layer, not {kind}"
        )
    chosen = {id(layer) for layer in trainable}
    return lambda layer: id(layer) in chosen


def _may_change(operation, is_trained):
    """Returns whether the outputs of an operation may change between epochs."""
    return any(
        is_trained(layer) or _differs_in_training(layer) for layer in graphs.layers_in(operation)
    )


def _differs_in_training(layer):
    """Returns whether a layer behaves differently in training and at inference."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    if layer._seed_generators:
        return True
    # A layer that is not of Keras and has an argument `training` must be assumed to.
    of_keras = type(layer).__module__.startswith(("keras.src.layers.", "keras.src.models."))
    return layer._call_has_training_arg and not of_keras


def _smallest_cut(cuts, order):
    """Returns the smallest of the last cuts with no weights between them; of equals, the last."""
    end, best = cuts[-1]
    for index, x in reversed(cuts[:-1]):
        if any(getattr(node.operation, "weights", ()) for node in order[index + 1 : end + 1]):
            break
        if _tensor_bytes(x) < _tensor_bytes(best):
            best = x
    return best


def _tensor_bytes(x):
    """Returns the size of a tensor in bytes; an unknown side counts as 1024 pixels."""
    size = 1
    for side in x.shape[1:]:
        size *= 1024 if side is None else side
    return size * (2 if x.dtype in ("float16", "bfloat16") else 4)
