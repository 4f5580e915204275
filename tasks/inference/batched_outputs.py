"""Outputs of a classifier for all images of a split, by the fastest runtime.

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

MIN_FLOPS = 2e12  # in all from which a conversion pays; it takes some 10 s of Keras on two cores
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
    fast = _start(model, examples)
    if fast is None:
        return batches.predict(model, examples, batch_size=batch_size)
    run, bound = fast
    size = runtimes.batch_size(model.input_shape[1:], len(examples), on_cpu=True)
    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // size))
    with ThreadPoolExecutor(threads.num_workers()) as pool:
        rows = pool.map(lambda indices: run(np.asarray(examples.pixels[indices])), parts)
        logits = np.concatenate([np.array(part) for part in rows])
    close = np.flatnonzero(_is_close(logits, bound, multi_label))
    plain = runtimes.keras_predict_function(model, size)
    for indices in np.array_split(close, -(-len(close) // size)) if len(close) else ():
        logits[indices] = plain(np.asarray(examples.pixels[indices]))
    log.info("%d of %d images were evaluated by Keras", len(close), len(examples))
    return logits


def _start(model, examples):
    """Returns the function of a faster runtime and the bound of its difference, or `None`."""
    name = _runtime_name(model, len(examples))
    if name == "keras":
        return None
    count = runtimes.batch_size(model.input_shape[1:], len(examples), on_cpu=True)
    images = np.asarray(examples.pixels[np.arange(count)])
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
    return run, max(BOUND_FACTOR * difference, MIN_BOUND * np.abs(expected).max())


def _runtime_name(model, count):
    """Returns the runtime that evaluates so many images; `keras` unless another one pays."""
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    single = all(isinstance(shape, tuple) for shape in shapes)  # one input and one output
    if not single or len(shapes[1]) != 2 or None in shapes[0][1:]:
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
    order = -np.sort(-logits, axis=1)
    gaps = [order[:, n - 1] - order[:, n] for n in TOP if n < logits.shape[1]]
    return (np.min(gaps, axis=0) <= 2 * bound) if gaps else np.zeros(len(logits), bool)
