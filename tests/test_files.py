"""Model files: whole or not at all, and readable by Keras alone."""

import json
import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import zoo
from zoo import files
from zoo.errors import UsageError

ABOUT = {"classes": ["dark", "light"], "resize": "crop"}


@pytest.fixture
def model():
    return zoo.build("lenet5", num_classes=2)


def test_a_model_comes_back_with_what_was_said_about_it(model, tmp_path):
    import keras

    path = tmp_path / "model.keras"
    files.save(model, path, ABOUT)
    again, about = files.load(path)
    assert about == ABOUT
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype("float32")
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    plain = keras.saving.load_model(path)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), expected)


def test_an_optimiser_is_no_part_of_a_model(model, tmp_path):
    import keras

    files.save(model, tmp_path / "plain.keras", {})
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((4, *model.input_shape[1:])), np.zeros((4, 2)))
    files.save(model, tmp_path / "taught.keras", {})
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "taught")]
    assert sizes[1] <= sizes[0] * 1.01
    again = keras.saving.load_model(tmp_path / "taught.keras")
    assert not again.compiled
    assert [w.path for w in again.weights] == [w.path for w in model.weights]


def test_a_file_of_another_maker_has_nothing_said_about_it(model, tmp_path):
    model.save(tmp_path / "plain.keras")
    assert files.load(tmp_path / "plain.keras")[1] == {}


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.keras").write_text("not a model")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    for name in ("text.keras", "empty.keras"):
        with pytest.raises(UsageError, match="cannot be read as a Keras model"):
            files.load(tmp_path / name)
    with pytest.raises(UsageError, match="no model file"):
        files.load(tmp_path / "nowhere.keras")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"No space left.*untouched"):  # noqa: SIM117
        with files.replacing(path) as partial:
            fail(partial)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


FULL_DISK = """
import json, sys, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import zoo
from zoo import files
model = zoo.build("lenet5", num_classes=2)
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    files.save(model, sys.argv[1], {})
except zoo.UsageError as error:
    print(json.dumps(str(error)))
"""


def test_a_full_disk_leaves_the_last_good_model(model, tmp_path):
    """A limit on the size of files stands in for a full disk: both fail in mid-write."""
    path = tmp_path / "model.keras"
    files.save(model, path, ABOUT)
    good = path.read_bytes()
    code = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "untouched" in json.loads(done.stdout)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["model.keras"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_model_is_read_where_assertions_are_left_out(tmp_path):
    files.save(zoo.build("lenet5", num_classes=2), tmp_path / "m.keras", {})
    code = "import sys; from zoo import files; print(files.load(sys.argv[1])[0].output_shape)"
    words = [sys.executable, "-O", "-c", code, tmp_path / "m.keras"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(None, 2)"
