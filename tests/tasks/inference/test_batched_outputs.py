"""Outputs for a split: those of Keras, also where a faster runtime computes most of them."""

import dataclasses
import importlib.util
import types

import numpy as np
import pytest

import zoo
from tasks.data import batches
from tasks.inference import batched_outputs, runtimes


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images without labels."""

    pixels: np.ndarray
    pixels_tensor: object = None

    def __len__(self):
        return len(self.pixels)


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(1)
    return zoo.build("resnet20", num_classes=7, depths=(1, 1, 1))


@pytest.fixture
def examples():
    return Examples(np.random.default_rng(0).integers(0, 256, (37, 32, 32, 3), dtype="uint8"))


@pytest.fixture
def always(monkeypatch):
    """Evaluates small models by a runtime, too."""
    monkeypatch.setattr(batched_outputs, "MIN_FLOPS", 0)


def runtime(monkeypatch, build):
    monkeypatch.setattr(runtimes, "choose_runtime", lambda *args: "onnx")
    monkeypatch.setitem(runtimes.RUNTIMES, "onnx", types.SimpleNamespace(build=build))


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="needs openvino")
def test_logits_are_those_of_keras(model, examples, always, monkeypatch):
    monkeypatch.setattr(runtimes, "choose_runtime", lambda *args: "openvino")
    expected = batches.predict(model, examples, batch_size=8)
    found = batched_outputs.predict(model, examples, batch_size=8)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_close_classes_are_computed_by_keras(model, examples, always, monkeypatch):
    """A runtime that swaps the two best classes of an image, where they are close, and no other."""
    expected = batches.predict(model, examples, batch_size=8)
    order = np.argsort(-expected, axis=1)
    gaps = np.take_along_axis(expected, order, axis=1)
    gaps = gaps[:, 0] - gaps[:, 1]
    closest = int(np.argmin(gaps[20:])) + 20  # not in the first batch, which is compared
    monkeypatch.setattr(
        batched_outputs, "MIN_BOUND", 1.01 * gaps[closest] / 2 / np.abs(expected).max()
    )
    plain = runtimes.keras_predict_function(model, 8)

    def run(images):
        logits = np.array(plain(images))
        for row, image in zip(logits, images, strict=True):
            if (image == examples.pixels[closest]).all():
                row[order[closest, :2]] = row[order[closest, 1::-1]]
        return logits

    runtime(monkeypatch, lambda model, precision: run)
    monkeypatch.setattr(runtimes, "batch_size", lambda *args, **options: 8)
    found = batched_outputs.predict(model, examples, batch_size=8)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    wrong = run(examples.pixels)
    assert (wrong.argmax(axis=1) != expected.argmax(axis=1)).sum() == 1


def test_a_runtime_that_differs_is_not_used(model, examples, always, monkeypatch, caplog):
    runtime(monkeypatch, lambda model, precision: lambda images: np.ones((len(images), 7)))
    found = batched_outputs.predict(model, examples, batch_size=8)
    np.testing.assert_array_equal(found, batches.predict(model, examples, batch_size=8))
    assert "onnx cannot replace Keras, which evaluates instead" in caplog.text


def test_small_work_and_other_models_are_left_to_keras(model, examples, monkeypatch):
    import keras

    monkeypatch.setattr(runtimes, "choose_runtime", lambda *args: "openvino")
    name = batched_outputs._runtime_name
    assert name(model, 10) == "keras"
    monkeypatch.setattr(batched_outputs, "MIN_FLOPS", 0)
    assert name(model, 10) == "openvino"
    two = keras.Model(model.input, {"a": model.output, "b": model.output})
    assert name(two, 10) == "keras"
    any_size = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2)]
    )
    assert name(any_size, 10) == "keras"
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert name(zoo.build("lenet5", num_classes=3), 10) == "keras"


def test_close_logits():
    logits = np.array([[3.0, 1, 0], [1.0, 1.01, 0], [0.001, 5, 1]])
    close = batched_outputs._is_close
    np.testing.assert_array_equal(close(logits, 0.01, False), [False, True, False])
    np.testing.assert_array_equal(close(logits, 0.01, True), [True, True, True])
    np.testing.assert_array_equal(close(logits, 1e-9, True), [True, True, False])
    six = np.array([[9.0, 8, 7, 6, 5, 4.999], [9.0, 8, 7, 6, 5, 4]])
    np.testing.assert_array_equal(close(six, 0.01, False), [True, False])
