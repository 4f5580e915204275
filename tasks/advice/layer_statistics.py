"""What happens inside a network: what reaches its layers, while it looks at images.

A layer is watched by standing in for its `call` for a while, so models inside models and models
that are no graph are seen like any other; nothing of the model is changed.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass

from zoo.lazy import keras, np

MAX_PIXELS = 2**22  # pixels of a batch that statistics are taken from
MIN_IMAGES, MAX_IMAGES = 16, 256  # images in such a batch
BORDER_FRACTION = 8  # the part of height and width, on each side, that counts as border
MIN_RELATIVE_VARIANCE = 0.01  # share of the median variance from which a channel counts as alive


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel, float64, of what enters a layer."""

    mean: np.ndarray
    variance: np.ndarray


class StopForward(Exception):
    """What was to be seen was seen: the rest of the network need not compute."""


def leaf_layers(model):
    """Returns the layers of a model that are made of no others, those of models inside it too."""
    return [layer for layer in model._flatten_layers() if not list(layer._layers)]


def batch_norms(model):
    """Returns the batch normalisations of a model."""
    found = (layer for layer in leaf_layers(model) if _is_batch_norm(layer))
    return [layer for layer in found if layer.built]


def moving_moments(norm):
    """Returns the `Moments` that a batch normalisation keeps."""
    mean, variance = (keras.ops.convert_to_numpy(v) for v in _moving_statistics(norm))
    return Moments(mean.astype("float64"), variance.astype("float64"))


def is_untrained(norm):
    """Tells whether a batch normalisation's statistics are those that it was made with."""
    moments = moving_moments(norm)
    return bool((moments.mean == 0).all() and (moments.variance == 1).all())


def predict(model, images, batch_size=32):
    """Returns a model's answers to images, `(images, ...)`.

    Args:
        model: a `keras.Model`.
        images: `(images, height, width, channels)`, in [0, 255], of any dtype.
    """
    parts = [
        model(images[start : start + batch_size].astype("float32"), training=False)
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def first_batch_norm_moments(model, images):
    """Returns the first batch normalisation that computes, and the `Moments` of what enters it.

    Args:
        model: a `keras.Model` with `norms`.
        images: float32, one batch.
    """
    norm, x = first_layer_input(model, batch_norms(model), images)
    if len(x.shape) == 4:  # what a convolution is padded with is none of the picture
        rows, columns = (side // BORDER_FRACTION for side in x.shape[1:3])
        x = x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns]
    return norm, _input_moments(norm, x)


def first_layer_input(model, hooked, images):
    """Returns which of some layers is the first to compute, and what enters it.

    Returns:
        The layer and its input, or `None` and `None` if none computes.
    """
    found = [None, None]

    def hook(layer, x):
        found[:] = layer, x
        raise StopForward

    with forward_pre_hooks(hooked, hook), suppress(StopForward):
        model(images, training=False)
    return tuple(found)


def batch_norm_moments(model, images, batch_size=32):
    """Returns the `Moments` of what enters each batch normalisation, and the model's answers.

    Returns:
        A dict from layer to `Moments`, in the order in which they compute, and the answers.
    """
    sums = {}

    def hook(norm, x):
        seen = _input_moments(norm, x)
        weight, mean, square = sums.get(norm, (0, 0.0, 0.0))
        sums[norm] = (
            weight + len(x),
            mean + len(x) * seen.mean,
            square + len(x) * (seen.variance + seen.mean**2),
        )

    with forward_pre_hooks(batch_norms(model), hook):
        answers = predict(model, images, batch_size)
    found = {}
    for norm, (weight, mean, square) in sums.items():
        mean = mean / weight
        found[norm] = Moments(mean, np.maximum(square / weight - mean**2, 0))
    return found, answers


@contextmanager
def recalibrated_batch_norms(model, images):
    """Gives every batch normalisation the statistics of `images`, for a while.

    Each takes those of what the recalibrated layers before it make, as in training.

    Args:
        model: a `keras.Model`; its own statistics return at the end.
        images: a batch, of `batch_of` images or so.
    """
    kept = {
        norm: [keras.ops.copy(v) for v in _moving_statistics(norm)] for norm in batch_norms(model)
    }

    def take(norm, x):
        seen = _input_moments(norm, x)
        for variable, value in zip(
            _moving_statistics(norm), (seen.mean, seen.variance), strict=True
        ):
            variable.assign(value.astype("float32"))

    try:
        with forward_pre_hooks(kept, take):
            model(images.astype("float32"), training=False)
        yield
    finally:
        for norm, values in kept.items():
            for variable, value in zip(_moving_statistics(norm), values, strict=True):
                variable.assign(value)


def statistics_batch_size(images):
    """Returns how many of such images make a batch to take statistics from."""
    return int(min(MAX_IMAGES, max(MIN_IMAGES, MAX_PIXELS // np.prod(images.shape[1:3]))))


def bhattacharyya_distance(norm, seen):
    """Returns how far a batch normalisation's statistics are from what was seen, on average.

    It is the Bhattacharyya distance of two normal distributions a channel: 0 where they are
    equal, 0.13 where means are one deviation apart, 0.11 where one deviates twice as much as the
    other. Like the layer, it adds epsilon to each variance.
    """
    own = moving_moments(norm)
    one, two = own.variance + norm.epsilon, seen.variance + norm.epsilon
    apart = (own.mean - seen.mean) ** 2 / (4 * (one + two))
    return float(np.mean(apart + 0.5 * np.log((one + two) / (2 * np.sqrt(one * two)))))


def deviation_ratio(norm, seen):
    """Returns how many times what was seen deviates as much as the statistics say.

    It is the median of channels that are alive.
    """
    own = moving_moments(norm).variance
    alive = own > MIN_RELATIVE_VARIANCE * np.median(own)
    ratio = np.maximum(seen.variance[alive], 1e-30) / own[alive]
    return float(np.sqrt(np.median(ratio))) if alive.any() else 1.0


def first_trained_layer_input(model, images):
    """Returns the first layer that has learnt something, and what enters it, as NumPy.

    A `Normalization` knows the data, but learnt nothing.
    """
    preprocessing_layer = keras.layers.Normalization
    learnt = [x for x in leaf_layers(model) if x.weights and not isinstance(x, preprocessing_layer)]
    layer, x = first_layer_input(model, learnt, images)
    return layer, None if x is None else keras.ops.convert_to_numpy(x)


@contextmanager
def forward_pre_hooks(hooked, hook):
    """Calls `see(layer, input)` whenever one of the layers computes, before it does."""

    def wrap(layer, call):
        def watched_call(x, *args, **named):
            hook(layer, x)
            return call(x, *args, **named)

        return watched_call

    hooked = list(hooked)
    try:
        for layer in hooked:
            layer.call = wrap(layer, layer.call)
        yield
    finally:
        for layer in hooked:
            vars(layer).pop("call", None)


def _is_batch_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _moving_statistics(norm):
    return norm.moving_mean, norm.moving_variance


def _input_moments(norm, x):
    axis = norm.axis[0] if isinstance(norm.axis, (list, tuple)) else norm.axis
    others = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    x = keras.ops.cast(x, "float32")
    found = keras.ops.mean(x, axis=others), keras.ops.var(x, axis=others)
    return Moments(*(keras.ops.convert_to_numpy(value).astype("float64") for value in found))
