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

from tasks.engine import converters, fingerprints, frozen, hardware, runtimes, store, workers
from zoo import count, graphs
from zoo.errors import UsageError, unknown
from zoo.lazy import LazyModule, keras, np

tqdm = LazyModule("tqdm")

VERSION = 2  # of what is kept; another one where the same key would mean something else
# By how much features may differ from Keras's own, as a share of the largest. ResNet50's differ by
# 2e-6 and, in bfloat16, 2e-2. MobileNet's, with weights that bfloat16 cannot tell apart, by 0.9.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.05}
LOOKED_AT = 4  # images for which features are compared with Keras's own
OPENVINO_FROM = 1000  # images from which its conversion is won back
# An operation of TensorFlow's starts slower than one of OpenVINO's, and likes larger batches.
LARGER = 2
PARTS_AHEAD = 2  # for each worker, one that it works on and one that waits
INSTANT = 5e10  # FLOPs that take as long as to prepare a pass, or less
SPEEDUP = 2  # of a pass over `fit`, in the forward computation; what is measured is more
HALF_RANGE = 65504.0  # the largest number of float16

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Pass:
    """How features are computed.

    Attributes:
        runtime: `openvino`, `graph` (TensorFlow's) or `keras`.
        precision: `float32` or `bfloat16`.
    """

    runtime: str
    precision: str


def compute(bottom, examples, *, key=None, transform="", precision="auto", batch_size=None):
    """Returns what a network gives for every image, from disk if it was computed before.

    Features are kept under their key in `ZOO_HOME`, an interrupted pass goes on where it was, and
    of two processes that want the same features one waits for the other. Where they cannot be
    kept they are held for this run alone, and a line says so.

    Args:
        bottom: a functional `keras.Model` from images to one tensor.
        examples: `decoding.Examples`, or anything of a length with such `pixels`.
        key: what `key` returns for the same arguments; computed unless given.
        transform: what happens to the images before they come out of `examples`, in words.
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 where `hardware.policy` has it for
            the network and where it gives nearly what Keras gives.
        batch_size: images at a time; by default what suits the processor.

    Returns:
        An array or read-only memmap `(count, *bottom.output_shape[1:])`: float32 where a feature
        is a vector, float16 (rounding by 1/2048 of each value) where it is a map and fits.

    Raises:
        UsageError: there is no such precision, no room for the features, or no such image.
    """
    how = plan(bottom, len(examples), precision)
    start = partial(_start, bottom, examples, how)
    return _computed(bottom, examples, transform, how, start, key, batch_size)


def compute_each(bottom, several):
    """Returns what `compute` does for each of several examples, for which it is prepared once.

    Args:
        bottom: as of `compute`.
        several: `(examples, transform)` of each.
    """
    how = plan(bottom, sum(len(examples) for examples, _ in several))
    start = cache(lambda: _start(bottom, several[0][0], how))
    return [_computed(bottom, examples, words, how, start) for examples, words in several]


def _computed(bottom, examples, transform, how, start, key=None, batch_size=None):
    key = key or _key(bottom, examples, transform, how)
    found = store.find(key)
    if found is not None:
        log.info("the features of %d images are in %s", len(found), store.folder())
        return found
    run, first = start()
    size = batch_size or _batch_size(bottom, len(examples), how)
    shape = (len(examples), *first.shape[1:])
    if len(shape) > 2:
        try:
            return _obtain(key, shape, "float16", partial(_rows, run, examples, size, "float16"))
        except _TooLarge:
            log.info("features that exceed float16 are kept as float32")
    return _obtain(key, shape, "float32", partial(_rows, run, examples, size, "float32"))


def key(bottom, examples, *, transform="", precision="auto"):
    """Returns what tells features from all others, for `compute`, whose arguments it takes.

    It changes with each weight, with what the layers compute, with the images, the transform, the
    precision, and the program and version that compute.
    """
    return _key(bottom, examples, transform, plan(bottom, len(examples), precision))


def plan(bottom, images, precision="auto"):
    """Returns the `Pass` that suits a network and a number of images."""
    if precision not in ("auto", *TOLERANCES):
        raise unknown("precision of features", precision, ["auto", *TOLERANCES])
    if precision == "auto":
        chosen = hardware.policy("auto", flops(bottom))
        precision = "bfloat16" if chosen.endswith("bfloat16") else "float32"
    if keras.backend.backend() != "tensorflow":
        return Pass("keras", "float32")
    worth = images >= OPENVINO_FROM and runtimes.choose("auto", "float32", images) == "openvino"
    return Pass("openvino" if worth else "graph", precision)


def pays(bottom, images, *, epochs, views=1):
    """Tells whether a training is over sooner with features that are computed beforehand.

    Args:
        bottom: the network that does not learn.
        images: how many there are.
        epochs: how often each would go through it.
        views: how often it does beforehand.
    """
    return (epochs - views / SPEEDUP) * images * flops(bottom) > INSTANT


def flops(bottom):
    """Returns the FLOPs of a network for one image; 0 if they are not known."""
    try:
        return count.count(bottom)[1]
    except UsageError:
        return 0


class _TooLarge(Exception):
    """A feature does not fit into float16."""


def _key(bottom, examples, transform, how):
    return fingerprints.of(
        [VERSION, how.runtime, how.precision, keras.version(), _version(how.runtime)],
        fingerprints.architecture(bottom),
        fingerprints.weights(bottom),
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


def _obtain(key, shape, dtype, rows):
    try:
        return store.keep(key, shape, dtype, rows)
    except store.NoRoom as reason:
        log.warning("features cannot be kept, and are held for this run alone: %s", reason)
        return store.hold(shape, dtype, rows)


def _start(bottom, examples, how):
    """Returns the function that computes features, and what Keras says of the first images."""
    images = _read(examples, 0, min(LOOKED_AT, len(examples)))
    wanted = []

    def plain(images):
        if not wanted:
            wanted.append(keras.ops.convert_to_numpy(bottom(images, training=False)))
        return wanted[0]

    for runtime, precision in _attempts(how):
        run, said = _tried(runtime, precision, bottom, plain, images)
        if run:
            log.info("%s computes features in %s; %s", runtime, precision, said)
            return run, wanted[0]
        log.warning("%s cannot compute features in %s: %s", runtime, precision, said)
    run = runtimes.plain(bottom, _batch_size(bottom, len(examples), how))
    return _as_float32(run), plain(images)


def _attempts(how):
    """Returns the runtimes and precisions to try in turn, before Keras itself."""
    if how.runtime == "keras":
        return []
    careful = [(how.runtime, "float32"), ("graph", "float32")]
    return list(dict.fromkeys([(how.runtime, how.precision), *careful]))


def _tried(runtime, precision, bottom, plain, images):
    tolerance = TOLERANCES["bfloat16" if runtimes.is_rounded(bottom) else precision]
    build = partial(_RUNTIMES[runtime], bottom, precision)
    try:
        return runtimes.agreed(build, plain, images, tolerance, "features")
    except UsageError as error:  # such as a processor without bfloat16
        return None, str(error)


def _openvino(bottom, precision):
    return converters.openvino_of(frozen.trace(bottom, "float32"), precision)


def _graph(bottom, precision):
    return runtimes.called(frozen.trace(bottom, precision))


_RUNTIMES = {"openvino": _openvino, "graph": _graph}


def _as_float32(run):
    return lambda images: np.asarray(run(images), "float32")


def _batch_size(bottom, images, how):
    size = runtimes.batch_size(graphs.single_input(bottom).shape[1:3], images)
    return min(runtimes.MOST_IMAGES, size * LARGER) if how.runtime == "graph" else size


def _rows(run, examples, size, dtype, done):
    """Yields the features of the images from number `done` on, a batch at a time and in order.

    Each worker reads a batch and computes it; few batches are in memory at a time.
    """
    largest = HALF_RANGE if dtype == "float16" else np.inf

    def work(start):
        found = run(_read(examples, start, min(start + size, len(examples))))
        if largest < np.inf and np.abs(found).max() > largest:
            raise _TooLarge
        return found.astype(dtype)  # a copy: the runtime may write over its own

    pool, working = ThreadPoolExecutor(workers.count()), deque()
    with tqdm.tqdm(
        total=len(examples), initial=done, unit="image", leave=False, delay=2, disable=None
    ) as bar:
        try:
            for start in range(done, len(examples), size):
                working.append(pool.submit(work, start))
                if len(working) > PARTS_AHEAD * workers.count():
                    yield _next(working, bar)
            while working:
                yield _next(working, bar)
        finally:
            pool.shutdown(cancel_futures=True)


def _next(working, bar):
    found = working.popleft().result()
    bar.update(len(found))
    return found


def _read(examples, start, end):
    pixels = examples.pixels
    part = slice(start, end) if isinstance(pixels, np.ndarray) else np.arange(start, end)
    return np.ascontiguousarray(pixels[part])
