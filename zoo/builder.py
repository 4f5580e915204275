"""How a model of the catalogue is built: whole, or as a backbone; with random weights or others."""

from __future__ import annotations

import functools
import inspect
import logging

from zoo import arguments, model_files, surgery, weights
from zoo.catalog import RANDOM, models
from zoo.errors import UsageError, unknown_name_error
from zoo.graphs import HEAD_LAYER
from zoo.lazy import keras
from zoo.parts import blocks
from zoo.weights import identify, torch_conversion

log = logging.getLogger("zoo")


def build(name, *, input_shape=None, num_classes=None, classes=None, weights=None, **options):
    """Builds the model called `name`, ready to compile.

    Args:
        name: a name from `zoo.names()`. `resnet50` has random weights, `resnet50.imagenet` the
            pretrained ones, with the preprocessing that belongs to them.
        input_shape: `(height, width, channels)`; defaults to the paper's. A name with a tag takes
            another number of channels too, as `surgery.channels` adapts what the weights know.
        num_classes: width of the logits. With a tag, giving it means a fresh head; leaving it
            out keeps the pretrained one.
        classes: the names of these classes, in the order of the logits. If `weights` is the file
            of a model with the same classes, in whatever order, its head is kept too; if it
            has other ones, the head is fresh.
        weights: a weights file to use, in place of the tag's source if there is a tag;
            `"random"` for a tag's preprocessing without its weights. A PyTorch state dict
            brings the preprocessing of PyTorch. Weights that the option `backbone` names are
            then not fetched: those given are for all of the network.
        **options: builder options, such as `dropout`, that override the variant's.

    Returns:
        A functional `keras.Model` from images, RGB in [0, 255] with shape
        `(batch, *input_shape)`, to float32 logits of shape `(batch, num_classes)`; with
        `auxiliary=True`, where a model has such heads, to a dict of the logits of each. The
        logits of a segmenter, `(batch, height, width, num_classes)`, are of the image's size,
        whatever that is; `input_shape` may leave height and width open, as `None`.

    Raises:
        UsageError: no model has that name, an option is unknown, the input is too small, or the
            weights are not to be had or do not fit.

    Example:
        >>> zoo.build("vgg16", num_classes=10, input_shape=(64, 64, 3))
    """
    entry = models.get(name)
    if classes is not None:
        _check_class_names(entry, classes, num_classes)
        num_classes = len(classes)
    return _build(entry, input_shape, num_classes, weights, options, head=True, classes=classes)


def backbone(name, *, input_shape=None, weights=None, **options):
    """Builds the model called `name` without its head.

    Takes the arguments of `build`.

    Returns:
        A `keras.Model` from images to the feature pyramid: an ordered dict whose key `stageN`
        has about `1 / 2**N` of the input's height and width.

    Raises:
        UsageError: as `build`; or the model has no stages.
    """
    entry = models.get(name)
    if not entry.stages:
        raise UsageError(f"{name} has no feature pyramid; see `zoo list` for models with stages")
    return _build(entry, input_shape, None, weights, options, head=False)


@functools.cache
def head_in_features(name):
    """Returns how many features the logits of the model called `name` are made of; 0: no one layer.

    It is that of a fresh head. The network is outlined for it, without values for its weights.

    Raises:
        UsageError: no model has that name.
    """
    entry = models.get(name)
    if entry.kind != "classifier":
        return 0
    with keras.StatelessScope(initialize_variables=False):
        model = build(name, num_classes=entry.num_classes, weights=RANDOM)
    found = [layer for layer in model.layers if layer.name == HEAD_LAYER]
    return found[0].kernel.shape[-2] if found else 0


def _build(entry, input_shape, num_classes, source, options, *, head, classes=None):
    shape = entry.validate_input_shape(input_shape)
    source = _checked_source(source, entry)
    given = options
    channels = shape[-1]
    if entry.weights:  # build what the weights are for, and adapt it when it has them
        shape = (*shape[:-1], entry.input_shape[-1])
    options = _checked_options(entry, options)
    fresh = head and num_classes is not None
    if entry.weights and (fresh or not head):
        options = {**entry.weights.options, **options}
    if fresh:
        _check_num_classes(entry, num_classes)
        options["num_classes"] = num_classes
    elif not head:
        options["num_classes"] = None

    if source is not None and "backbone_weights" in _known_options(entry):
        options.setdefault("backbone_weights", RANDOM)  # the file is for all of the network
    inputs = keras.Input(shape, name=entry.first if entry.inputs else "input")
    pixels = torch_conversion.infer_preprocessing(source, entry)
    endpoints = _endpoints(entry, blocks.preprocess(inputs, pixels), options, given)
    if more := [name for name in entry.inputs if name in endpoints]:
        inputs = {entry.first: inputs, **{name: endpoints[name] for name in more}}
    if head:
        heads = [*(entry.auxiliary if options.get("auxiliary") else ()), list(endpoints)[-1]]
        outputs = {name: endpoints[name] for name in heads}
        outputs = outputs if len(heads) > 1 else outputs[heads[0]]
    else:
        outputs = {name: x for name, x in endpoints.items() if name.startswith("stage")}
    model = keras.Model(inputs, outputs, name=_model_name(entry, head))
    features_only = not head or (fresh and _matches_tag_options(entry, options))
    _load_weights(model, entry, source, whole=not fresh, headless=features_only, classes=classes)
    return model if shape[-1] == channels else surgery.channels(model, channels)


def _matches_tag_options(entry, options):
    """Tells whether a fresh head is the one that the tag's weights imply."""
    implied = entry.weights.options if entry.weights else {}
    return all(options[option] == value for option, value in implied.items())


def _load_weights(model, entry, source, *, whole, headless, classes):
    """Gives `model` the weights it should start from."""
    if source == RANDOM or (source is None and entry.weights is None):
        return
    path = source
    if source is None:
        path = weights.fetch(entry.name, entry.weights, headless=headless)
    # A whole pretrained model that lacks some of its weights would answer nonsense, so there
    # everything must match; a file beside a bare name may be of a model with another head.
    strict = whole and entry.weights is not None
    file_classes = model_files.read_class_names(path) if classes else ()
    same = same_classes(file_classes, classes or ())
    # A head of as many classes would fit, but they are other classes.
    others = bool(file_classes) or entry.weights is not None
    fresh = (HEAD_LAYER,) if not whole and not same and others else ()
    try:
        loaded = weights.load(model, path, strict=strict, fresh=fresh)
    except torch_conversion.UnknownStateDictError as error:
        nearest = identify.describe_nearest(error.tensors, build)
        message = ", ".join(filter(None, (error.message, nearest)))
        raise UsageError(f"{message}{error.advice}") from None
    if same and HEAD_LAYER in loaded.matched:
        _permute_classes(
            model.get_layer(HEAD_LAYER), [file_classes.index(name) for name in classes]
        )
        log.info("kept the head of %s for the same classes; it has no optimiser state", path)


def same_classes(file_classes, model_classes):
    """Tells whether two lists of classes are the same but for their order."""
    return (
        bool(file_classes)
        and len(set(file_classes)) == len(file_classes)
        and sorted(file_classes) == sorted(model_classes)
    )


def _permute_classes(layer, order):
    """Sorts the classes of a classifier's last layer: class `i` is what was `order[i]`."""
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
    if entry.kind != "classifier":
        raise UsageError(
            f"{entry.name} is a {entry.kind}; only a classifier takes names of classes"
        )
    given = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    if not given or num_classes not in (None, len(classes)):
        raise UsageError(
            f"classes of {entry.name} must be a list of names, one for each of the num_classes "
            f"that are given; got {arguments.short_repr(classes)} and "
            f"{arguments.short_repr(num_classes)}"
        )


def _check_num_classes(entry, num_classes):
    arguments.check_int(num_classes, f"num_classes of {entry.name}")


def _checked_source(source, entry):
    """Returns the path that stands for weights, `RANDOM` or `None`."""
    return (
        source
        if source in (None, RANDOM)
        else arguments.check_path(source, f"weights of {entry.name}")
    )


def _endpoints(entry, image, options, given):
    """Calls a builder; what it says to options that the caller gave is the caller's to mend."""
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
