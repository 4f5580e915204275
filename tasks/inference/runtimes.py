"""What computes a model's answers: Keras itself, or a faster program that stands in for it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.inference import converters, threads
from zoo.errors import UsageError, raised_by_project, unknown_name_error
from zoo.lazy import keras, np, tf

# By how much logits may differ from those of Keras, as a share of the largest of them. Rounding to
# 8 bits, layer after layer, takes an untrained network to 0.1 and a trained one to 0.01; what is
# over the limit is no rounding.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25}
# A CPU answers few images at a time best: what a layer gives is still in the cache for the next.
CPU_BATCH_PIXELS, GPU_BATCH_PIXELS = 8 * 224 * 224, 64 * 224 * 224  # in a batch
MAX_BATCH_SIZE = 256  # in a batch

log = logging.getLogger("zoo")


@dataclass(frozen=True)
class Runtime:
    """One way to compute answers.

    Attributes:
        build: makes of a model and a precision the function from uint8 images
            `(batch, height, width, channels)` to logits `(batch, classes)`, for any number of
            threads to call at once.
        packages: what must be installed, by the names under which it is imported.
        pays_from: images from which the time that the conversion takes is won back.
        precisions: in which it can compute.
    """

    build: Callable
    packages: tuple[str, ...] = ()
    min_images: int = 0
    precisions: tuple[str, ...] = ("float32",)


def choose_runtime(name, precision, count):
    """Returns the name of the runtime to use.

    Args:
        name: one of `RUNTIMES`, or `auto`: the first of them that is installed and pays for
            so many images; Keras where there is a GPU.
        precision: `float32`, or `bfloat16` where the processor has it: faster, less exact.
        count: how many images there are.

    Raises:
        UsageError: there is no such runtime or precision, or it needs what is not there.
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
        raise UsageError(f"{name} needs {need}, by: pip install 'keras-zoo[export]'")
    if RUNTIMES[name].packages and not _on_tensorflow():
        raise UsageError(
            f"{name} is handed a graph of TensorFlow, but Keras runs on "
            f"{keras.backend.backend()}: unset KERAS_BACKEND, or take keras as runtime"
        )
    return name


def create_predict_function(
    name, model, images, *, size=0, precision="float32", count=0, strict=True
):
    """Returns the function that answers, after a look at what it says of some images.

    Args:
        name: one of `RUNTIMES`.
        model: a `keras.Model` from images to logits.
        images: some of them to look at, uint8 `(batch, height, width, channels)`.
        size: the most images that there will be at a time; as many as these unless given.
        precision: one of `TOLERANCES`.
        count: how many images there are; Keras itself is not prepared for a few.
        strict: whether a runtime that cannot stand in for Keras is an error. Otherwise Keras
            answers, and one line says why.

    Returns:
        A function from uint8 images to logits, for several threads to call at once.

    Raises:
        UsageError: the runtime cannot compute this model, or differs from Keras by more than
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
        log.info("%s answers in place of Keras; %s", name, message)
        return predict
    if strict:
        raise UsageError(f"{name} cannot answer in place of Keras: {message}")
    log.warning("%s cannot answer in place of Keras, which does so itself: %s", name, message)
    return keras_function


def build_and_verify(build, plain, images, tolerance, noun):
    """Returns what stands in for Keras if it says of some images what Keras says.

    Args:
        build: makes the function from images to what a model gives.
        plain: such a function that asks Keras, which it does while the other is made.
        images: uint8 `(batch, height, width, channels)`.
        tolerance: the largest difference allowed, as a share of the largest value.
        noun: what the model gives, for messages.

    Returns:
        The function, or `None` if it differs or `build` fails; and a few words on how it went.

    Raises:
        UsageError: `build` raises it. What `plain` raises is passed on, as is a fault of ours.
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
    return None, f"{noun} differ by {difference:.1g} of the largest, and {tolerance:g} is allowed"


def batch_size(shape, count):
    """Returns how many images `(height, width, channels)` of so many to answer at a time."""
    if None in shape:  # each image keeps its own size
        return 1
    pixels = GPU_BATCH_PIXELS if _has_gpu() else CPU_BATCH_PIXELS
    images_per_worker = -(
        -count // threads.num_workers()
    )  # of a worker, so that all have something to do
    return max(1, min(MAX_BATCH_SIZE, pixels // (shape[0] * shape[1]), images_per_worker))


def keras_predict_function(model, size):
    """Returns a function that asks Keras, with the variables of the model.

    Args:
        model: a `keras.Model` from images to one tensor.
        size: the most images that there will be at a time.
    """
    if _on_tensorflow():
        return numpy_function(
            converters.concrete_function(model, lambda images: model(images, training=False))
        )

    def predict_batch(images):  # full batches only, as each size would be compiled for itself
        rest = np.zeros((size - len(images), *images.shape[1:]), images.dtype)
        return model.predict_on_batch(np.concatenate([images, rest]))[: len(images)]

    return threads.with_lock(predict_batch)


def numpy_function(function):
    """Returns what takes and gives arrays, of a function of TensorFlow."""

    def predict_batch(images):
        return function(tf.constant(images)).numpy()

    # A GPU has room for one batch, and does not answer two any sooner.
    return threads.with_lock(predict_batch) if _has_gpu() else predict_batch


# The fastest first; Keras, which is always there, last.
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
    """Tells whether a model computes with fewer bits than float32, in Keras too."""
    inner = getattr(model, "layers", None)
    return any(map(is_low_precision, inner)) if inner else model.compute_dtype.endswith("float16")


def _relative_difference(found, expected):
    """Returns the largest difference of two arrays as a share of the largest wanted value."""
    max_value = np.abs(expected).max()
    return float(np.abs(found - expected).max() / (max_value or 1))
