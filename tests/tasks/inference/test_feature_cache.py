"""The feature cache: features equal to those of Keras, and keys that cover all inputs."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import zoo
from tasks.data import decoding
from tasks.inference import (
    array_store,
    checksums,
    feature_cache,
    fingerprints,
    frozen_graph,
    runtimes,
)
from tests.support.paths import ROOT
from zoo import surgery
from zoo.errors import UsageError

COUNT = 13


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_FEATURES_GB", raising=False)
    array_store._opened_paths.clear()
    return tmp_path / "home" / "features"


def backbone(end="pool", seed=1, **options):
    """A small ResNet up to a layer, with BatchNorm statistics that are not the initial ones."""
    import keras

    keras.utils.set_random_seed(seed)
    model = zoo.build("resnet20", num_classes=4, **{"depths": (1, 1, 1), **options})
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            spread = [random.uniform(0.5, 2, weight.shape) for weight in layer.weights]
            layer.set_weights([spread[0], spread[1] - 1, spread[2] - 1, spread[3]])
    return keras.Model(model.input, model.get_layer(end).output)


def images(count=COUNT, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype="uint8")
    return decoding.Examples("train", pixels, np.zeros(count, "int64"))


def near(found, wanted, share):
    assert found.shape == wanted.shape
    assert np.abs(np.asarray(found, "float32") - wanted).max() <= share * np.abs(wanted).max()


@pytest.mark.parametrize("precision", feature_cache.TOLERANCES)
@pytest.mark.parametrize("runtime", ["openvino", "graph"])
def test_features_are_those_of_keras(runtime, precision, monkeypatch):
    if runtime == "openvino":
        pytest.importorskip("openvino")
        monkeypatch.setattr(feature_cache, "MIN_IMAGES_FOR_OPENVINO", 1)
        monkeypatch.setitem(runtimes.RUNTIMES, "openvino", runtimes.Runtime(None, ("openvino",)))
    bottom, examples = backbone(), images()
    assert feature_cache.plan(bottom, COUNT, precision) == feature_cache.ExecutionPlan(
        runtime, precision
    )
    found = feature_cache.compute_features(bottom, examples, precision=precision, batch_size=4)
    assert found.dtype == "float32"
    near(found, bottom.predict(examples.pixels, verbose=0), feature_cache.TOLERANCES[precision])


def test_feature_maps_are_float16_unless_they_overflow(home):
    import keras

    bottom, examples = backbone("conv3_block1_out"), images()
    found = feature_cache.compute_features(bottom, examples)
    assert found.dtype == "float16"
    near(found, bottom.predict(examples.pixels, verbose=0), 1e-3)
    large = keras.Model(bottom.input, bottom.output * 1e6)
    found = feature_cache.compute_features(large, examples)
    assert found.dtype == "float32"
    near(found, large.predict(examples.pixels, verbose=0), 1e-3)
    assert [path.suffix for path in home.iterdir()] == [".npy", ".npy"]


def odd_network():
    """Returns a network of many kinds of layers, with a nested model and a shared layer."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((16, 16, 6)), layers.Conv2D(6, 3, padding="same")])
    twice = layers.Conv2D(6, 1, use_bias=False)
    x = entry = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1)(x)
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, 2, "same", activation="relu")(x))
    x = layers.BatchNormalization(scale=False)(twice(x)) + layers.BatchNormalization()(twice(x))
    x = layers.ReLU(6)(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(inner(x)))
    x = layers.BatchNormalization(center=False)(layers.DepthwiseConv2D(3)(x))
    x = layers.SeparableConv2D(8, 3)(layers.AveragePooling2D(2)(x))
    x = layers.Concatenate()([x, layers.SpatialDropout2D(0.5)(x)])
    x = layers.BatchNormalization()(layers.Dense(10)(layers.Flatten()(x)))
    model = keras.Model(entry, layers.Dropout(0.5)(keras.ops.tanh(x)))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1, value.shape) / 4 for value in model.get_weights()])
    return model


def test_a_traced_graph_computes_the_model():
    model, examples = odd_network(), images()
    run = runtimes.numpy_function(frozen_graph.trace(model, "float32"))
    near(run(examples.pixels), model.predict(examples.pixels, verbose=0), 1e-5)


def test_openvino_gets_the_captured_weights_of_a_graph():
    pytest.importorskip("openvino")
    from tasks.inference import converters

    model, examples = odd_network(), images()
    run = converters.function_to_openvino(frozen_graph.trace(model, "float32"), "float32")
    near(run(examples.pixels), model.predict(examples.pixels, verbose=0), 1e-5)


def test_bfloat16_is_not_used_where_it_changes_features(caplog):
    import keras

    entry = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 1, name="first")(entry)
    x = keras.layers.Conv2D(1, 1, use_bias=False)(x)
    model = keras.Model(entry, keras.layers.Flatten()(x))
    kernel, _ = model.get_layer("first").get_weights()
    # The difference of two channels that bfloat16 cannot tell apart.
    model.set_weights(
        [kernel * 0 + 1e-3, np.array([1, 0, 1, 0]), np.array([1, 0, -1.001, 0]).reshape(1, 1, 4, 1)]
    )
    found = feature_cache.compute_features(model, images(), precision="bfloat16")
    assert "graph cannot compute features in bfloat16: features differ by" in caplog.text
    near(found, model.predict(images().pixels, verbose=0), 1e-3)


def test_keras_computes_features_where_tracing_fails(monkeypatch, caplog):
    monkeypatch.setattr(frozen_graph, "trace", lambda model, precision: 1 / 0)
    bottom, examples = backbone(), images()
    found = feature_cache.compute_features(bottom, examples)
    assert "graph cannot compute features in float32: division by zero" in caplog.text
    near(found, bottom.predict(examples.pixels, verbose=0), 1e-6)


@pytest.mark.check
def test_the_runtime_is_prepared_once_for_several_examples(monkeypatch):
    bottom, started, start = backbone(), [], feature_cache._start_runtime

    def counted(*args):
        started.append(args)
        return start(*args)

    monkeypatch.setattr(feature_cache, "_start_runtime", counted)
    several = [(images(), ""), (images(COUNT - 1), "mirrored")]
    found = feature_cache.compute_features_for_each(bottom, several)
    assert len(started) == 1
    for given, (examples, words) in zip(found, several, strict=True):
        np.testing.assert_array_equal(
            given, feature_cache.compute_features(bottom, examples, transform=words)
        )
        near(given, bottom.predict(examples.pixels, verbose=0), feature_cache.TOLERANCES["float32"])
    assert len(started) == 1  # they are kept


@pytest.mark.check
def test_several_examples_may_have_different_numbers_of_images():
    bottom, several = backbone(), [(images(1), ""), (images(), "more")]
    for given, (examples, _) in zip(
        feature_cache.compute_features_for_each(bottom, several), several, strict=True
    ):
        near(given, bottom.predict(examples.pixels, verbose=0), feature_cache.TOLERANCES["float32"])


def test_features_are_computed_once(monkeypatch):
    bottom, examples = backbone(), images()
    first = feature_cache.compute_features(bottom, examples)
    monkeypatch.setattr(feature_cache, "_start_runtime", pytest.fail)  # if it were called
    again = feature_cache.compute_features(bottom, examples)
    np.testing.assert_array_equal(first, again)
    assert isinstance(again, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0


def test_every_ingredient_changes_the_key(tmp_path):
    import keras

    bottom, examples = backbone(), images()
    known = feature_cache.cache_key(bottom, examples, precision="float32")
    assert feature_cache.cache_key(bottom, images(), precision="float32") == known
    keys = [known]
    keys.append(feature_cache.cache_key(bottom, examples, precision="bfloat16"))
    keys.append(feature_cache.cache_key(bottom, examples, precision="float32", transform="view 1"))
    keys.append(feature_cache.cache_key(bottom, images(COUNT - 1), precision="float32"))
    keys.append(
        feature_cache.cache_key(backbone("conv4_block1_out"), examples, precision="float32")
    )
    other = images()
    other.pixels[7, 31, 31, 2] ^= 1  # one bit
    keys.append(feature_cache.cache_key(bottom, other, precision="float32"))
    slower = keras.models.clone_model(bottom, clone_function=epsilon)
    slower.set_weights(bottom.get_weights())
    keys.append(feature_cache.cache_key(slower, examples, precision="float32"))
    weight = bottom.weights[-1]
    weight.assign(np.nextafter(weight.numpy(), np.inf))
    keys.append(feature_cache.cache_key(bottom, examples, precision="float32"))
    assert len(set(keys)) == len(keys)


def epsilon(layer):
    config = layer.get_config()
    return layer.from_config({**config, "epsilon": 0.5} if "epsilon" in config else config)


@pytest.mark.check
def test_the_key_does_not_depend_on_layer_names_and_process():
    code = "from tests.tasks.inference import test_feature_cache as t; print(t.unnamed_key(8))"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True,
    )  # fmt: skip
    assert other.stdout.strip() == unnamed_key(0)


def unnamed_key(before):
    """Returns the key of a network with automatic names, after creating `before` other layers."""
    import keras

    for _ in range(before):
        keras.layers.Conv2D(1, 1), keras.layers.Dropout(0.5)
    keras.utils.set_random_seed(0)
    entry = keras.Input((32, 32, 3))
    x = keras.layers.Dropout(0.5)(keras.layers.Conv2D(2, 3, activation="relu")(entry) * 2)
    model = keras.Model(entry, keras.layers.GlobalAveragePooling2D()(x))
    return feature_cache.cache_key(model, images(), precision="float32")


def test_the_key_of_files_is_their_paths_sizes_and_times(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(images(1).pixels[0]).save(path)

    def key(shape=(32, 32, 3), resize="stretch", items=paths):
        return fingerprints.pixels(decoding.LazyImages(items, shape, resize), len(items))

    known = key()
    assert key() == known
    changed = [key((16, 32, 3)), key(resize="crop"), key(items=paths[::-1]), key(items=paths[:2])]
    os.utime(paths[1], ns=(1, 1))
    changed.append(key())
    assert len({known, *changed}) == 6


@pytest.mark.check
def test_images_may_be_decoded_or_transformed_on_access(tmp_path):
    from tasks.classification import tta

    bottom, examples = backbone(), images()
    decoder = decoding.LazyImages(list(examples.pixels), (32, 32, 3), "stretch")
    found = feature_cache.compute_features(
        bottom, decoding.Examples("train", decoder, examples.labels)
    )
    near(found, bottom.predict(examples.pixels, verbose=0), 1e-3)
    mirrored = tta.ShiftedImages(examples.pixels, True, 0, 0)
    seen = decoding.Examples("train", mirrored, examples.labels)
    found = feature_cache.compute_features(bottom, seen, transform="mirrored", batch_size=5)
    near(found, bottom.predict(examples.pixels[:, :, ::-1], verbose=0), 1e-3)
    ways = [(True, 0, 0), (False, 0, 0), (False, 1, 0), (False, 0, 1)]
    seen = [tta.ShiftedImages(examples.pixels, *way) for way in ways]
    assert len({fingerprints.pixels(source, COUNT) for source in seen}) == 4
    assert fingerprints.pixels(mirrored, COUNT) == fingerprints.pixels(seen[0], COUNT)


def numbers(start=0, count=100):
    return np.arange(start, count, dtype="float32")[:, None] * np.ones(3, "float32")


def rows_of(size, seen=None, stop=None):
    def rows(done):
        for start in range(done, 100, size):
            if seen is not None:
                seen.append(start)
            if start == stop:
                raise KeyboardInterrupt
            yield numbers(start, min(100, start + size))

    return rows


def test_an_interrupted_pass_is_resumed(home):
    with pytest.raises(KeyboardInterrupt):
        array_store.get_or_compute("k", (100, 3), "float32", rows_of(10, stop=40))
    assert array_store.find("k") is None
    seen = []
    np.testing.assert_array_equal(
        array_store.get_or_compute("k", (100, 3), "float32", rows_of(10, seen)), numbers()
    )
    assert seen[0] == 40
    assert [path.name for path in home.iterdir()] == ["k.npy"]


def test_a_partial_pass_of_another_shape_is_not_resumed():
    with pytest.raises(KeyboardInterrupt):
        array_store.get_or_compute("k", (100, 3), "float16", rows_of(10, stop=40))
    seen = []
    found = array_store.get_or_compute("k", (100, 3), "float32", rows_of(10, seen))
    np.testing.assert_array_equal(found, numbers())
    assert seen[0] == 0


def slow_rows(done):
    array_store.PROGRESS_INTERVAL_SECONDS = 0.02
    for start in range(done, 100):
        time.sleep(0.01)
        yield numbers(start, start + 1)


def keep_slowly(queue):
    array = array_store.get_or_compute("k", (100, 3), "float32", slow_rows)
    queue.put(np.array(array))


def test_a_pass_that_is_killed_is_resumed(home):
    fork = multiprocessing.get_context("fork")
    reached = [0]
    for wait in (0.15, 0.3, 0.5):
        process = fork.Process(target=keep_slowly, args=(fork.SimpleQueue(),))
        process.start()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        reached.append(int((home / "k.rows").read_text()))
    assert reached == sorted(set(reached))
    seen = []
    found = array_store.get_or_compute("k", (100, 3), "float32", rows_of(1, seen))
    np.testing.assert_array_equal(found, numbers())
    assert seen[0] == reached[-1] > 0


def test_of_two_processes_one_computes():
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    processes = [fork.Process(target=keep_slowly, args=(queue,)) for _ in range(2)]
    began = time.monotonic()
    for process in processes:
        process.start()
    for _ in processes:
        np.testing.assert_array_equal(queue.get(), numbers())
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert time.monotonic() - began < 100  # neither waits for ever


def test_damaged_files_are_detected_and_replaced(home):
    array_store.get_or_compute("k", (100, 3), "float32", rows_of(10))
    os.truncate(home / "k.npy", 500)
    assert array_store.find("k") is None
    np.testing.assert_array_equal(
        array_store.get_or_compute("k", (100, 3), "float32", rows_of(10)), numbers()
    )


@pytest.mark.parametrize("place", [3, 60, 128, 700, 1327, -1])
def test_a_flipped_bit_is_detected_and_the_features_are_computed_again(place, home, caplog):
    array_store.get_or_compute("k", (100, 3), "float32", rows_of(10))
    path = home / "k.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    array_store._opened_paths.clear()  # as in another process
    seen = []
    with caplog.at_level(logging.WARNING, "zoo"):
        found = array_store.get_or_compute("k", (100, 3), "float32", rows_of(10, seen))
    np.testing.assert_array_equal(found, numbers())
    assert seen[0] == 0
    assert f"the cached features in {path} are damaged: they are computed again" in caplog.text


def test_intact_features_are_verified_once_and_not_computed(home, caplog, monkeypatch):
    array_store.get_or_compute("k", (100, 3), "float32", rows_of(10))
    array_store._opened_paths.clear()
    seen = []
    np.testing.assert_array_equal(array_store.find("k"), numbers())
    monkeypatch.setattr(checksums, "verify_checksum", None)  # which is not asked a second time
    array_store.get_or_compute("k", (100, 3), "float32", rows_of(10, seen))
    assert not seen
    assert not caplog.text


def test_a_checksum_covers_every_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "CHUNK_BYTES", 10)
    path = tmp_path / "x"
    path.write_bytes(bytes(range(35)) + b"rest")
    checksums.append_checksum(path, 35)
    assert checksums.verify_checksum(path)
    for place in (0, 9, 10, 34, 36, 42):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        (tmp_path / "y").write_bytes(content)
        assert not checksums.verify_checksum(tmp_path / "y")


def keep(key, monkeypatch, age):
    """Keeps an array of 1336 bytes that was used some seconds ago, by another process."""
    array_store.get_or_compute(key, (100, 3), "float32", rows_of(50))
    path = array_store.folder() / f"{key}.npy"
    os.utime(path, (time.time() - age,) * 2)
    array_store._opened_paths.clear()


def test_the_least_recently_used_files_are_evicted(home, monkeypatch):
    monkeypatch.setenv("ZOO_FEATURES_GB", "4e-6")
    keep("old", monkeypatch, 300)
    keep("older", monkeypatch, 400)
    assert array_store.find("older") is not None  # which makes it the youngest
    array_store._opened_paths.clear()
    keep("new", monkeypatch, 0)
    keep("newer", monkeypatch, 0)
    assert sorted(path.stem for path in home.iterdir()) == ["new", "newer", "older"]


def test_files_in_use_by_this_process_are_not_evicted(home, monkeypatch, caplog):
    monkeypatch.setenv("ZOO_FEATURES_GB", "2e-6")
    used = array_store.get_or_compute("used", (100, 3), "float32", rows_of(50))
    with pytest.raises(array_store.StoreFullError, match="in use"):
        array_store.get_or_compute("k", (100, 3), "float32", rows_of(50))
    np.testing.assert_array_equal(used, numbers())
    assert [path.name for path in home.iterdir()] == ["used.npy"]


@pytest.mark.parametrize("trouble", ["small", "file in the way", "full", "read-only"])
@pytest.mark.check
def test_features_that_cannot_be_cached_are_kept_for_the_run(trouble, home, monkeypatch, caplog):
    if trouble == "small":
        monkeypatch.setenv("ZOO_FEATURES_GB", "1e-9")
    elif trouble == "file in the way":
        home.parent.write_text("")
    elif trouble == "full":
        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.setattr(os, "open", read_only)
    bottom, examples = backbone(), images()
    found = feature_cache.compute_features(bottom, examples)
    assert not isinstance(found, np.memmap)
    near(found, bottom.predict(examples.pixels, verbose=0), 1e-3)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert line.startswith("features cannot be cached, and are kept for this run only: ")
    assert not home.is_dir() or not list(home.iterdir())


def full(*_):
    raise OSError(28, "No space left on device")


def read_only(path, *_, **__):
    raise OSError(30, "Read-only file system", str(path))


def test_a_disk_that_fills_up_leaves_no_partial_file(home, monkeypatch):
    def fill(file, data, offset):
        if offset > 500:
            full()

    monkeypatch.setattr(array_store, "_write_all", fill)
    with pytest.raises(array_store.StoreFullError, match="No space left"):
        array_store.get_or_compute("k", (100, 3), "float32", rows_of(10))
    assert not list(home.iterdir())


def test_features_larger_than_memory_use_an_anonymous_file(monkeypatch):
    monkeypatch.setattr(array_store, "_free_memory", lambda: 0)
    found = array_store.compute_uncached((100, 3), "float32", rows_of(10))
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, numbers())
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError, match="fit neither in memory nor in"):
        array_store.compute_uncached((100, 3), "float32", rows_of(10))


def test_wrong_arguments_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="no precision of features named 'float16'; did you mean"):
        feature_cache.compute_features(backbone(), images(), precision="float16")
    monkeypatch.setenv("ZOO_FEATURES_GB", "ten")
    with pytest.raises(UsageError, match="ZOO_FEATURES_GB takes a number of gigabytes"):
        feature_cache.compute_features(backbone(), images())


@pytest.mark.check
def test_caching_pays_off_for_repeated_expensive_passes():
    bottom = backbone(depths=(3, 3, 3))  # 82 million FLOPs
    assert feature_cache.is_worthwhile(bottom, 4000, epochs=10)
    assert feature_cache.is_worthwhile(bottom, 4000, epochs=1)
    assert not feature_cache.is_worthwhile(bottom, 4000, epochs=5, views=10)
    assert not feature_cache.is_worthwhile(bottom, 10, epochs=10)


@pytest.mark.check
def test_features_of_a_split_model():
    model = zoo.build("resnet20", num_classes=4)
    model.trainable = False
    model.get_layer("logits").trainable = True
    bottom, top = surgery.split(model)
    found = feature_cache.compute_features(bottom, images())
    whole = model.predict(images().pixels, verbose=0)
    near(top.predict(np.asarray(found), verbose=0), whole, 1e-3)
