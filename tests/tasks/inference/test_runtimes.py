"""Runtimes: each gives the outputs of Keras, and one that does not is detected."""

import importlib.util
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import zoo
from tasks.inference import converters, runtimes, threads
from zoo.errors import UsageError

FAST = [name for name in runtimes.RUNTIMES if name != "keras"]
MANY = 10**6


@pytest.fixture
def model():
    import keras

    keras.utils.set_random_seed(1)
    return zoo.build("resnet20", num_classes=7, depths=(1, 1, 1))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype="uint8")


def needed(name):
    """Skips a test where a runtime is not installed, without importing it as users do not."""
    missing = [p for p in runtimes.RUNTIMES[name].packages if not importlib.util.find_spec(p)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    return name


def installed(monkeypatch, *there):
    """Pretends that just some packages are installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package in there or None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", runtimes.RUNTIMES)
def test_every_runtime_gives_the_outputs_of_keras_also_from_several_threads(name, model, images):
    run = runtimes.create_predict_function(needed(name), model, images, count=MANY)
    expected = np.asarray(model(images, training=False))
    tolerance = {"rtol": 0, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(run(images), expected, **tolerance)
    # Less than a batch, and a whole one again.
    for count in (2, 5):
        part = run(images[:count])
        assert part.shape == (count, 7)
        np.testing.assert_allclose(part, expected[:count], **tolerance)
    random = np.random.default_rng(0)
    parts = [random.integers(0, 256, (1 + i % 5, 32, 32, 3), dtype="uint8") for i in range(24)]
    alone = [run(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(run, parts), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_function_per_thread_is_made_once_for_each():
    made = []

    def make():
        made.append(threading.get_ident())
        return lambda images: images + 1

    run = threads.per_thread(make)
    assert [run(number) for number in range(3)] == [1, 2, 3]
    assert made == [threading.get_ident()]
    other = threading.Thread(target=run, args=(0,))
    other.start()
    other.join()
    assert len(made) == 2


def test_keras_is_not_prepared_for_a_few_images(model, images, monkeypatch):
    monkeypatch.setattr(converters, "freeze", None)  # would fail if it were called
    run = runtimes.create_predict_function("keras", model, images, count=5)
    np.testing.assert_allclose(run(images), model(images, training=False), rtol=1e-4, atol=1e-5)


def test_predictions_use_the_weights_at_the_time_of_preparation(model, images):
    """Later changes of the model's weights do not change them."""
    run = runtimes.create_predict_function("keras", model, images, count=MANY)
    before = run(images)
    model.set_weights([value * 0 for value in model.get_weights()])
    np.testing.assert_array_equal(run(images), before)
    assert np.abs(before).max() > 0


def test_outputs_of_a_bfloat16_model_are_compared_at_its_precision(images):
    import keras

    needed("openvino")
    keras.config.set_dtype_policy("mixed_bfloat16")
    rounded = zoo.build("resnet20", num_classes=7, depths=(1, 1, 1))
    expected = np.asarray(rounded(images, training=False))
    run = runtimes.create_predict_function("openvino", rounded, images, count=MANY)
    np.testing.assert_allclose(run(images), expected, rtol=0, atol=0.1 * np.abs(expected).max())


def test_wrong_outputs_are_an_error_for_a_runtime_selected_by_name(model, images, monkeypatch):
    wrong_runtime(monkeypatch, lambda model, precision: lambda images: np.ones((len(images), 7)))
    with pytest.raises(UsageError, match="wrong cannot replace Keras: logits differ"):
        runtimes.create_predict_function("wrong", model, images)


@pytest.mark.parametrize(
    "build",
    [
        lambda model, precision: lambda images: np.full((len(images), 7), np.nan),
        lambda model, precision: lambda images: model(images).numpy() * 1.01,
        lambda model, precision: 1 / 0,
    ],
    ids=["nan", "slightly", "fails"],
)
def test_otherwise_keras_predicts_and_one_line_gives_the_reason(
    build, model, images, monkeypatch, caplog
):
    wrong_runtime(monkeypatch, build)
    run = runtimes.create_predict_function("wrong", model, images, strict=False)
    np.testing.assert_allclose(run(images), model(images, training=False), rtol=1e-4, atol=1e-5)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("wrong cannot replace Keras, which is used instead: ")


def test_an_error_of_ours_or_of_keras_is_not_blamed_on_the_runtime(model, images, monkeypatch):
    wrong_runtime(monkeypatch, lambda *_: threads.with_lock(None, "too many", "arguments"))
    with pytest.raises(UsageError, match="wrong cannot replace Keras"):  # an error of this file
        runtimes.create_predict_function("wrong", model, images)
    wrong_runtime(monkeypatch, lambda *_: runtimes.batch_size((8, 8, 3), "5"))  # raises in ours
    with pytest.raises(TypeError):
        runtimes.create_predict_function("wrong", model, images, strict=False)

    def broken(_):
        raise ZeroDivisionError("Keras")

    with pytest.raises(ZeroDivisionError, match="Keras"):
        runtimes.build_and_verify(lambda: lambda _: np.ones((5, 7)), broken, images, 1e-3, "logits")


def wrong_runtime(monkeypatch, build):
    """Registers a runtime called `wrong`."""
    monkeypatch.setitem(runtimes.RUNTIMES, "wrong", runtimes.Runtime(build))


def test_auto_selects_the_fastest_runtime_that_pays_off(monkeypatch):
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: False)
    monkeypatch.setattr(runtimes, "_on_tensorflow", lambda: True)
    all_there = [package for name in FAST for package in runtimes.RUNTIMES[name].packages]
    installed(monkeypatch, *all_there)
    assert runtimes.choose_runtime("auto", "float32", MANY) == "openvino"
    assert runtimes.choose_runtime("auto", "float32", 1) == "keras"
    installed(monkeypatch, "ai_edge_litert")
    assert runtimes.choose_runtime("auto", "float32", MANY) == "litert"
    installed(monkeypatch, "onnx", "onnxruntime")  # and not tf2onnx
    assert runtimes.choose_runtime("auto", "float32", MANY) == "keras"
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: True)
    installed(monkeypatch, *all_there)
    assert runtimes.choose_runtime("auto", "float32", MANY) == "keras"


@pytest.mark.parametrize("name", FAST)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, monkeypatch):
    installed(monkeypatch)
    first = runtimes.RUNTIMES[name].packages[0]
    with pytest.raises(UsageError, match=rf"{first}.*pip install 'keras-zoo\[export\]'"):
        runtimes.choose_runtime(name, "float32", 1)


def test_unavailable_runtimes_and_precisions_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="did you mean openvino"):
        runtimes.choose_runtime("openvin", "float32", 1)
    with pytest.raises(UsageError, match="no precision named 'int8'"):
        runtimes.choose_runtime("auto", "int8", 1)
    with pytest.raises(UsageError, match="keras does not compute in bfloat16; openvino can"):
        runtimes.choose_runtime("keras", "bfloat16", 1)
    monkeypatch.setattr(runtimes, "_on_tensorflow", lambda: False)
    installed(monkeypatch, "openvino")
    with pytest.raises(UsageError, match="unset KERAS_BACKEND"):
        runtimes.choose_runtime("openvino", "float32", 1)


def test_a_batch_has_about_as_many_pixels_for_all_models():
    assert runtimes.batch_size((224, 224, 3), MANY) >= 8
    assert runtimes.batch_size((32, 32, 3), MANY) == runtimes.MAX_BATCH_SIZE
    assert runtimes.batch_size((5000, 5000, 3), MANY) == 1


def test_a_few_images_are_split_over_the_workers(monkeypatch):
    monkeypatch.setattr(threads, "num_workers", lambda: 2)
    assert [runtimes.batch_size((32, 32, 3), count) for count in (1, 2, 9)] == [1, 1, 5]


JAX = """
import numpy as np
import zoo
from tasks.inference import runtimes
images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype="uint8")
model = zoo.build("lenet5", num_classes=4)
assert runtimes.choose_runtime("auto", "float32", 10**6) == "keras"
run = runtimes.create_predict_function("keras", model, images, count=10**6)
expected = np.asarray(model(images))
for count in (3, 1):
    np.testing.assert_allclose(run(images[:count]), expected[:count], rtol=1e-4, atol=1e-5)
"""


@pytest.mark.check
def test_keras_predicts_on_another_backend():
    pytest.importorskip("jax")
    child(JAX, KERAS_BACKEND="jax")


SILENCE = """
import sys
import numpy as np
import zoo
from tasks.inference import runtimes
model = zoo.build("lenet5", num_classes=4)
runtimes.create_predict_function("openvino", model, np.zeros((1, 32, 32, 1), "uint8"))
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""


@pytest.mark.check
def test_openvino_sends_no_telemetry(tmp_path):
    """The telemetry package makes a file in the home folder when it is loaded."""
    needed("openvino")
    child(SILENCE, HOME=str(tmp_path))
    assert not (tmp_path / "intel").exists()


def child(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
