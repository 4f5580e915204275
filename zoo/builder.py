"""Builds models of the catalog, whole or as a backbone, with random or pretrained weights."""

import functools
import inspect
import logging
import os
from collections.abc import Sequence
from typing import Any

from zoo import arguments, graphs, model_files, surgery, weights
from zoo.catalog import RANDOM, models
from zoo.errors import UsageError, unknown_name_error
from zoo.graphs import HEAD_LAYER
from zoo.lazy import LazyModule, keras
from zoo.parts import blocks

hub = LazyModule("zoo.hub")
identify = LazyModule("zoo.weights.identify")
torch_conversion = LazyModule("zoo.weights.torch_conversion")

log = logging.getLogger("zoo")

KINDS_WITH_CLASSES = ("classifier", "segmenter", "detector")


def build(
    name: str,
    *,
    input_shape: Sequence[int | None] | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    **options: Any,
) -> "keras.Model":
    """Builds the model `name`, not compiled.

    Args:
        name: a name from `zoo.names()`. `resnet50` has random weights; `resnet50.imagenet` has
            pretrained weights and the preprocessing that they need. `hf://USER/NAME` is a model
            that `zoo push` uploaded to the Hugging Face Hub, `hf://USER/NAME@REVISION` one
            revision of it; of the other arguments, these take `num_classes` and `classes` only.
        input_shape: `(height, width, channels)`; defaults to that of the paper. With a tag,
            another number of channels is possible: `surgery.channels` adapts the weights.
        num_classes: number of logits. With a tag, passing it replaces the pretrained head by a
            new one.
        classes: the class names of a classifier, segmenter or detector, in the order of its
            outputs, in place of `num_classes`. If `weights` is a model file with the same classes,
            its head is loaded too, that of a classifier in any order; if it has other classes, the
            layers whose shape depends on their number are new.
        weights: path of a weights file, in place of the tag's weights; `"random"` for the
            preprocessing of a tag without its weights. With a PyTorch state dict, the model gets
            the preprocessing of PyTorch. The pretrained weights that an option `backbone` names
            are not downloaded then, because the file is for the whole network.
        **options: options of the builder, such as `dropout`, that override those of the variant.

    Returns:
        A functional `keras.Model`. Inputs are RGB images in [0, 255] of shape
        `(batch, *input_shape)` and any numeric dtype; preprocessing is part of the model. Outputs
        are float32 logits of shape `(batch, num_classes)`; with `auxiliary=True`, for models that
        have auxiliary heads, a dict with the logits of each head. The logits of a segmenter have
        shape `(batch, height, width, num_classes)`; its `input_shape` may have `None` as height
        and width.

    Raises:
        UsageError: there is no such model or option, the input is too small, or the weights
            cannot be downloaded or do not match.

    Example:
        >>> zoo.build("vgg16", num_classes=10, input_shape=(64, 64, 3))
    """
    if hub.is_hub_name(name):
        options = {**options, "input_shape": input_shape, "weights": weights}
        return hub.build(name, num_classes=num_classes, classes=classes, **options)
    entry = models.get(name)
    if classes is not None:
        _check_class_names(entry, classes, num_classes)
        num_classes = len(classes)
    fresh = _other_class_layers(entry, input_shape, classes, weights, options) if classes else ()
    return _build(
        entry, input_shape, num_classes, weights, options, head=True, classes=classes, fresh=fresh
    )


def backbone(
    name: str,
    *,
    input_shape: Sequence[int | None] | None = None,
    weights: str | os.PathLike[str] | None = None,
    **options: Any,
) -> "keras.Model":
    """Builds the model `name` without its head, as a feature extractor.

    Args:
        name: as in `build`.
        input_shape: as in `build`.
        weights: as in `build`.
        **options: as in `build`.

    Returns:
        A functional `keras.Model` from images to the feature pyramid: an ordered dict in which
        `stageN` has stride `2**N`, that is about `1 / 2**N` of the input's height and width.

    Raises:
        UsageError: as in `build`; or the model has no stages.
    """
    entry = models.get(name)
    if not entry.stages:
        raise UsageError(f"{name} has no feature pyramid; see `zoo list` for models with stages")
    return _build(entry, input_shape, None, weights, options, head=False)


@functools.cache
def head_in_features(name: str) -> int:
    """Returns the number of input features of a new head of the model `name`.

    It is 0 if the model is not a classifier, or its logits are not computed by a single layer.
    The model is built for that, without values for its weights.

    Raises:
        UsageError: there is no such model.
    """
    entry = models.get(name)
    if entry.kind != "classifier":
        return 0
    with keras.StatelessScope(initialize_variables=False):
        model = build(name, num_classes=entry.num_classes, weights=RANDOM)
    found = [layer for layer in model.layers if layer.name == HEAD_LAYER]
    return found[0].kernel.shape[-2] if found else 0


def _build(entry, input_shape, num_classes, source, options, *, head, classes=None, fresh=()):
    shape = entry.validate_input_shape(input_shape)
    source = _checked_source(source, entry)
    given = options
    channels = shape[-1]
    if entry.weights:  # build for the channels of the weights; adapted after loading them
        shape = (*shape[:-1], entry.input_shape[-1])
    options = _checked_options(entry, options)
    new_head = head and num_classes is not None
    if entry.weights and (new_head or not head):
        options = {**entry.weights.options, **options}
    if new_head:
        arguments.check_int(num_classes, f"num_classes of {entry.name}")
        options["num_classes"] = num_classes
    elif not head:
        options["num_classes"] = None

    if source is not None and "backbone_weights" in _known_options(entry):
        options.setdefault("backbone_weights", RANDOM)  # the file is for the whole network
    inputs = keras.Input(shape, name=entry.first_input if entry.inputs else "input")
    pixels = torch_conversion.infer_preprocessing(source, entry)
    endpoints = _endpoints(entry, blocks.preprocess(inputs, pixels), options, given)
    if more := [name for name in entry.inputs if name in endpoints]:
        inputs = {entry.first_input: inputs, **{name: endpoints[name] for name in more}}
    if head:
        heads = [*(entry.auxiliary if options.get("auxiliary") else ()), list(endpoints)[-1]]
        outputs = {name: endpoints[name] for name in heads}
        outputs = outputs if len(heads) > 1 else outputs[heads[0]]
    else:
        outputs = {name: x for name, x in endpoints.items() if name.startswith("stage")}
    model = keras.Model(inputs, outputs, name=_model_name(entry, head))
    features_only = not head or (new_head and _matches_tag_options(entry, options))
    loading = {"whole": not new_head, "headless": features_only, "classes": classes}
    _load_weights(model, entry, source, fresh=fresh, **loading)
    return model if shape[-1] == channels else surgery.channels(model, channels)


def _matches_tag_options(entry, options):
    """Returns whether the options are those of a new head on the tag's weights."""
    implied = entry.weights.options if entry.weights else {}
    return all(options[option] == value for option, value in implied.items())


def _load_weights(model, entry, source, *, whole, headless, classes, fresh):
    """Loads pretrained weights into a model, if there are any."""
    if source == RANDOM or (source is None and entry.weights is None):
        return
    path = source
    if source is None:
        path = weights.fetch(entry.name, entry.weights, headless=headless)
    # With a tag and without `num_classes`, a layer without weights would make the predictions
    # useless, so all must be loaded. Without a tag, the file may be of a model with another head.
    strict = whole and entry.weights is not None
    file_classes = model_files.read_class_names(path) if classes else ()
    same = same_classes(file_classes, classes or ())
    classifier = entry.kind == "classifier"
    # A head with the same number of classes would match in shape, but they are other classes.
    other_classes = bool(file_classes) or entry.weights is not None
    if classifier and not whole and not same and other_classes:
        fresh = (HEAD_LAYER,)
    try:
        loaded = weights.load(model, path, strict=strict, fresh=fresh)
    except torch_conversion.UnknownStateDictError as error:
        nearest = identify.describe_nearest(error.tensors, build)
        message = ", ".join(filter(None, (error.message, nearest)))
        raise UsageError(f"{message}{error.advice}") from None
    if same and (HEAD_LAYER in loaded.matched if classifier else not loaded.skipped):
        order = [file_classes.index(name) for name in classes]
        if order != sorted(order):
            _permute_classes(model.get_layer(HEAD_LAYER), order)
        log.info("kept the head of %s for the same classes; it has no optimizer state", path)


def _other_class_layers(entry, input_shape, classes, source, options):
    """Returns the names of layers that a weights file has for classes other than `classes`.

    These are the layers of a segmenter or detector whose shape depends on the number of classes.

    Raises:
        UsageError: the file has the same classes in another order.
    """
    if entry.kind == "classifier" or _checked_source(source, entry) in (None, RANDOM):
        return ()
    file_classes = model_files.read_class_names(source)
    if not file_classes or file_classes == tuple(classes):
        return ()
    if same_classes(file_classes, classes):
        raise UsageError(
            f"{source} has the classes of {entry.name} in another order; pass them in its order: "
            f"{', '.join(file_classes)}"
        )
    random = {"backbone_weights": RANDOM} if "backbone_weights" in _known_options(entry) else {}
    shapes = []
    for count in (len(classes), len(classes) + 1):
        with keras.StatelessScope(initialize_variables=False):
            outline = _build(entry, input_shape, count, RANDOM, {**options, **random}, head=True)
        layers = graphs.leaf_layers(outline)
        shapes.append([(x.name, [w.shape for w in x.weights]) for x in layers if x.weights])
    return tuple(one[0] for one, other in zip(*shapes, strict=True) if one[1] != other[1])


def same_classes(file_classes, model_classes):
    """Returns whether two lists of class names are permutations of each other."""
    return (
        bool(file_classes)
        and len(set(file_classes)) == len(file_classes)
        and sorted(file_classes) == sorted(model_classes)
    )


def _permute_classes(layer, order):
    """Permutes the classes of a layer: class `i` becomes the previous class `order[i]`."""
    layer.set_weights([array[..., order] for array in layer.get_weights()])


def _model_name(entry, head):
    return entry.name.replace(".", "_") + ("" if head else "_backbone")


def _checked_options(entry, options):
    known = _known_options(entry)
    for option in options:
        if option not in known:
            raise unknown_name_error(f"option of {entry.name}", option, known)
    return {**entry.options, **options}


def _known_options(entry):
    return list(inspect.signature(entry.builder).parameters)[1:]


def _check_class_names(entry, classes, num_classes):
    if entry.kind not in KINDS_WITH_CLASSES:
        raise UsageError(
            f"{entry.name} is a {entry.kind}; only {', '.join(KINDS_WITH_CLASSES)} have the "
            "argument classes"
        )
    valid = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    if not valid or num_classes not in (None, len(classes)):
        raise UsageError(
            f"classes of {entry.name} must be a list of names, num_classes of them if that is "
            f"passed too; got {arguments.short_repr(classes)} and num_classes="
            f"{arguments.short_repr(num_classes)}"
        )


def _checked_source(source, entry):
    """Returns the argument `weights` as a path, `RANDOM` or `None`."""
    return (
        source
        if source in (None, RANDOM)
        else arguments.check_path(source, f"weights of {entry.name}")
    )


def _endpoints(entry, image, options, given):
    """Calls a builder; an error is a `UsageError` if the caller passed options."""
    try:
        return entry.builder(image, **options)
    except UsageError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if not given:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{entry.name} cannot be built with {arguments.short_repr(given)}: {reason}"
        ) from error
