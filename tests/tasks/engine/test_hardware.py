"""Which training steps XLA compiles."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

import tasks
from tasks.engine import hardware


@pytest.mark.parametrize(
    ("backend", "devices", "compiled"),
    [("tensorflow", [], False), ("tensorflow", ["GPU:0"], True), ("jax", [], True)],
)
def test_xla_is_the_default_on_a_gpu_and_on_jax(backend, devices, compiled, monkeypatch):
    """On JAX a step that is not compiled runs one operation after the other."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    task = tasks.get("sequence")()
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    assert hardware.jit_compile("auto", model) == ("auto" if compiled else False)
    assert hardware.jit_compile("off", model) is False
    found = hardware.resolve_auto_flags(task, model, "one", "off")
    assert found["jit_compile"] == ("on" if compiled else "off")
