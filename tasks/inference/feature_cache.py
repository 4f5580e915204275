"""Features of frozen layers, computed once per image and cached on disk.

While a backbone or its first stages are frozen, epochs need not compute them again:
`compute_features` runs them over all images, and the layers above are trained on the result.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata

from tasks.inference import (
    array_store,
    converters,
    dtype_policies,
    feature_batches,
    fingerprints,
    frozen_graph,
    runtimes,
)
from zoo import flops as count
from zoo import graphs
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import keras, np

CACHE_VERSION = 2  # incremented when the same key would mean other contents
# Maximum difference from the features of Keras relative to the largest. That of ResNet50 is 2e-6
# and, in bfloat16, 2e-2. That of MobileNet in bfloat16, whose weights need more bits, is 0.9.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.05}
NUM_VERIFICATION_IMAGES = 4  # for the comparison with Keras
MIN_IMAGES_FOR_OPENVINO = 1000  # from which its conversion pays off
# Operations of TensorFlow have more overhead than those of OpenVINO, so batches are larger.
GRAPH_BATCH_FACTOR = 2
MIN_FLOPS_SAVED = 5e10  # below, preparing the pass takes longer
SPEEDUP = 2  # of a pass over the forward computation in `fit`; measured is more

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class ExecutionPlan:
    """How features are computed.

    Attributes:
        runtime: `openvino`, `graph` (of TensorFlow) or `keras`.
        precision: `float32` or `bfloat16`.
    """

    runtime: str
    precision: str


def compute_features(
    feature_extractor, examples, *, key=None, transform="", precision="auto", batch_size=None
):
    """Returns the outputs of a network for every image, from disk if they were computed before.

    Features are stored under their key in `ZOO_HOME`. An interrupted pass is resumed. If two
    processes need the same features, one waits for the other. Features that cannot be stored are
    kept for this run only, with a warning.

    Args:
        feature_extractor: A functional `keras.Model` from images to one tensor.
        examples: `decoding.Examples`, or an object with a length and such `pixels`.
        key: The result of `cache_key` for the same arguments; computed by default.
        transform: A description of how `examples` changes the images, for the key.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where
            `dtype_policies.resolve_dtype_policy` selects it and the outputs stay close to those
            of Keras.
        batch_size: Images per batch; by default one that suits the processor.

    Returns:
        An array or read-only memmap `(count, *feature_extractor.output_shape[1:])`: float32 for
        vectors, float16 (rounded by 1/2048 of each value) for feature maps that fit.

    Raises:
        UsageError: The precision is unknown, there is no space for the features, or an image
            cannot be read.
    """
    execution_plan = plan(feature_extractor, len(examples), precision)
    start = partial(_start_runtime, feature_extractor, examples, execution_plan)
    return _cached_or_computed(
        feature_extractor, examples, transform, execution_plan, start, key, batch_size
    )


def compute_features_for_each(feature_extractor, examples_list):
    """Returns the features of several examples, for which the runtime is prepared once.

    Args:
        feature_extractor: As in `compute_features`.
        examples_list: Pairs `(examples, transform)`.
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
                key,
                shape,
                "float16",
                partial(feature_batches.feature_batches, run, examples, size, "float16"),
            )
        except feature_batches.Float16Overflow:
            log.info("features that exceed float16 are kept as float32")
    return _compute_and_store(
        key,
        shape,
        "float32",
        partial(feature_batches.feature_batches, run, examples, size, "float32"),
    )


def cache_key(feature_extractor, examples, *, transform="", precision="auto"):
    """Returns the cache key of features, for the arguments of `compute_features`.

    It depends on each weight, on what the layers compute, on the images, the transform, the
    precision, and on the runtime and its version.
    """
    return _cache_key(
        feature_extractor, examples, transform, plan(feature_extractor, len(examples), precision)
    )


def plan(feature_extractor, images, precision="auto"):
    """Returns the `ExecutionPlan` for a network and a number of images."""
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
    """Returns whether training is faster with cached features.

    Args:
        feature_extractor: The frozen network.
        images: The number of images.
        epochs: Passes over the images without caching.
        views: Passes over the images to fill the cache.
    """
    return (epochs - views / SPEEDUP) * images * flops(feature_extractor) > MIN_FLOPS_SAVED


def flops(feature_extractor):
    """Returns the FLOPs of a network for one image, or 0 if unknown."""
    try:
        return count.count_params_and_flops(feature_extractor)[1]
    except UsageError:
        return 0


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
    """Returns the version of a runtime without importing it."""
    names = {"openvino": "openvino", "graph": "tensorflow", "keras": keras.backend.backend()}
    try:
        return metadata.version(names[runtime])
    except metadata.PackageNotFoundError:
        return ""


def _compute_and_store(key, shape, dtype, rows):
    try:
        return array_store.get_or_compute(key, shape, dtype, rows)
    except array_store.StoreFullError as reason:
        log.warning("features cannot be cached, and are kept for this run only: %s", reason)
        return array_store.compute_uncached(shape, dtype, rows)


def _start_runtime(feature_extractor, examples, execution_plan):
    """Returns the function that computes features, and those of Keras for the first images."""
    images = feature_batches.read_images(examples, 0, min(NUM_VERIFICATION_IMAGES, len(examples)))
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
    """Returns the runtimes and precisions to try in turn, before Keras."""
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
