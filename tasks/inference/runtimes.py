"""Runtimes that compute the predictions of a model: Keras, or a faster replacement."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.inference import converters, threads
from zoo.errors import UsageError, raised_by_project, unknown_name_error
from zoo.lazy import keras, np, tf

# Maximum difference of logits from those of Keras relative to the largest. Rounding to 8 bits in
# each layer gives 0.1 for an untrained network and 0.01 for a trained one; a difference above the
# limit is not due to rounding.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25}
# Small batches are fastest on a CPU: the output of a layer is still in the cache for the next.
CPU_BATCH_PIXELS, GPU_BATCH_PIXELS = 8 * 224 * 224, 64 * 224 * 224  # per batch
MAX_BATCH_SIZE = 256

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Runtime:
    """A way to compute predictions.

    Attributes:
        build: A function of a model and a precision that returns a thread-safe function from
            uint8 images `(batch, height, width, channels)` to logits `(batch, classes)`.
        packages: Import names of the required packages.
        min_images: The number of images from which the conversion pays off.
        precisions: Supported precisions.
    """

    build: Callable
    packages: tuple[str, ...] = ()
    min_images: int = 0
    precisions: tuple[str, ...] = ("float32",)


def choose_runtime(name, precision, count):
    """Returns the name of the runtime to use.

    Args:
        name: One of `RUNTIMES`, or `auto`: the first of them that is installed and pays off for
            `count` images; Keras on a GPU.
        precision: `float32`, or `bfloat16` if the processor supports it: faster, less exact.
        count: The number of images.

    Raises:
        UsageError: The runtime or precision is unknown or not supported here, or a package is
            missing.
    """
    if precision not in TOLERANCES:
        raise unknown_name_error("precision", precision, list(TOLERANCES))
    if name != "auto" and name not in RUNTIMES:
        raise unknown_name_error("runtime", name, ["auto", *RUNTIMES])
    supported = [key for key, runtime in RUNTIMES.items() if precision in runtime.precisions]
    if name == "auto" and "keras" in supported:
        return next((key for key in supported if _is_worthwhile(key, count)), "keras")
    name = supported[0] if name == "auto" else name
    if name not in supported:
        raise UsageError(f"{name} does not compute in {precision}; {' and '.join(supported)} can")
    if missing := [package for package in RUNTIMES[name].packages if not _installed(package)]:
        need = " and ".join(missing)
        raise UsageError(f"{name} needs {need}; install it with: pip install 'keras-zoo[export]'")
    if RUNTIMES[name].packages and not _on_tensorflow():
        raise UsageError(
            f"{name} needs a TensorFlow graph, but the backend of Keras is "
            f"{keras.backend.backend()}; unset KERAS_BACKEND, or use --runtime keras"
        )
    return name


def create_predict_function(
    name, model, images, *, size=0, precision="float32", count=0, strict=True
):
    """Returns a predict function whose outputs were compared with those of Keras.

    Args:
        name: One of `RUNTIMES`.
        model: A `keras.Model` from images to logits.
        images: Some images for the comparison, uint8 `(batch, height, width, channels)`.
        size: The maximum batch size; by default that of `images`.
        precision: One of `TOLERANCES`.
        count: The number of images; for a few, Keras is not compiled.
        strict: Whether a runtime that cannot replace Keras is an error. Otherwise Keras is used,
            with a warning.

    Returns:
        A thread-safe function from uint8 images to logits.

    Raises:
        UsageError: The runtime cannot compute this model, or differs from Keras by more than
            the tolerance.
    """
    keras_function = keras_predict_function(model, size or len(images))
    if name == "keras":
        many = _on_tensorflow() and count >= RUNTIMES[name].min_images
        return numpy_function(converters.freeze(model)) if many else keras_function
    tolerance = TOLERANCES["bfloat16" if is_low_precision(model) else precision]
    predict, message = build_and_verify(
        lambda: RUNTIMES[name].build(model, precision), keras_function, images, tolerance, "logits"
    )
    if predict:
        log.info("predicting with %s; %s", name, message)
        return predict
    if strict:
        raise UsageError(f"{name} cannot replace Keras: {message}; use --runtime auto or keras")
    log.warning("%s cannot replace Keras, which is used instead: %s", name, message)
    return keras_function


def build_and_verify(build, plain, images, tolerance, noun):
    """Builds a predict function and compares its outputs with those of Keras.

    Args:
        build: A function that returns the function from images to outputs.
        plain: The function of Keras, which runs concurrently with `build`.
        images: uint8 `(batch, height, width, channels)`.
        tolerance: The maximum difference relative to the largest value.
        noun: The name of the outputs, for messages.

    Returns:
        The function, or `None` if it differs or `build` fails; and a message.

    Raises:
        UsageError: `build` raises it. Exceptions of `plain` and of this package are passed on.
    """
    with ThreadPoolExecutor(1) as pool:
        expected = pool.submit(plain, images)
        try:
            predict = build()
            found = predict(images)
        except UsageError:
            raise
        except Exception as error:  # a converter may raise anything
            if raised_by_project(error):
                raise
            return None, (str(error).strip().splitlines() or [type(error).__name__])[0]
        difference = _relative_difference(found, expected.result())
    if difference <= tolerance:
        return predict, f"{noun} differ by {difference:.0e} of the largest"
    return None, f"{noun} differ by {difference:.1g} of the largest, more than {tolerance:g}"


def batch_size(shape, count, *, on_cpu=False):
    """Returns the batch size for `count` images of shape `(height, width, channels)`.

    Args:
        shape: `(height, width, channels)`.
        count: The number of images.
        on_cpu: Whether the model runs on the CPU even where there is a GPU.
    """
    if None in shape:  # each image keeps its own size
        return 1
    pixels = CPU_BATCH_PIXELS if on_cpu or not _has_gpu() else GPU_BATCH_PIXELS
    images_per_worker = -(-count // threads.num_workers())  # so that no worker is idle
    return max(1, min(MAX_BATCH_SIZE, pixels // (shape[0] * shape[1]), images_per_worker))


def keras_predict_function(model, size, dtype="uint8"):
    """Returns a predict function of Keras, which uses the variables of the model.

    Args:
        model: A `keras.Model` from images to one tensor.
        size: The maximum batch size.
        dtype: The type of the inputs.
    """
    if _on_tensorflow():
        return numpy_function(
            converters.concrete_function(model, lambda images: model(images, training=False), dtype)
        )

    def predict_batch(images):  # padded, as each batch size would be compiled separately
        rest = np.zeros((size - len(images), *images.shape[1:]), images.dtype)
        return model.predict_on_batch(np.concatenate([images, rest]))[: len(images)]

    return threads.with_lock(predict_batch)


def numpy_function(function):
    """Returns a function of arrays that calls a function of TensorFlow."""

    def predict_batch(images):
        return function(tf.constant(images)).numpy()

    # A GPU has memory for one batch, and two at once are not faster.
    return threads.with_lock(predict_batch) if _has_gpu() else predict_batch


# The fastest first; Keras, which is always available, last.
RUNTIMES = {
    "openvino": Runtime(
        converters.to_openvino, ("openvino",), 300, tuple(converters.OPENVINO_PRECISIONS)
    ),
    "litert": Runtime(converters.to_litert, ("ai_edge_litert",), 1000),
    "onnx": Runtime(converters.to_onnx, ("onnx", "tf2onnx", "onnxruntime"), 5000),
    "keras": Runtime(None, (), 300),
}


def _is_worthwhile(name, count):
    runtime = RUNTIMES[name]
    there = count >= runtime.min_images and all(map(_installed, runtime.packages))
    return there and _on_tensorflow() and not _has_gpu()


def _installed(package):
    return importlib.util.find_spec(package) is not None


def _on_tensorflow():
    return keras.backend.backend() == "tensorflow"


def _has_gpu():
    return _on_tensorflow() and bool(tf.config.list_physical_devices("GPU"))


def is_low_precision(model):
    """Returns whether a model computes in float16 or bfloat16."""
    inner = getattr(model, "layers", None)
    return any(map(is_low_precision, inner)) if inner else model.compute_dtype.endswith("float16")


def _relative_difference(found, expected):
    """Returns the largest difference of two arrays relative to the largest expected value."""
    max_value = np.abs(expected).max()
    return float(np.abs(found - expected).max() / (max_value or 1))
