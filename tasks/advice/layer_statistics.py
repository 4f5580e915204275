"""Statistics of the inputs of layers, collected with forward hooks.

A hook temporarily wraps the `call` of a layer, so that nested and subclassed models work, too. The
model is not changed.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass

from zoo.lazy import keras, np

MAX_PIXELS = 2**22  # of a batch for statistics
MIN_IMAGES, MAX_IMAGES = 16, 256  # of a batch for statistics
BORDER_FRACTION = 8  # 1 / fraction of height and width on each side that is cropped
MIN_RELATIVE_VARIANCE = 0.01  # to the median, from which a channel is not dead


@dataclass(frozen=True)
class Moments:
    """Mean and variance per channel of the input of a layer, float64 `(channels,)`."""

    mean: np.ndarray
    variance: np.ndarray


class StopForward(Exception):
    """Raised by a hook to skip the rest of the forward pass."""


def leaf_layers(model):
    """Returns the layers, also of nested models, that contain no other layers."""
    return [layer for layer in model._flatten_layers() if not list(layer._layers)]


def batch_norms(model):
    """Returns the batch normalization layers of a model."""
    found = (layer for layer in leaf_layers(model) if _is_batch_norm(layer))
    return [layer for layer in found if layer.built]


def moving_moments(norm):
    """Returns the moving statistics of a batch normalization as `Moments`."""
    mean, variance = (keras.ops.convert_to_numpy(v) for v in _moving_statistics(norm))
    return Moments(mean.astype("float64"), variance.astype("float64"))


def is_untrained(norm):
    """Returns whether a batch normalization has its initial statistics, mean 0 and variance 1."""
    moments = moving_moments(norm)
    return bool((moments.mean == 0).all() and (moments.variance == 1).all())


def predict(model, images, batch_size=32):
    """Returns the outputs of a model for images, `(images, ...)`.

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
    """Returns the first batch normalization in the forward pass, and the `Moments` of its input.

    Args:
        model: a `keras.Model` with batch normalization.
        images: float32, one batch.
    """
    norm, x = first_layer_input(model, batch_norms(model), images)
    if len(x.shape) == 4:  # crop the border, which zero padding affects
        rows, columns = (side // BORDER_FRACTION for side in x.shape[1:3])
        x = x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns]
    return norm, _input_moments(norm, x)


def first_layer_input(model, hooked, images):
    """Returns the first of some layers in the forward pass, and its input.

    Returns:
        The layer and its input, or `None` and `None` if none is called.
    """
    found = [None, None]

    def hook(layer, x):
        found[:] = layer, x
        raise StopForward

    with forward_pre_hooks(hooked, hook), suppress(StopForward):
        model(images, training=False)
    return tuple(found)


def batch_norm_moments(model, images, batch_size=32):
    """Returns the `Moments` of the input of each batch normalization, and the model outputs.

    Returns:
        A dict from layer to `Moments`, in the order of the forward pass, and the outputs.
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
        outputs = predict(model, images, batch_size)
    found = {}
    for norm, (weight, mean, square) in sums.items():
        mean = mean / weight
        found[norm] = Moments(mean, np.maximum(square / weight - mean**2, 0))
    return found, outputs


@contextmanager
def recalibrated_batch_norms(model, images):
    """Replaces the statistics of every batch normalization by those of `images` in a `with` block.

    Each layer sees the output of the recalibrated layers before it, as in training.

    Args:
        model: a `keras.Model`; its own statistics are restored at the end.
        images: one batch of about `statistics_batch_size` images.
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
    """Returns the number of images of a batch for statistics, depending on their size."""
    return int(min(MAX_IMAGES, max(MIN_IMAGES, MAX_PIXELS // np.prod(images.shape[1:3]))))


def bhattacharyya_distance(norm, seen):
    """Returns the mean distance over channels between moving statistics and observed moments.

    It is the Bhattacharyya distance of two normal distributions: 0 if they are equal, 0.13 for
    means one standard deviation apart, 0.11 for standard deviations with a ratio of two. Like the
    layer, it adds epsilon to each variance.
    """
    own = moving_moments(norm)
    one, two = own.variance + norm.epsilon, seen.variance + norm.epsilon
    apart = (own.mean - seen.mean) ** 2 / (4 * (one + two))
    return float(np.mean(apart + 0.5 * np.log((one + two) / (2 * np.sqrt(one * two)))))


def deviation_ratio(norm, seen):
    """Returns the ratio of the observed standard deviation to that of the moving statistics.

    It is the median over the channels that are not dead.
    """
    own = moving_moments(norm).variance
    alive = own > MIN_RELATIVE_VARIANCE * np.median(own)
    ratio = np.maximum(seen.variance[alive], 1e-30) / own[alive]
    return float(np.sqrt(np.median(ratio))) if alive.any() else 1.0


def first_trained_layer_input(model, images):
    """Returns the first layer with trained weights, and its input as a NumPy array.

    `Normalization` layers do not count: their weights are statistics of the data.
    """
    preprocessing_layer = keras.layers.Normalization
    trained = [
        x for x in leaf_layers(model) if x.weights and not isinstance(x, preprocessing_layer)
    ]
    layer, x = first_layer_input(model, trained, images)
    return layer, None if x is None else keras.ops.convert_to_numpy(x)


@contextmanager
def forward_pre_hooks(hooked, hook):
    """Calls `hook(layer, input)` before each call of one of the layers."""

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
    others = [other_axis for other_axis in range(len(x.shape)) if other_axis != axis % len(x.shape)]
    x = keras.ops.cast(x, "float32")
    found = keras.ops.mean(x, axis=others), keras.ops.var(x, axis=others)
    return Moments(*(keras.ops.convert_to_numpy(value).astype("float64") for value in found))
