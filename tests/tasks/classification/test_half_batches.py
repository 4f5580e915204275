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
alternating = pytest.mark.skipif(
    not devices.runs_ops_concurrently(), reason="operations run one after the other here"
)


def built(name="lenet5"):
    keras.utils.set_random_seed(0)
    return zoo.build(name, input_shape=(32, 32, 1), num_classes=3)


def taught(model):
    """Returns the weights of a model after one step of gradient descent."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SIZE, 32, 32, 1), dtype="uint8")
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.train_on_batch(images, random.integers(0, 3, SIZE))
    return model.get_weights()


@alternating
def test_halves_learn_what_the_whole_batch_does():
    whole, model = built(), built()
    halved = half_batches.parallel_half_batches(model, SIZE, FLOPS)
    assert halved is not model
    before = model.get_weights()
    for one, other, first in zip(taught(whole), taught(halved), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(other, first)
    np.testing.assert_array_equal(model.get_weights()[0], halved.get_weights()[0])


@pytest.mark.parametrize(
    ("name", "size", "flops"),
    [
        ("lenet5", SIZE - 1, FLOPS),
        ("lenet5", SIZE, 0),
        ("lenet5", SIZE, 1e9),
        ("resnet20", SIZE, FLOPS),  # batch normalisation sees the whole batch
    ],
)
def test_what_halves_would_change_or_not_speed_up_stays(name, size, flops):
    model = built(name)
    assert half_batches.parallel_half_batches(model, size, flops) is model


THREADS = """
from tasks.distributed import devices
devices.use_single_thread()
import tensorflow as tf
tf.constant(0)
print(tf.config.threading.get_intra_op_parallelism_threads())
devices.use_single_thread()  # too late, which is no error
"""


@alternating
def test_a_process_can_keep_operations_to_one_core():
    free = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    said = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, check=True, env=free
    )
    assert said.stdout.split() == [b"1"]
