"""Segmentation losses on logits and integer masks: cross-entropy, focal, Dice and sums of them.

Pixels labeled `IGNORE_LABEL` are ignored. A mean over pixels is the mean over all other pixels of
the global batch, over all replicas. Everything is computed in float32 or float64, and masks are not
expanded to one-hot.
"""

from __future__ import annotations

from tasks.data.geometry import IGNORE_LABEL
from tasks.distributed import strategies
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

LOSSES = ("cross_entropy", "focal", "dice")
CLASS_WEIGHTS = ("none", "balanced", "median")
EPSILON = 1e-7  # smallest base of a power, whose gradient at 0 may be infinite


def segmentation_loss(text, *, num_classes, gamma=2.0, smooth=1.0, class_weights=None):
    """Returns the loss function of masks and logits.

    Args:
        text: One of `LOSSES` or a sum of them, such as `cross_entropy+dice`. `cross_entropy` and
            `focal` (Lin et al., 2017) are means over the pixels of a batch. `dice` (Milletari et
            al., 2016, without squares) is a mean over the images of a batch: 1 minus the mean,
            over the classes present in an image, of `(2 sum(p g) + smooth) / (sum(p) + sum(g) +
            smooth)`. An image without a label has a Dice loss of 0.
        num_classes: The number of classes. Labels are smaller, or `IGNORE_LABEL`.
        gamma: The focusing parameter of `focal`, at least 0.
        smooth: The smoothing term of `dice`, in pixels.
        class_weights: float `(num_classes,)`, the weights of a weighted mean over pixels; in
            `dice`, over the classes of an image. `None` for equal weights.

    Returns:
        A function of labels `(batch, height, width)` and logits `(batch, height, width,
        num_classes)` that returns values `(batch,)`, whose mean over all replicas is the loss.

    Raises:
        UsageError: `text` is not a sum of different `LOSSES`.
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
    """Returns the names of the losses in a sum.

    Raises:
        UsageError: A name is not one of `LOSSES`, or is repeated.
    """
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in LOSSES:
            raise unknown_name_error("loss", name, LOSSES)
    if len(set(names)) < len(names):
        raise UsageError(f"the loss {text} has a term twice; name each term once")
    return names


def class_weights(name, counts):
    """Returns class weights computed from pixel counts.

    Args:
        name: One of `CLASS_WEIGHTS`. `balanced` is `pixels / (classes * class_pixels)`, whose
            mean over pixels is 1. `median` is median frequency balancing (Eigen and Fergus, 2015,
            as in SegNet): the median of the class frequencies divided by the frequency of the
            class, which is its share of the pixels of the images that contain it. A class without
            pixels has weight 0.
        counts: int `(images, classes)`, the number of pixels of each class in each training image.

    Returns:
        float32 `(classes,)`, or `None` if the name is `none`.

    Raises:
        UsageError: The name is not one of `CLASS_WEIGHTS`.
    """
    if name == "none":
        return None
    if name not in CLASS_WEIGHTS:
        raise unknown_name_error("class weight", name, CLASS_WEIGHTS)
    counts = np.asarray(counts, "float64")
    class_pixels = counts.sum(axis=0)
    present = class_pixels > 0
    if name == "balanced":
        weights = class_pixels.sum() / (present.sum() * np.maximum(class_pixels, 1))
    elif present.any():
        image_pixels = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
        frequencies = class_pixels / np.maximum(image_pixels, 1)
        weights = np.median(frequencies[present]) / np.where(present, frequencies, 1)
    else:
        weights = class_pixels
    return np.where(present, weights, 0).astype("float32")


def pixel_counts(labels, num_classes):
    """Returns the number of pixels of each class in each mask, int64 `(images, num_classes)`.

    Args:
        labels: uint8 `(images, height, width)`, or a sequence whose slices are such arrays.
        num_classes: The number of classes. Labels are smaller, or `IGNORE_LABEL`.
    """
    rows = np.zeros((len(labels), num_classes), "int64")
    for index, row in enumerate(rows):
        mask = np.asarray(labels[index : index + 1]).reshape(-1)
        row[:] = np.bincount(mask[mask != IGNORE_LABEL], minlength=num_classes)[:num_classes]
    return rows


class _PixelBatch:
    """The tensors that losses share.

    Attributes:
        classes: The number of classes.
        logits: `(batch, pixels, classes)`.
        labels: int32 `(batch, pixels)`, 0 where a pixel is ignored.
        valid: `(batch, pixels)`, 0 where a pixel is ignored, else 1.
        entropy: The cross-entropy in nats `(batch, pixels)`, 0 where a pixel is ignored.
        class_weights: `(classes,)`.
        weights: The weight of each pixel `(batch, pixels)`, 0 where it is ignored.
    """

    def __init__(self, labels, logits, class_weights):
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
        self.class_weights = ops.convert_to_tensor(class_weights, logits.dtype)
        self.weights = ops.take(self.class_weights, self.labels) * self.valid

    def mean(self, values):
        """Returns a value per image whose mean is the weighted mean over all pixels.

        Both means are over all replicas.

        Args:
            values: `(batch, pixels)`.

        Returns:
            `(batch,)`.
        """
        ops = keras.ops
        images = ops.cast(ops.shape(values)[0], values.dtype)
        totals = strategies.all_reduce_sum(ops.stack([ops.sum(self.weights), images]))
        scale = totals[1] / ops.maximum(totals[0], EPSILON)
        return ops.sum(values * self.weights, axis=1) * scale


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
    weights = ops.cast(true > 0, dice.dtype) * pixels.class_weights
    total = ops.sum(weights, axis=1)
    return ops.sum((1 - dice) * weights, axis=1) / ops.maximum(total, EPSILON)


def _sum_by_class(pixels, values):
    """Returns the sums `(batch, classes)` of values `(batch, pixels)` over each true class."""
    ops, classes = keras.ops, pixels.classes
    images = ops.shape(values)[0]
    segment_ids = ops.arange(images, dtype="int32")[:, None] * classes + pixels.labels
    sums = ops.segment_sum(
        ops.reshape(values, (-1,)), ops.reshape(segment_ids, (-1,)), images * classes
    )
    return ops.reshape(sums, (images, classes))


_FORMULAS = {"cross_entropy": _cross_entropy, "focal": _focal, "dice": _dice}
