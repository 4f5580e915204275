"""Model files loaded without keras-zoo, and model files of earlier versions."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo import graphs, model_files, surgery, weights
from zoo.parts import blocks

# Saved when networks had layers of the zoo where they now have layers of Keras; one of each kind.
EARLIER = Path(__file__).parent / "files" / "earlier_layers.keras"
EARLIER_INPUT = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
EARLIER_LOGITS = [[-0.01935768, 0.03711314]]
MAX_PARAMETERS = 2_000_000  # of the networks that are saved

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("zoo", "tasks", "scripts"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
LOAD = """
import sys
{first}
import numpy as np
logits = {{}}
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    x = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    logits[path] = keras.ops.convert_to_numpy(model(x))
np.savez(sys.argv[1], *logits.values())
"""


def logits_in_new_process(paths, folder, first, backend=None):
    """Returns the logits of model files in a new process, which first executes `first`."""
    out = folder / "logits.npz"
    words = [sys.executable, "-c", LOAD.format(first=first), str(out), *map(str, paths)]
    environment = {**os.environ, "KERAS_BACKEND": backend or keras.config.backend()}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as found:
        return list(found.values())


def logits_here(model):
    x = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    return keras.ops.convert_to_numpy(model(x))


def saved(model, folder, name):
    path = folder / f"{name}.keras"
    model_files.save(model, path, {"classes": ["a", "b"]})
    return path


def preprocessed(kind, channels=3):
    """Returns a small network with one kind of preprocessing."""
    image = keras.Input((8, 8, channels))
    x = keras.layers.Conv2D(2, 3)(blocks.preprocess(image, kind))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def normalised():
    """Returns a small network with local response normalization."""
    image = keras.Input((8, 8, 3))
    x = blocks.local_response_norm(keras.layers.Conv2D(8, 3)(image), alpha=0.1, name="norm")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


SMALL = {
    "lenet5": lambda: zoo.build("lenet5", num_classes=2),
    "resnet20": lambda: zoo.build("resnet20", num_classes=2),
    "vit": lambda: zoo.build("vit_tiny", depth=1, input_shape=(32, 32, 3), num_classes=2),
    "lrn": normalised,
    **{kind: lambda kind=kind: preprocessed(kind) for kind in blocks.PREPROCESSING},
    **{
        f"{count} channels": lambda count=count: surgery.channels(preprocessed("caffe"), count)
        for count in (1, 2, 4)
    },
    "from gray": lambda: surgery.channels(preprocessed("torch", 1), 3),
}


@pytest.mark.check
def test_classifiers_load_without_the_package(tmp_path):
    models = [make() for make in SMALL.values()]
    paths = [saved(model, tmp_path, name) for name, model in zip(SMALL, models, strict=True)]
    found = logits_in_new_process(paths, tmp_path, HIDE + "import keras")
    for name, model, logits in zip(SMALL, models, found, strict=True):
        np.testing.assert_array_equal(logits, logits_here(model), err_msg=name)


@pytest.mark.check
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_classifiers_load_on_another_backend(tmp_path):
    models = [make() for make in SMALL.values()]
    paths = [saved(model, tmp_path, name) for name, model in zip(SMALL, models, strict=True)]
    found = logits_in_new_process(paths, tmp_path, HIDE + "import keras", backend="jax")
    for name, model, logits in zip(SMALL, models, found, strict=True):
        np.testing.assert_allclose(logits, logits_here(model), rtol=1e-3, atol=1e-4, err_msg=name)


def families():
    """Returns the smallest classifier of each family, and those with special layers."""
    smallest = {}
    for name in zoo.names(kind="classifier", weights=False):
        spec = zoo.spec(name)
        best = smallest.setdefault(spec.family, spec)
        smallest[spec.family] = min(best, spec, key=lambda spec: spec.parameters)
    return [*(spec.name for spec in smallest.values()), "alexnet_paper", "googlenet_paper"]


@pytest.mark.check
def test_every_family_consists_of_keras_layers_and_operations():
    """A file then loads with plain Keras. Models are built without values of weights."""
    for name in families():
        with keras.StatelessScope(initialize_variables=False):
            model = zoo.build(name)
        kinds = {type(node.operation) for node in graphs.nodes(model)}
        others = [kind for kind in kinds if not kind.__module__.startswith("keras.")]
        assert not others, (name, others)


@pytest.mark.check
def test_small_networks_of_all_families_load_without_the_package(tmp_path):
    """Larger networks are covered by the test above."""
    names = [name for name in families() if zoo.spec(name).parameters < MAX_PARAMETERS]
    paths, expected = [], []
    for name in names:
        side = max(32, zoo.spec(name).min_size)
        shape = (side, side, zoo.spec(name).input_shape[-1])
        model = zoo.build(name, input_shape=shape, num_classes=2)
        paths.append(saved(model, tmp_path, name))
        expected.append(logits_here(model))
    found = logits_in_new_process(paths, tmp_path, HIDE + "import keras")
    for name, logits, wanted in zip(names, found, expected, strict=True):
        np.testing.assert_array_equal(logits, wanted, err_msg=name)


@pytest.mark.parametrize(
    "first", ["import zoo, keras", pytest.param("import keras, zoo", marks=pytest.mark.check)]
)
@pytest.mark.check
def test_layers_are_registered_in_any_import_order(tmp_path, first):
    [logits] = logits_in_new_process([EARLIER], tmp_path, first)
    expected = logits_here(model_files.load(EARLIER)[0])
    np.testing.assert_array_equal(logits, expected)


def test_logits_of_an_earlier_file():
    model, about = model_files.load(EARLIER)
    assert about == {"classes": ["dark", "light"], "resize": "stretch"}
    logits = keras.ops.convert_to_numpy(model(EARLIER_INPUT))
    np.testing.assert_allclose(logits, EARLIER_LOGITS, rtol=1e-4)


def test_weights_of_an_earlier_file_load_into_keras_layers():
    image = keras.Input((16, 16, 1))
    x = keras.ops.matmul(image, np.ones((1, 3), "float32"))
    x = keras.layers.Conv2D(4, 4, 4, name="conv")(blocks.preprocess(x, "caffe"))
    x = blocks.local_response_norm(x, alpha=0.1, name="norm")
    x = blocks.padded_shortcut(x, 6, 2, name="shortcut")
    x = keras.layers.Reshape((4, 6))(x)
    token = blocks.learned_tokens(x[:, :1], name="class_token")
    x = keras.layers.Concatenate(axis=1)([token, x])
    x = x + blocks.learned_tokens(x[:1, :], name="positions")
    x = x[:, 0] + keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    loaded = weights.load(model, EARLIER, strict=True)
    assert loaded.matched == ("conv", "class_token", "positions", "logits")
    expected = model_files.load(EARLIER)[0](EARLIER_INPUT)
    np.testing.assert_array_equal(np.array(model(EARLIER_INPUT)), np.array(expected))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_channels_of_an_earlier_file_are_adapted_alike(count):
    """Preprocessing by a layer of the zoo and by layers of Keras is adapted equally."""
    image = keras.Input((8, 8, 3))
    pixels = zoo.layers.PixelNormalization(**blocks.PREPROCESSING["caffe"], name="pixels")
    conv = keras.layers.Conv2D(2, 3)
    earlier = keras.Model(image, conv(pixels(image)))
    now = keras.Model(image, conv(blocks.preprocess(image, "caffe")))
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, count)).astype("float32")
    ours, theirs = (surgery.channels(model, count)(x) for model in (now, earlier))
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["alexnet_paper", "resnet20"])
@pytest.mark.check
def test_operation_names_of_a_loaded_model_are_unique(tmp_path, name):
    """Keras numbers operations from 0 in each process, as here after a reset."""
    shape = (64, 64, 3)
    small = {"widths": (8, 8, 8, 8, 8), "hidden": (8,)} if name == "alexnet_paper" else {}
    keras.backend.clear_session()
    model = surgery.channels(zoo.build(name, input_shape=shape, num_classes=2, **small), 1)
    path = saved(model, tmp_path, "model")
    keras.backend.clear_session()
    again = surgery.channels(model_files.load(path)[0], 3)
    names = [node.operation.name for node in graphs.nodes(again)]
    assert len(set(names)) == len(names)
