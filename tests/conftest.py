"""What every test shares: quiet logs, a fresh Keras, and switches for what is slow or far away."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Tests compile far more than they compute.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import pytest


def pytest_addoption(parser):
    parser.addoption("--check", action="store_true", help="also run tests marked check")
    parser.addoption("--slow", action="store_true", help="also run tests marked check or slow")


def pytest_configure(config):
    # Keras 3.15 reads its own variables in the way that NumPy 2.4 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


def pytest_collection_modifyitems(config, items):
    slow = config.getoption("--slow")
    for marker, wanted in (("slow", slow), ("check", slow or config.getoption("--check"))):
        skip = pytest.mark.skip(reason=f"{marker}: run with --{marker}")
        for item in items:
            if marker in item.keywords and not wanted:
                item.add_marker(skip)
    # Groups stay in one process: they come first, so that no process waits for one at the end.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def pytest_collection_finish(session):
    """Splits the CPU in two, before TensorFlow starts, if a test wants to mirror over it."""
    if any("two_devices" in getattr(item, "fixturenames", ()) for item in session.items):
        import tensorflow as tf

        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], halves
        )


@pytest.fixture(autouse=True)
def fresh_keras():
    """Empties Keras's global state, its dtype policy too, after each test that used it."""
    yield
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session(free_memory=False)
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def cut_short(monkeypatch):
    """Returns what trains a task in a folder until its first checkpoint, and is then interrupted.

    It returns the epochs that were saved, of which there must be one.
    """
    from tasks.engine import resume, trainer

    def train(task, out):
        save, saved = resume.RunState.save, []

        def stop(state, model, **options):
            save(state, model, **options)
            saved.append(state.epoch)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(resume.RunState, "save", stop)
            with pytest.raises(KeyboardInterrupt):
                trainer.train(task, out)
        return saved

    return train


@pytest.fixture
def two_devices():
    """Marks a test that mirrors over two logical CPUs; see `pytest_collection_finish`."""


@pytest.fixture(scope="session")
def zoo_data():
    """The folder of real data and weights named by `ZOO_DATA`; skips a test where there is none.

    It holds `tfds/` as `tfds.load(data_dir=...)` wants it, `weights/` and `photos/`.
    """
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("needs real data: set ZOO_DATA to its folder")
    return Path(folder)
