"""Half batches computed in parallel: the same gradients, and only where that is faster."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from tasks.classification import half_batches
from tasks.distributed import devices

SIZE, FLOPS = 8, 1e6
concurrent = pytest.mark.skipif(
    not devices.runs_ops_concurrently(), reason="operations do not run concurrently here"
)


def build(name="lenet5"):
    keras.utils.set_random_seed(0)
    return zoo.build(name, input_shape=(32, 32, 1), num_classes=3)


def train_step(model):
    """Returns the weights of a model after one step of SGD."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SIZE, 32, 32, 1), dtype="uint8")
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.train_on_batch(images, random.integers(0, 3, SIZE))
    return model.get_weights()


@concurrent
def test_half_batches_give_the_gradients_of_the_whole_batch():
    whole, model = build(), build()
    halved = half_batches.parallel_half_batches(model, SIZE, FLOPS)
    assert halved is not model
    before = model.get_weights()
    for one, other, first in zip(train_step(whole), train_step(halved), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(other, first)
    np.testing.assert_array_equal(model.get_weights()[0], halved.get_weights()[0])


@pytest.mark.parametrize(
    ("name", "size", "flops"),
    [
        ("lenet5", SIZE - 1, FLOPS),
        ("lenet5", SIZE, 0),
        ("lenet5", SIZE, 1e9),
        ("resnet20", SIZE, FLOPS),  # batch statistics are of the whole batch
    ],
)
def test_a_model_is_kept_if_half_batches_would_change_training_or_save_no_time(name, size, flops):
    model = build(name)
    assert half_batches.parallel_half_batches(model, size, flops) is model


THREADS = """
from tasks.distributed import devices
devices.use_single_thread()
import tensorflow as tf
tf.constant(0)
print(tf.config.threading.get_intra_op_parallelism_threads())
devices.use_single_thread()  # too late, which is no error
"""


@concurrent
@pytest.mark.check
def test_a_process_can_run_operations_on_a_single_thread():
    environment = {k: v for k, v in os.environ.items() if k != "TF_NUM_INTRAOP_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, check=True, env=environment
    )
    assert done.stdout.split() == [b"1"]


@concurrent
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("variable", [None, "2"])
def test_a_single_thread_is_set_unless_tensorflow_runs_or_a_variable_is_set(
    started, variable, monkeypatch
):
    calls = []

    def set_threads(count):
        calls.append(count)
        if started:
            raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

    threading = devices.tf.config.threading
    monkeypatch.setattr(threading, "set_intra_op_parallelism_threads", set_threads)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", variable)
    devices.use_single_thread()
    assert calls == ([] if variable else [1])
