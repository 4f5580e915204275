"""What a network that nobody trains gives for each image, computed once and kept.

While a backbone is frozen, or its first stages, an epoch need not compute it again: `compute` runs
it over all images as fast as the processor can, and what comes after it learns from the result.
"""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata

from tasks.inference import (
    array_store,
    converters,
    dtype_policies,
    fingerprints,
    frozen_graph,
    runtimes,
    threads,
)
from zoo import flops as count
from zoo import graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, keras, np

tqdm = LazyModule("tqdm")

CACHE_VERSION = 2  # of what is kept; another one where the same key would mean something else
# By how much features may differ from Keras's own, as a share of the largest. ResNet50's differ by
# 2e-6 and, in bfloat16, 2e-2. MobileNet's, with weights that bfloat16 cannot tell apart, by 0.9.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.05}
NUM_VERIFICATION_IMAGES = 4  # images for which features are compared with Keras's own
MIN_IMAGES_FOR_OPENVINO = 1000  # images from which its conversion is won back
# An operation of TensorFlow's starts slower than one of OpenVINO's, and likes larger batches.
GRAPH_BATCH_FACTOR = 2
PREFETCH_BATCHES = 2  # for each worker, one that it works on and one that waits
MIN_FLOPS_SAVED = 5e10  # FLOPs that take as long as to prepare a pass, or less
SPEEDUP = 2  # of a pass over `fit`, in the forward computation; what is measured is more
FLOAT16_MAX = 65504.0  # the largest number of float16

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class ExecutionPlan:
    """How features are computed.

    Attributes:
        runtime: `openvino`, `graph` (TensorFlow's) or `keras`.
        precision: `float32` or `bfloat16`.
    """

    runtime: str
    precision: str


def compute_features(
    feature_extractor, examples, *, key=None, transform="", precision="auto", batch_size=None
):
    """Returns what a network gives for every image, from disk if it was computed before.

    Features are kept under their key in `ZOO_HOME`, an interrupted pass goes on where it was, and
    of two processes that want the same features one waits for the other. Where they cannot be
    kept they are held for this run alone, and a line says so.

    Args:
        feature_extractor: a functional `keras.Model` from images to one tensor.
        examples: `decoding.Examples`, or anything of a length with such `pixels`.
        key: what `key` returns for the same arguments; computed unless given.
        transform: what happens to the images before they come out of `examples`, in words.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where
            `dtype_policies.resolve_dtype_policy` chooses it and the outputs stay close to Keras's.
        batch_size: images at a time; by default what suits the processor.

    Returns:
        An array or read-only memmap `(count, *bottom.output_shape[1:])`: float32 where a feature
        is a vector, float16 (rounding by 1/2048 of each value) where it is a map and fits.

    Raises:
        UsageError: there is no such precision, no room for the features, or no such image.
    """
    execution_plan = plan(feature_extractor, len(examples), precision)
    start = partial(_start_runtime, feature_extractor, examples, execution_plan)
    return _cached_or_computed(
        feature_extractor, examples, transform, execution_plan, start, key, batch_size
    )


def compute_features_for_each(feature_extractor, examples_list):
    """Returns what `compute` does for each of several examples, for which it is prepared once.

    Args:
        feature_extractor: as of `compute`.
        examples_list: `(examples, transform)` of each.
    """
    execution_plan = plan(feature_extractor, sum(len(examples) for examples, _ in examples_list))
    start = cache(lambda: _start_runtime(feature_extractor, examples_list[0][0], execution_plan))
    return [
        _cached_or_computed(feature_extractor, examples, words, execution_plan, start)
        for examples, words in examples_list
    ]


def _cached_or_computed(
    feature_extractor, examples, transform, execution_plan, start, key=None, batch_size=None
):
    key = key or _cache_key(feature_extractor, examples, transform, execution_plan)
    found = array_store.find(key)
    if found is not None:
        log.info("the features of %d images are in %s", len(found), array_store.folder())
        return found
    run, first = start()
    size = batch_size or _batch_size(feature_extractor, len(examples), execution_plan)
    shape = (len(examples), *first.shape[1:])
    if len(shape) > 2:
        try:
            return _compute_and_store(
                key, shape, "float16", partial(_feature_batches, run, examples, size, "float16")
            )
        except _Float16Overflow:
            log.info("features that exceed float16 are kept as float32")
    return _compute_and_store(
        key, shape, "float32", partial(_feature_batches, run, examples, size, "float32")
    )


def cache_key(feature_extractor, examples, *, transform="", precision="auto"):
    """Returns what tells features from all others, for `compute`, whose arguments it takes.

    It changes with each weight, with what the layers compute, with the images, the transform, the
    precision, and the program and version that compute.
    """
    return _cache_key(
        feature_extractor, examples, transform, plan(feature_extractor, len(examples), precision)
    )


def plan(feature_extractor, images, precision="auto"):
    """Returns the `Pass` that suits a network and a number of images."""
    if precision not in ("auto", *TOLERANCES):
        raise unknown_name_error("precision of features", precision, ["auto", *TOLERANCES])
    if precision == "auto":
        chosen = dtype_policies.resolve_dtype_policy("auto", flops(feature_extractor))
        precision = "bfloat16" if chosen.endswith("bfloat16") else "float32"
    if keras.backend.backend() != "tensorflow":
        return ExecutionPlan("keras", "float32")
    use_openvino = (
        images >= MIN_IMAGES_FOR_OPENVINO
        and runtimes.choose_runtime("auto", "float32", images) == "openvino"
    )
    return ExecutionPlan("openvino" if use_openvino else "graph", precision)


def is_worthwhile(feature_extractor, images, *, epochs, views=1):
    """Tells whether a training is over sooner with features that are computed beforehand.

    Args:
        feature_extractor: the network that does not learn.
        images: how many there are.
        epochs: how often each would go through it.
        views: how often it does beforehand.
    """
    return (epochs - views / SPEEDUP) * images * flops(feature_extractor) > MIN_FLOPS_SAVED


def flops(feature_extractor):
    """Returns the FLOPs of a network for one image; 0 if they are not known."""
    try:
        return count.count_params_and_flops(feature_extractor)[1]
    except UsageError:
        return 0


class _Float16Overflow(Exception):
    """A feature does not fit into float16."""


def _cache_key(feature_extractor, examples, transform, execution_plan):
    return fingerprints.digest(
        [
            CACHE_VERSION,
            execution_plan.runtime,
            execution_plan.precision,
            keras.version(),
            _version(execution_plan.runtime),
        ],
        fingerprints.architecture(feature_extractor),
        fingerprints.weights(feature_extractor),
        fingerprints.pixels(examples.pixels, len(examples)),
        [transform, len(examples)],
    )


def _version(runtime):
    """Returns the version of what computes, without loading it."""
    names = {"openvino": "openvino", "graph": "tensorflow", "keras": keras.backend.backend()}
    try:
        return metadata.version(names[runtime])
    except metadata.PackageNotFoundError:
        return ""


def _compute_and_store(key, shape, dtype, rows):
    try:
        return array_store.get_or_compute(key, shape, dtype, rows)
    except array_store.StoreFullError as reason:
        log.warning("features cannot be kept, and are held for this run alone: %s", reason)
        return array_store.compute_uncached(shape, dtype, rows)


def _start_runtime(feature_extractor, examples, execution_plan):
    """Returns the function that computes features, and what Keras says of the first images."""
    images = _read_images(examples, 0, min(NUM_VERIFICATION_IMAGES, len(examples)))
    expected = []

    def plain(images):
        if not expected:
            expected.append(keras.ops.convert_to_numpy(feature_extractor(images, training=False)))
        return expected[0]

    for runtime, precision in _runtimes_to_try(execution_plan):
        run, message = _try_runtime(runtime, precision, feature_extractor, plain, images)
        if run:
            log.info("%s computes features in %s; %s", runtime, precision, message)
            return run, expected[0]
        log.warning("%s cannot compute features in %s: %s", runtime, precision, message)
    run = runtimes.keras_predict_function(
        feature_extractor, _batch_size(feature_extractor, len(examples), execution_plan)
    )
    return _as_float32(run), plain(images)


def _runtimes_to_try(execution_plan):
    """Returns the runtimes and precisions to try in turn, before Keras itself."""
    if execution_plan.runtime == "keras":
        return []
    careful = [(execution_plan.runtime, "float32"), ("graph", "float32")]
    return list(dict.fromkeys([(execution_plan.runtime, execution_plan.precision), *careful]))


def _try_runtime(runtime, precision, feature_extractor, plain, images):
    tolerance = TOLERANCES[
        "bfloat16" if runtimes.is_low_precision(feature_extractor) else precision
    ]
    build = partial(_RUNTIME_BUILDERS[runtime], feature_extractor, precision)
    try:
        return runtimes.build_and_verify(build, plain, images, tolerance, "features")
    except UsageError as error:  # such as a processor without bfloat16
        return None, str(error)


def _build_openvino(feature_extractor, precision):
    return converters.function_to_openvino(
        frozen_graph.trace(feature_extractor, "float32"), precision
    )


def _build_graph(feature_extractor, precision):
    return runtimes.numpy_function(frozen_graph.trace(feature_extractor, precision))


_RUNTIME_BUILDERS = {"openvino": _build_openvino, "graph": _build_graph}


def _as_float32(run):
    return lambda images: np.asarray(run(images), "float32")


def _batch_size(feature_extractor, images, execution_plan):
    size = runtimes.batch_size(graphs.single_input(feature_extractor).shape[1:3], images)
    return (
        min(runtimes.MAX_BATCH_SIZE, size * GRAPH_BATCH_FACTOR)
        if execution_plan.runtime == "graph"
        else size
    )


def _feature_batches(run, examples, size, dtype, done):
    """Yields the features of the images from number `done` on, a batch at a time and in order.

    Each worker reads a batch and computes it; few batches are in memory at a time.
    """
    max_value = FLOAT16_MAX if dtype == "float16" else np.inf

    def work(start):
        found = run(_read_images(examples, start, min(start + size, len(examples))))
        if max_value < np.inf and np.abs(found).max() > max_value:
            raise _Float16Overflow
        return found.astype(dtype)  # a copy: the runtime may write over its own

    pool, pending = ThreadPoolExecutor(threads.num_workers()), deque()
    with tqdm.tqdm(
        total=len(examples), initial=done, unit="image", leave=False, delay=2, disable=None
    ) as bar:
        try:
            for start in range(done, len(examples), size):
                pending.append(pool.submit(work, start))
                if len(pending) > PREFETCH_BATCHES * threads.num_workers():
                    yield _next_result(pending, bar)
            while pending:
                yield _next_result(pending, bar)
        finally:
            pool.shutdown(cancel_futures=True)


def _next_result(pending, bar):
    found = pending.popleft().result()
    bar.update(len(found))
    return found


def _read_images(examples, start, end):
    pixels = examples.pixels
    part = slice(start, end) if isinstance(pixels, np.ndarray) else np.arange(start, end)
    return np.ascontiguousarray(pixels[part])
