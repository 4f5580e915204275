"""What a segmenter is taught by: formulas on logits and masks of whole numbers, and their sums.

Pixels labelled `IGNORED` count nowhere. A mean over pixels is one over all of the batch that
count, on however many replicas the batch is. Everything is computed in float32 at least, and no
mask is spread out into a map for each class.
"""

from __future__ import annotations

from tasks.data.geometry import IGNORE_LABEL
from tasks.distributed import strategies
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

LOSSES = ("cross_entropy", "focal", "dice")
CLASS_WEIGHTS = ("none", "balanced", "median")
EPSILON = 1e-7  # of what is raised to a power, whose slope at 0 may be infinite


def segmentation_loss(text, *, num_classes, gamma=2.0, smooth=1.0, class_weights=None):
    """Returns the loss of logits against masks.

    Args:
        text: one of `NAMES` or a sum of them, such as `cross_entropy+dice`. `cross_entropy` and
            `focal` (Lin et al., 2017) are means over the pixels of a batch, `dice` (Milletari et
            al., 2016, without its squares) over its images: 1 less the mean, over the classes in
            an image, of `(2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)`. An image without a
            label has no Dice, and counts 0.
        num_classes: labels are below it, or `IGNORED`.
        gamma: of `focal`, 0 or more.
        smooth: of `dice`, in pixels.
        class_weights: float `(num_classes,)` by which a pixel of a class counts, in a weighted
            mean; in `dice`, a class of an image. `None` for all alike.

    Returns:
        A function of labels `(batch, height, width)` and logits `(batch, height, width,
        num_classes)` to values `(batch,)`, whose mean over all replicas is the loss.

    Raises:
        UsageError: there is no such loss.
    """
    names = parse_loss(text)
    weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights)
    weights = weights.astype("float32")

    def loss(labels, logits):
        pixels = _PixelBatch(labels, logits, weights)
        return sum(_FORMULAS[name](pixels, gamma=gamma, smooth=smooth) for name in names)

    loss.__name__ = "loss"
    return loss


def parse_loss(text):
    """Returns the names that a sum of losses consists of; raises `UsageError` for another."""
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in LOSSES:
            raise unknown_name_error("loss", name, LOSSES)
    if len(set(names)) < len(names):
        raise UsageError(f"the loss {text} has a part twice")
    return names


def class_weights(name, counts):
    """Returns the weights of classes, or `None` for `none`.

    Args:
        name: one of `WEIGHTS`. `balanced` makes classes count alike: `pixels / (classes * own
            pixels)`, with a mean over pixels of 1. `median` is median frequency balancing (Eigen
            and Fergus, 2015, as SegNet has it): the median frequency of the classes by a class's
            own, which is its share of the pixels of those images that it is in. A class that is
            not there has no weight, and needs none.
        counts: int `(images, classes)`: pixels of each class in each training image.
    """
    if name == "none":
        return None
    if name not in CLASS_WEIGHTS:
        raise unknown_name_error("class weight", name, CLASS_WEIGHTS)
    counts = np.asarray(counts, "float64")
    own, valid = counts.sum(axis=0), counts.sum(axis=0) > 0
    if name == "balanced":
        found = own.sum() / (valid.sum() * np.maximum(own, 1))
    else:
        around = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
        frequency = own / np.maximum(around, 1)
        found = np.median(frequency[valid]) / np.where(valid, frequency, 1) if valid.any() else own
    return np.where(valid, found, 0).astype("float32")


def pixel_counts(labels, num_classes):
    """Returns the pixels of each class in each mask: int64 `(images, num_classes)`.

    Args:
        labels: uint8 `(images, height, width)`, or what gives such when a slice is asked for.
        num_classes: labels are below it, or `IGNORED`.
    """
    rows = np.zeros((len(labels), num_classes), "int64")
    for index, row in enumerate(rows):
        mask = np.asarray(labels[index : index + 1]).reshape(-1)
        row[:] = np.bincount(mask[mask != IGNORE_LABEL], minlength=num_classes)[:num_classes]
    return rows


class _PixelBatch:
    """What the formulas share of a batch: for each pixel `(batch, pixels)` its cross-entropy, in
    nats, 0 where it is ignored; its class and its weight."""

    def __init__(self, labels, logits, weights):
        ops = keras.ops
        logits = ops.cast(logits, "float64" if logits.dtype == "float64" else "float32")
        self.classes = logits.shape[-1]
        labels = ops.cast(labels, "int32")
        valid = labels != IGNORE_LABEL
        labels = ops.where(valid, labels, 0)
        entropy = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        flat = (ops.shape(logits)[0], -1)
        self.logits = ops.reshape(logits, (*flat, self.classes))
        self.valid = ops.reshape(ops.cast(valid, logits.dtype), flat)
        self.labels = ops.reshape(labels, flat)
        self.entropy = ops.reshape(entropy, flat) * self.valid
        self.by_class = ops.convert_to_tensor(weights, logits.dtype)
        self.weights = ops.take(self.by_class, self.labels) * self.valid

    def mean(self, values):
        """Returns a value for each image, of which the mean over all replicas is that of some
        values over the pixels of all of them, weighted."""
        ops = keras.ops
        images = ops.cast(ops.shape(values)[0], values.dtype)
        total = strategies.all_reduce_sum(ops.stack([ops.sum(self.weights), images]))
        share = total[1] / ops.maximum(total[0], EPSILON)
        return ops.sum(values * self.weights, axis=1) * share


def _cross_entropy(pixels, **_):
    return pixels.mean(pixels.entropy)


def _focal(pixels, *, gamma, **_):
    if not gamma:
        return pixels.mean(pixels.entropy)
    one_minus_p = keras.ops.maximum(-keras.ops.expm1(-pixels.entropy), EPSILON)
    return pixels.mean(one_minus_p**gamma * pixels.entropy)


def _dice(pixels, *, smooth, **_):
    ops = keras.ops
    p = ops.softmax(pixels.logits, axis=-1)
    predicted = ops.einsum("bnc,bn->bc", p, pixels.valid)
    intersection = _sum_by_class(pixels, ops.exp(-pixels.entropy) * pixels.valid)
    true = _sum_by_class(pixels, pixels.valid)
    dice = (2 * intersection + smooth) / (predicted + true + smooth)
    weights = ops.cast(true > 0, dice.dtype) * pixels.by_class
    total = ops.sum(weights, axis=1)
    return ops.sum((1 - dice) * weights, axis=1) / ops.maximum(total, EPSILON)


def _sum_by_class(pixels, values):
    """Returns the sums of values `(batch, pixels)` over the pixels of each class."""
    ops, classes = keras.ops, pixels.classes
    images = ops.shape(values)[0]
    segment_ids = ops.arange(images, dtype="int32")[:, None] * classes + pixels.labels
    sums = ops.segment_sum(
        ops.reshape(values, (-1,)), ops.reshape(segment_ids, (-1,)), images * classes
    )
    return ops.reshape(sums, (images, classes))


_FORMULAS = {"cross_entropy": _cross_entropy, "focal": _focal, "dice": _dice}
