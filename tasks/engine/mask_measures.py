"""How well a segmenter does on a split: counts of pixels, some batches at a time.

What is counted is whole numbers, and a loss is summed image by image, so that the size of batches
and the number of replicas change nothing. Confusion matrices of images are held for a few batches
only; what is kept of each image is its `masks.tally`, three numbers for each class.
"""

from __future__ import annotations

import weakref

from tasks.data import batches, mask_stream
from tasks.data.geometry import IGNORED
from tasks.engine import distribute
from tasks.report import masks
from zoo.lazy import keras, np

HELD = 2**26  # bytes of confusion matrices of images at a time

_measuring = weakref.WeakKeyDictionary()  # by model: what `measure` runs, as it is slow to trace


def measure(model, examples, *, batch_size):
    """Returns what becomes of the pixels of every example, once and in order.

    Args:
        model: a functional `keras.Model` to logits `(batch, height, width, classes)`.
        examples: `decoding.Examples` with masks for labels, uint8 `(count, height, width)`.
        batch_size: images at a time, over all replicas. Every batch is full, the last one padded
            with copies that are cut off again.

    Returns:
        A `masks.Count`, and the mean cross-entropy in nats of all pixels that have a label.
    """
    if model not in _measuring:
        with distribute.scope(model):
            _measuring[model] = batches.without_xla(_counting(model))
    count, losses = masks.Count(model.output_shape[-1]), []
    steps = max(1, HELD // (4 * batch_size * count.matrix.size))
    for start in range(0, len(examples), steps * batch_size):
        some = slice(start // batch_size, start // batch_size + steps)
        pairs = mask_stream.whole(examples, batch_size=batch_size, some=some)
        data = pairs.map(lambda images, labels: ((images, labels),))  # all of it is input
        cells, entropies = _measuring[model].predict(data, verbose=0)
        left = len(examples) - start
        count.add_matrices(cells[:left].reshape(-1, *count.matrix.shape))
        losses.append(entropies[:left])
    loss = np.concatenate(losses).astype("float64").sum() / max(1, count.matrix.sum())
    return count, float(loss)


def predict(model, examples, indices, *, batch_size):
    """Returns the masks that a model gives for some examples: uint8 `(indices, height, width)`."""
    found = []
    batch_size = batches.bounded(batch_size, len(indices))
    for start in range(0, len(indices), batch_size):
        chosen = np.asarray(indices[start : start + batch_size])
        images = np.asarray(examples.pixels[np.resize(chosen, batch_size)])
        logits = batches.without_xla(model).predict_on_batch(images)[: len(chosen)]
        found.append(np.asarray(logits).argmax(axis=-1).astype("uint8"))
    return np.concatenate(found)


def _counting(model):
    """Returns a model from images and masks to what is counted of them."""
    logits = model.output
    classes = logits.shape[-1]
    labels = keras.Input(logits.shape[1:-1], dtype="uint8", name="mask_labels")
    inputs = [labels, logits]
    cells = keras.layers.Lambda(_cells, (classes**2,), dtype="float32")(inputs)
    losses = keras.layers.Lambda(_losses, (), dtype="float32")(inputs)
    return keras.Model([model.input, labels], [cells, losses])


def _cells(inputs):
    """Counts the pixels of each image by true class and said class."""
    ops, (labels, logits) = keras.ops, inputs
    images, classes = ops.shape(logits)[0], logits.shape[-1]
    there, labels = _labelled(labels)
    said = ops.cast(ops.argmax(logits, axis=-1), "int32")
    places = ops.reshape(labels * classes + said, (images, -1))
    places = places + ops.arange(images, dtype="int32")[:, None] * classes**2
    ones = ops.reshape(ops.cast(there, "int32"), (-1,))
    sums = ops.segment_sum(ones, ops.reshape(places, (-1,)), images * classes**2)
    return ops.reshape(sums, (images, classes**2))


def _losses(inputs):
    """Sums the cross-entropies of each image."""
    ops, (labels, logits) = keras.ops, inputs
    there, labels = _labelled(labels)
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return ops.sum(ops.where(there, entropy, 0.0), axis=(1, 2))


def _labelled(labels):
    """Returns which pixels have a label, and the labels with 0 in place of none."""
    labels = keras.ops.cast(labels, "int32")
    there = labels != IGNORED
    return there, keras.ops.where(there, labels, 0)
