"""Evaluates a segmenter on a split, and predicts masks.

Pixels are counted as integers and losses are summed per image, so that the results do not depend
on the batch size or the number of replicas. Confusion matrices per image are kept for a few batches
only; what remains of each image is its `metrics.iou_counts`, three counts per class.
"""

from __future__ import annotations

import weakref

from tasks.data import batches
from tasks.data.geometry import IGNORE_LABEL
from tasks.distributed import strategies
from tasks.report import cross_entropy
from tasks.segmentation import batches as segmentation_batches
from tasks.segmentation import metrics
from zoo.lazy import LazyModule, keras, np

batched_outputs = LazyModule("tasks.inference.batched_outputs")

MAX_MATRIX_BYTES = 2**26  # of the confusion matrices per image that are kept at a time

# By model, as tracing is slow. Weak keys, so that models can be garbage-collected.
_evaluation_models = weakref.WeakKeyDictionary()


def evaluate(model, examples, *, batch_size):
    """Evaluates a model on every example.

    Args:
        model: A functional `keras.Model` to logits `(batch, height, width, classes)`.
        examples: `decoding.Examples` whose labels are masks, uint8 `(count, height, width)`.
        batch_size: The batch size over all replicas. Every batch is full: the last one is padded
            with copies, which are not counted.

    Returns:
        A tuple of a `metrics.ConfusionCounter` and the mean cross-entropy in nats over all pixels
        that are not ignored.
    """
    if run := batched_outputs.predict_function(model, examples):
        return _evaluate_by_runtime(run, model, examples)
    if model not in _evaluation_models:
        with strategies.scope(model):
            _evaluation_models[model] = batches.without_xla(_build_evaluation_model(model))
    counter, losses = metrics.ConfusionCounter(model.output_shape[-1]), []
    steps = max(1, MAX_MATRIX_BYTES // (4 * batch_size * counter.matrix.size))
    for start in range(0, len(examples), steps * batch_size):
        batch_range = slice(start // batch_size, start // batch_size + steps)
        pairs = segmentation_batches.evaluation_batches(
            examples, batch_size=batch_size, batch_range=batch_range
        )
        data = pairs.map(lambda images, labels: ((images, labels),))  # labels are inputs, too
        matrices, entropies = _evaluation_models[model].predict(data, verbose=0)
        remaining = len(examples) - start
        counter.add_matrices(matrices[:remaining].reshape(-1, *counter.matrix.shape))
        losses.append(entropies[:remaining])
    loss = np.concatenate(losses).astype("float64").sum() / max(1, counter.matrix.sum())
    return counter, float(loss)


def _evaluate_by_runtime(run, model, examples):
    """Returns what `evaluate` returns, by a function from images to logits."""
    counter, total = metrics.ConfusionCounter(model.output_shape[-1]), 0.0

    def measure(images, indices):
        logits, labels = run(images), np.asarray(examples.labels[indices])
        matrices = metrics.confusion_matrices(labels, logits.argmax(axis=-1), logits.shape[-1])
        valid = labels != IGNORE_LABEL
        return matrices, cross_entropy.softmax_cross_entropy(logits[valid], labels[valid]).sum()

    for matrices, entropy in batched_outputs.map_batches(measure, model, examples):
        counter.add_matrices(matrices)
        total += float(entropy)
    return counter, total / max(1, counter.matrix.sum())


def predict(model, examples, indices, *, batch_size):
    """Returns the predicted masks of some examples, uint8 `(indices, height, width)`."""
    masks = []
    batch_size = batches.bounded_batch_size(batch_size, len(indices))
    for start in range(0, len(indices), batch_size):
        chosen = np.asarray(indices[start : start + batch_size])
        images = np.asarray(examples.pixels[np.resize(chosen, batch_size)])
        logits = batches.without_xla(model).predict_on_batch(images)[: len(chosen)]
        masks.append(np.asarray(logits).argmax(axis=-1).astype("uint8"))
    return np.concatenate(masks)


def _build_evaluation_model(model):
    """Returns a model from images and masks to confusion matrices and losses per image."""
    logits = model.output
    classes = logits.shape[-1]
    labels = keras.Input(logits.shape[1:-1], dtype="uint8", name="mask_labels")
    inputs = [labels, logits]
    matrices = keras.layers.Lambda(_confusion_matrices, (classes**2,), dtype="float32")(inputs)
    losses = keras.layers.Lambda(_cross_entropies, (), dtype="float32")(inputs)
    return keras.Model([model.input, labels], [matrices, losses])


def _confusion_matrices(inputs):
    """Returns the flat confusion matrix of each image, `(batch, classes**2)`."""
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
    """Returns the sum of the cross-entropies of each image, `(batch,)`."""
    ops, (labels, logits) = keras.ops, inputs
    valid, labels = _valid_labels(labels)
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return ops.sum(ops.where(valid, entropy, 0.0), axis=(1, 2))


def _valid_labels(labels):
    """Returns which pixels are not ignored, and the labels with 0 for ignored pixels."""
    labels = keras.ops.cast(labels, "int32")
    valid = labels != IGNORE_LABEL
    return valid, keras.ops.where(valid, labels, 0)
