"""Shared by all tests: quiet logs, a fresh Keras session, and options for slow tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Tests compile far more than they compute.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# All processes of a test sum in the same order, so that their results are equal to the bit.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import pytest


def pytest_addoption(parser):
    parser.addoption("--check", action="store_true", help="also run tests marked check")
    parser.addoption("--slow", action="store_true", help="also run tests marked check or slow")


def pytest_configure(config):
    # Shells run jobs in the background with SIGINT ignored, and processes inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "shared_fixtures(*names): of a file (`pytestmark`): its tests that use one of these "
        "fixtures, which are expensive and of module scope, run in one process",
    )
    # Keras 3.15 reads its own variables in the way that NumPy 2.4 deprecates.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in its own hook
def pytest_collection_modifyitems(config, items):
    for item in items:
        shared = item.get_closest_marker("shared_fixtures")
        used = [name for name in shared.args if name in item.fixturenames] if shared else []
        if used and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}.{used[0]}"))
    slow = config.getoption("--slow")
    for marker, wanted in (("slow", slow), ("check", slow or config.getoption("--check"))):
        skip = pytest.mark.skip(reason=f"{marker}: run with --{marker}")
        for item in items:
            if marker in item.keywords and not wanted:
                item.add_marker(skip)
    # Groups run in one process each. They come first, so that none is left over at the end.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def pytest_collection_finish(session):
    """Prepares the process: two logical CPUs if a test needs them, and less garbage collection."""
    if any("two_devices" in getattr(item, "fixturenames", ()) for item in session.items):
        import tensorflow as tf

        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], halves
        )
    gc.collect()
    gc.freeze()  # the collector need not search what was imported


@pytest.fixture(autouse=True)
def fresh_keras():
    """Resets the global state of Keras, including the dtype policy, after each test."""
    yield
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session(free_memory=False)
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def cut_short(monkeypatch):
    """Returns a function that trains a task until its first checkpoint, and then interrupts it.

    The function returns the epochs that were saved, of which there must be one.
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
    """Marks a test that needs two logical CPUs; see `pytest_collection_finish`."""


@pytest.fixture(scope="session")
def zoo_data():
    """Returns the folder of real data and weights named by `ZOO_DATA`; skips the test without it.

    It holds `tfds/` (for `tfds.load(data_dir=...)`), `weights/` and `photos/`.
    """
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("needs real data: set ZOO_DATA to its folder")
    return Path(folder)
