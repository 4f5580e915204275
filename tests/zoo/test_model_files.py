"""Model files: atomic writes, metadata, and loading with plain Keras."""

import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import atomic_files, keras_archive, model_files
from zoo.errors import UsageError

METADATA = {"classes": ["dark", "light"], "resize": "crop"}


@pytest.fixture(scope="module")
def model():
    return zoo.build("lenet5", num_classes=2)


def test_save_and_load_model_with_metadata(model, tmp_path):
    import keras

    path = tmp_path / "model.keras"
    model_files.save(model, path, METADATA)
    again, metadata = model_files.load(path)
    assert metadata == METADATA
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype("float32")
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    plain = keras.saving.load_model(path)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), expected)


def test_optimizer_is_not_saved(tmp_path):
    import keras

    model = zoo.build("lenet5", num_classes=2)

    model_files.save(model, tmp_path / "plain.keras", {})
    model.compile("adam", "mse")
    model.train_on_batch(np.zeros((4, *model.input_shape[1:])), np.zeros((4, 2)))
    model_files.save(model, tmp_path / "compiled.keras", {})
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("plain", "compiled")]
    assert sizes[1] <= sizes[0] * 1.01
    again = keras.saving.load_model(tmp_path / "compiled.keras")
    assert not again.compiled
    assert [w.path for w in again.weights] == [w.path for w in model.weights]


def test_metadata_of_plain_keras_file_is_empty(model, tmp_path):
    model.save(tmp_path / "plain.keras")
    assert model_files.load(tmp_path / "plain.keras")[1] == {}


def test_files_that_are_not_models_are_refused(tmp_path):
    (tmp_path / "text.keras").write_text("not a model")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    for name in ("text.keras", "empty.keras"):
        with pytest.raises(UsageError, match="cannot be read as a Keras model"):
            model_files.load(tmp_path / name)
    with pytest.raises(UsageError, match="no model file"):
        model_files.load(tmp_path / "nowhere.keras")


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"No space left.*untouched"):  # noqa: SIM117
        with atomic_files.atomic_write(path) as partial:
            fail(partial)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


FULL_DISK = """
import json, sys, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import zoo
from zoo import model_files
model, _ = model_files.load(sys.argv[1])
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    model_files.save(model, sys.argv[1], {})
except zoo.UsageError as error:
    print(json.dumps([str(error), model.output_shape]))
"""


@pytest.mark.check
def test_full_disk_keeps_the_old_model(model, tmp_path):
    """A limit on the file size has the effect of a full disk: a write fails in the middle."""
    path = tmp_path / "model.keras"
    model_files.save(model, path, METADATA)
    content = path.read_bytes()
    code = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    message, shape = json.loads(done.stdout)
    assert "untouched" in message
    assert shape == [None, 2]
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["model.keras"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def write(path, text):
    with atomic_files.atomic_write(path) as partial:
        partial.write_text(text)


def test_threads_write_one_file_concurrently(tmp_path):
    path, together = tmp_path / "state.json", threading.Barrier(8)

    def work(number):
        with atomic_files.atomic_write(path) as partial:
            together.wait(60)  # all have their partial file now
            partial.write_text(str(number) * 1000)
            together.wait(60)
            return partial

    with ThreadPoolExecutor(8) as pool:
        partials = list(pool.map(work, range(8)))
    assert len(set(partials)) == 8
    assert path.read_text() in {str(number) * 1000 for number in range(8)}
    assert os.listdir(tmp_path) == ["state.json"]


def test_symbolic_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("old")
    for target in ("there/file", "there/absent"):
        link = tmp_path / "link"
        link.symlink_to(target)
        write(link, "new")
        assert os.readlink(link) == target
        assert (tmp_path / target).read_text() == "new"
        link.unlink()
    assert sorted(os.listdir(tmp_path / "there")) == ["absent", "file"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_are_kept(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_read_only_file_is_replaced_and_stays_read_only():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder) / "file"
        try:
            os.seteuid(user or 65534)  # permissions do not bind root
            path.write_text("old")
            path.chmod(0o444)
            write(path, "new")
        finally:
            os.seteuid(user)
        assert path.read_text() == "new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_class_names_of_damaged_files(tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            keras_archive.METADATA_FILE, json.dumps({"classes": list(map(str, range(200)))})
        )
    whole = path.read_bytes()
    assert model_files.read_class_names(path) == tuple(map(str, range(200)))
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        assert all(isinstance(name, str) for name in model_files.read_class_names(path))
    path.unlink()
    os.mkfifo(path)
    assert model_files.read_class_names(path) == ()
    with pytest.raises(UsageError, match=r"x\.keras is a named pipe, not a model file"):
        model_files.read_metadata(path)


def test_new_file_has_permissions_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "file", "new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_write_to_fifo(tmp_path):
    path, text = tmp_path / "fifo", "x" * 300_000  # more than a pipe holds
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read():
        heard = b""
        while len(heard) < len(text):
            with suppress(BlockingIOError):
                heard += os.read(reader, 1 << 16)
        return heard.decode()

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(read)
        write(path, text)
        assert heard.result(60) == text
    os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


def test_fifo_without_reader_raises_instead_of_blocking(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"fifo could not be written"):
        write(tmp_path / "fifo", "text")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_write_to_device():
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        write(path, "text")
        assert os.read(master, 100) == b"text"
        assert stat.S_ISCHR(os.stat(path).st_mode)
    finally:
        os.close(master)
        os.close(slave)


def test_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder could not be written"):
        write(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.xml"])
def test_exported_models_are_not_called_damaged(name, tmp_path):
    (tmp_path / name).write_bytes(b"network")
    with pytest.raises(UsageError, match=r"is an exported model.*; pass the run or"):
        model_files.load(tmp_path / name)
