"""Logits of all images of a split, of a classifier or a segmenter, by the fastest runtime.

A large network is run by the runtime that `zoo predict` would choose, on small batches in several
threads. It is compared with Keras on the first batch. Images whose classes are so close that the
difference of the runtimes could change their order are computed by Keras, so that a figure that
counts classes, such as the accuracy, is that of Keras.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from tasks.data import batches
from tasks.inference import runtimes, threads
from zoo import flops
from zoo.errors import UsageError
from zoo.lazy import np

MIN_FLOPS = 2e12  # of all images, about 10 s of Keras on two cores, from which conversion pays
MIN_BOUND = 1e-5  # of the difference of two runtimes, relative to the largest output
BOUND_FACTOR = 10  # how much larger a difference may be than those of the first batch
TOP = (1, 5)  # numbers of classes that metrics count the label among

log = logging.getLogger("zoo")


def predict(model, examples, *, batch_size, multi_label=False):
    """Returns the logits of a classifier for all examples, in order, as one array.

    Args:
        model: a `keras.Model`.
        examples: `decoding.Examples`.
        batch_size: the largest batch size of Keras.
        multi_label: whether a class is predicted where its logit is positive.
    """
    run = predict_function(model, examples, multi_label=multi_label)
    if run is None:
        return batches.predict(model, examples, batch_size=batch_size)
    return np.concatenate([*map_batches(lambda images, _: run(images), model, examples)])


def predict_function(model, examples, *, multi_label=False):
    """Returns a thread-safe function from images to logits, or `None` if Keras is as fast.

    Args:
        model: a `keras.Model` from images to logits `(batch, classes)`, or of each pixel,
            `(batch, height, width, classes)`.
        examples: the `decoding.Examples` that it is for.
        multi_label: whether a class is predicted where its logit is positive.
    """
    fast = _start(model, examples)
    if fast is None:
        return None
    run, bound, plain = fast

    def predict_batch(images):
        logits = np.array(run(images))
        close = np.flatnonzero(_is_close(logits, bound, multi_label))
        if len(close):
            logits[close] = plain(images[close])
        return logits

    return predict_batch


def map_batches(function, model, examples):
    """Yields what a function returns for each small batch, in order; several threads call it.

    Args:
        function: a function of images, uint8, and of their indices.
        model: the `keras.Model` that it is for.
        examples: `decoding.Examples`.
    """
    size = runtimes.batch_size(model.input_shape[1:], len(examples), on_cpu=True)
    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // size))
    with ThreadPoolExecutor(threads.num_workers()) as pool:
        yield from pool.map(
            lambda rows: function(np.ascontiguousarray(examples.pixels[rows]), rows), parts
        )


def _start(model, examples):
    """Returns a faster runtime's function, the bound of its difference, and that of Keras."""
    name = _runtime_name(model, len(examples))
    if name == "keras":
        return None
    count = runtimes.batch_size(model.input_shape[1:], len(examples), on_cpu=True)
    images = np.ascontiguousarray(examples.pixels[np.arange(count)])
    if images.dtype != "uint8":
        return None
    plain = runtimes.keras_predict_function(model, count)
    expected = np.asarray(plain(images))
    run, message = runtimes.build_and_verify(
        lambda: runtimes.RUNTIMES[name].build(model, "float32"),
        lambda _: expected,
        images,
        runtimes.TOLERANCES["float32"],
        "logits",
    )
    if run is None:
        log.warning("%s cannot replace Keras, which evaluates instead: %s", name, message)
        return None
    log.info("%s evaluates; %s", name, message)
    difference = np.abs(run(images) - expected).max()
    return run, max(BOUND_FACTOR * difference, MIN_BOUND * np.abs(expected).max()), plain


def _runtime_name(model, count):
    """Returns the runtime that evaluates so many images; `keras` unless another one pays."""
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    single = all(isinstance(shape, tuple) for shape in shapes)  # one input and one output
    if not single or len(shapes[1]) not in (2, 4) or None in shapes[0][1:]:
        return "keras"
    strategy = getattr(model, "distribute_strategy", None)
    if runtimes.is_low_precision(model) or getattr(strategy, "num_replicas_in_sync", 1) > 1:
        return "keras"
    try:
        _, per_image = flops.count_params_and_flops(model)
    except UsageError:  # such as a layer of unknown size
        return "keras"
    if per_image * count < MIN_FLOPS:
        return "keras"
    return runtimes.choose_runtime("auto", "float32", count)


def _is_close(logits, bound, multi_label):
    """Returns for each image whether a change of its logits by `bound` could change its classes."""
    if multi_label:
        return (np.abs(logits) <= bound).any(axis=1)
    ranks = TOP if logits.ndim == 2 else TOP[:1]
    ordered = -np.sort(-logits, axis=-1)
    gaps = [ordered[..., n - 1] - ordered[..., n] for n in ranks if n < logits.shape[-1]]
    close = [gap.reshape(len(logits), -1) <= 2 * bound for gap in gaps]
    return np.concatenate([np.zeros((len(logits), 1), bool), *close], axis=1).any(axis=1)
