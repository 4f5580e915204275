"""What happens inside a network: what reaches its layers, while it looks at images.

A layer is watched by standing in for its `call` for a while, so models inside models and models
that are no graph are seen like any other; nothing of the model is changed.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass

from zoo.lazy import keras, np

VALUES = 2**22  # pixels of a batch that statistics are taken from
LEAST, MOST = 16, 256  # images in such a batch
BORDER = 8  # the part of height and width, on each side, that counts as border
ALIVE = 0.01  # share of the median variance from which a channel counts as alive


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel, float64, of what enters a layer."""

    mean: np.ndarray
    variance: np.ndarray


class Seen(Exception):
    """What was to be seen was seen: the rest of the network need not compute."""


def leaves(model):
    """Returns the layers of a model that are made of no others, those of models inside it too."""
    return [layer for layer in model._flatten_layers() if not list(layer._layers)]


def norms(model):
    """Returns the batch normalisations of a model."""
    found = (layer for layer in leaves(model) if _is_norm(layer))
    return [layer for layer in found if layer.built]


def stored(norm):
    """Returns the `Moments` that a batch normalisation keeps."""
    mean, variance = (keras.ops.convert_to_numpy(v) for v in _statistics(norm))
    return Moments(mean.astype("float64"), variance.astype("float64"))


def untaught(norm):
    """Tells whether a batch normalisation's statistics are those that it was made with."""
    moments = stored(norm)
    return bool((moments.mean == 0).all() and (moments.variance == 1).all())


def outputs(model, images, batch_size=32):
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


def first_moments(model, images):
    """Returns the first batch normalisation that computes, and the `Moments` of what enters it.

    Args:
        model: a `keras.Model` with `norms`.
        images: float32, one batch.
    """
    norm, x = first_input(model, norms(model), images)
    if len(x.shape) == 4:  # what a convolution is padded with is none of the picture
        rows, columns = (side // BORDER for side in x.shape[1:3])
        x = x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns]
    return norm, _moments(norm, x)


def first_input(model, watched, images):
    """Returns which of some layers is the first to compute, and what enters it.

    Returns:
        The layer and its input, or `None` and `None` if none computes.
    """
    found = [None, None]

    def see(layer, x):
        found[:] = layer, x
        raise Seen

    with watching(watched, see), suppress(Seen):
        model(images, training=False)
    return tuple(found)


def moments(model, images, batch_size=32):
    """Returns the `Moments` of what enters each batch normalisation, and the model's answers.

    Returns:
        A dict from layer to `Moments`, in the order in which they compute, and the answers.
    """
    sums = {}

    def see(norm, x):
        seen = _moments(norm, x)
        weight, mean, square = sums.get(norm, (0, 0.0, 0.0))
        sums[norm] = (
            weight + len(x),
            mean + len(x) * seen.mean,
            square + len(x) * (seen.variance + seen.mean**2),
        )

    with watching(norms(model), see):
        answers = outputs(model, images, batch_size)
    found = {}
    for norm, (weight, mean, square) in sums.items():
        mean = mean / weight
        found[norm] = Moments(mean, np.maximum(square / weight - mean**2, 0))
    return found, answers


@contextmanager
def recalibrated(model, images):
    """Gives every batch normalisation the statistics of `images`, for a while.

    Each takes those of what the recalibrated layers before it make, as in training.

    Args:
        model: a `keras.Model`; its own statistics return at the end.
        images: a batch, of `batch_of` images or so.
    """
    kept = {norm: [keras.ops.copy(v) for v in _statistics(norm)] for norm in norms(model)}

    def take(norm, x):
        seen = _moments(norm, x)
        for variable, value in zip(_statistics(norm), (seen.mean, seen.variance), strict=True):
            variable.assign(value.astype("float32"))

    try:
        with watching(kept, take):
            model(images.astype("float32"), training=False)
        yield
    finally:
        for norm, values in kept.items():
            for variable, value in zip(_statistics(norm), values, strict=True):
                variable.assign(value)


def batch_of(images):
    """Returns how many of such images make a batch to take statistics from."""
    return int(min(MOST, max(LEAST, VALUES // np.prod(images.shape[1:3]))))


def distance(norm, seen):
    """Returns how far a batch normalisation's statistics are from what was seen, on average.

    It is the Bhattacharyya distance of two normal distributions a channel: 0 where they are
    equal, 0.13 where means are one deviation apart, 0.11 where one deviates twice as much as the
    other. Like the layer, it adds epsilon to each variance.
    """
    own = stored(norm)
    one, two = own.variance + norm.epsilon, seen.variance + norm.epsilon
    apart = (own.mean - seen.mean) ** 2 / (4 * (one + two))
    return float(np.mean(apart + 0.5 * np.log((one + two) / (2 * np.sqrt(one * two)))))


def contrast(norm, seen):
    """Returns how many times what was seen deviates as much as the statistics say.

    It is the median of channels that are alive.
    """
    own = stored(norm).variance
    alive = own > ALIVE * np.median(own)
    ratio = np.maximum(seen.variance[alive], 1e-30) / own[alive]
    return float(np.sqrt(np.median(ratio))) if alive.any() else 1.0


def first_weighted(model, images):
    """Returns the first layer that has learnt something, and what enters it, as NumPy.

    A `Normalization` knows the data, but learnt nothing.
    """
    given = keras.layers.Normalization
    learnt = [x for x in leaves(model) if x.weights and not isinstance(x, given)]
    layer, x = first_input(model, learnt, images)
    return layer, None if x is None else keras.ops.convert_to_numpy(x)


@contextmanager
def watching(watched, see):
    """Calls `see(layer, input)` whenever one of the layers computes, before it does."""

    def standing_in(layer, call):
        def watched_call(x, *args, **named):
            see(layer, x)
            return call(x, *args, **named)

        return watched_call

    watched = list(watched)
    try:
        for layer in watched:
            layer.call = standing_in(layer, layer.call)
        yield
    finally:
        for layer in watched:
            vars(layer).pop("call", None)


def _is_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _statistics(norm):
    return norm.moving_mean, norm.moving_variance


def _moments(norm, x):
    axis = norm.axis[0] if isinstance(norm.axis, (list, tuple)) else norm.axis
    others = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    x = keras.ops.cast(x, "float32")
    found = keras.ops.mean(x, axis=others), keras.ops.var(x, axis=others)
    return Moments(*(keras.ops.convert_to_numpy(value).astype("float64") for value in found))
