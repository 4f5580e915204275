"""How well a segmenter does on a split: counts of pixels, some batches at a time.

What is counted is whole numbers, and a loss is summed image by image, so that the size of batches
and the number of replicas change nothing. Confusion matrices of images are held for a few batches
only; what is kept of each image is its `metrics.iou_counts`, three numbers for each class.
"""

from __future__ import annotations

import weakref

from tasks.data import batches
from tasks.data.geometry import IGNORE_LABEL
from tasks.distributed import strategies
from tasks.segmentation import batches as segmentation_batches
from tasks.segmentation import metrics
from zoo.lazy import keras, np

MAX_MATRIX_BYTES = 2**26  # bytes of confusion matrices of images at a time

_evaluation_models = (
    weakref.WeakKeyDictionary()
)  # by model: what `measure` runs, as it is slow to trace


def evaluate(model, examples, *, batch_size):
    """Returns what becomes of the pixels of every example, once and in order.

    Args:
        model: a functional `keras.Model` to logits `(batch, height, width, classes)`.
        examples: `decoding.Examples` with masks for labels, uint8 `(count, height, width)`.
        batch_size: images at a time, over all replicas. Every batch is full, the last one padded
            with copies that are cut off again.

    Returns:
        A `metrics.ConfusionCounter`, and the mean cross-entropy in nats of all pixels that have a
        label.
    """
    if model not in _evaluation_models:
        with strategies.scope(model):
            _evaluation_models[model] = batches.without_xla(_build_evaluation_model(model))
    count, losses = metrics.ConfusionCounter(model.output_shape[-1]), []
    steps = max(1, MAX_MATRIX_BYTES // (4 * batch_size * count.matrix.size))
    for start in range(0, len(examples), steps * batch_size):
        batch_range = slice(start // batch_size, start // batch_size + steps)
        pairs = segmentation_batches.evaluation_batches(
            examples, batch_size=batch_size, batch_range=batch_range
        )
        data = pairs.map(lambda images, labels: ((images, labels),))  # all of it is input
        cells, entropies = _evaluation_models[model].predict(data, verbose=0)
        remaining = len(examples) - start
        count.add_matrices(cells[:remaining].reshape(-1, *count.matrix.shape))
        losses.append(entropies[:remaining])
    loss = np.concatenate(losses).astype("float64").sum() / max(1, count.matrix.sum())
    return count, float(loss)


def predict(model, examples, indices, *, batch_size):
    """Returns the masks that a model gives for some examples: uint8 `(indices, height, width)`."""
    found = []
    batch_size = batches.bounded_batch_size(batch_size, len(indices))
    for start in range(0, len(indices), batch_size):
        chosen = np.asarray(indices[start : start + batch_size])
        images = np.asarray(examples.pixels[np.resize(chosen, batch_size)])
        logits = batches.without_xla(model).predict_on_batch(images)[: len(chosen)]
        found.append(np.asarray(logits).argmax(axis=-1).astype("uint8"))
    return np.concatenate(found)


def _build_evaluation_model(model):
    """Returns a model from images and masks to what is counted of them."""
    logits = model.output
    classes = logits.shape[-1]
    labels = keras.Input(logits.shape[1:-1], dtype="uint8", name="mask_labels")
    inputs = [labels, logits]
    cells = keras.layers.Lambda(_confusion_matrices, (classes**2,), dtype="float32")(inputs)
    losses = keras.layers.Lambda(_cross_entropies, (), dtype="float32")(inputs)
    return keras.Model([model.input, labels], [cells, losses])


def _confusion_matrices(inputs):
    """Counts the pixels of each image by true class and said class."""
    ops, (labels, logits) = keras.ops, inputs
    images, classes = ops.shape(logits)[0], logits.shape[-1]
    valid, labels = _valid_labels(labels)
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    segment_ids = ops.reshape(labels * classes + predicted, (images, -1))
    segment_ids = segment_ids + ops.arange(images, dtype="int32")[:, None] * classes**2
    ones = ops.reshape(ops.cast(valid, "int32"), (-1,))
    sums = ops.segment_sum(ones, ops.reshape(segment_ids, (-1,)), images * classes**2)
    return ops.reshape(sums, (images, classes**2))


def _cross_entropies(inputs):
    """Sums the cross-entropies of each image."""
    ops, (labels, logits) = keras.ops, inputs
    valid, labels = _valid_labels(labels)
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return ops.sum(ops.where(valid, entropy, 0.0), axis=(1, 2))


def _valid_labels(labels):
    """Returns which pixels have a label, and the labels with 0 in place of none."""
    labels = keras.ops.cast(labels, "int32")
    valid = labels != IGNORE_LABEL
    return valid, keras.ops.where(valid, labels, 0)
