"""Batches that replicas share: rates, gradients and statistics are those of one device."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tasks
from tasks.distributed import replicas, strategies
from tasks.engine import finetune, optimize, training_run
from zoo.errors import UsageError

if keras.config.backend() != "tensorflow":
    pytest.skip("replicas are of TensorFlow", allow_module_level=True)

import tensorflow as tf

TINY = {
    "model": "convnet",
    "train_split": "train[:64]",
    "validation_split": "none",
    "test_split": "test[:16]",
    "batch_size": 16,
    "epochs": 2,
    "optimizer": "momentum",
    "learning_rate": 0.05,
    "precision": "float32",
    "plan": "full",
}
PLAIN = "{depths: [1, 1], widths: [4, 8], head: pool, hidden: [], conv_dropout: 0.0}"
UNNORMALISED = PLAIN.replace("}", ", batch_norm: false}")
# float32 sums in another order: a few units in the last place a step, which steps make larger.
SAME = {"rtol": 1e-4, "atol": 1e-6}


def make_task(**flags):
    return tasks.get("classification")(**{**TINY, "model_options": UNNORMALISED, **flags})


def trained(**flags):
    """Trains a task; returns its losses by epoch, its final weights and their averages."""
    task = make_task(**flags)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy(task.strategy))
    prepared_stage = run.prepared_stage(0)
    found = prepared_stage.training_model.fit(
        prepared_stage.pipeline.epoch(0), epochs=task.epochs, shuffle=False, verbose=0
    )
    weights = [np.array(v) for v in run.model.weights]
    with optimize.ema_weights(run.optimizer(0)):
        averages = [np.array(v) for v in run.model.weights]
    return found.history["loss"], weights, averages


def assert_equal(one, other, **tolerance):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, **(tolerance or SAME))


def lines(n, **flags):
    """Returns the lines printed about a task on `n` devices."""
    if n == 1:
        return replicas.check_replicas(make_task(**flags))
    with strategies.create_strategy("mirrored").scope():
        return replicas.check_replicas(make_task(**flags))


def test_the_batch_size_per_replica_is_printed(two_devices):
    assert lines(2) == ["batch size 16: 8 on each of 2 replicas"]
    assert lines(1) == []


def test_a_batch_size_that_is_no_multiple_of_the_replicas_is_refused(two_devices):
    with pytest.raises(UsageError, match="15 is not a multiple of the 2 replicas"):
        lines(2, batch_size=15)
    with pytest.raises(UsageError, match="use 2"):
        lines(2, batch_size=1)
    assert lines(1, batch_size=15) == []
    with pytest.raises(UsageError, match="not a multiple of the 2 replicas"):
        trained(strategy="mirrored", batch_size=15)


def test_a_flag_without_effect_on_one_replica_is_reported():
    expected = ["--gradient-compression has no effect on one replica"]
    assert lines(1, gradient_compression="bfloat16") == expected


@pytest.mark.parametrize(
    ("flags", "factor"),
    [
        ({"batch_size": 256}, 1.0),
        ({"batch_size": 256, "scale_learning_rate": "linear"}, 8.0),
        ({"batch_size": 128, "scale_learning_rate": "sqrt"}, 2.0),
        (
            {"batch_size": 64, "gradient_accumulation_steps": 4, "scale_learning_rate": "linear"},
            8.0,
        ),
        ({"batch_size": 16, "reference_batch_size": 64, "scale_learning_rate": "linear"}, 0.25),
    ],
)
def test_learning_rates_scale_with_the_effective_batch_size(flags, factor):
    """The default batch size of classification is 32."""
    task = make_task(schedule="constant", **flags)
    assert float(task.learning_rates(0.1, 100)(50)) == pytest.approx(0.1 * factor)
    expected = [line for line in replicas.check_replicas(task) if "--scale-learning-rate" in line]
    assert bool(expected) == (factor != 1)


def test_a_scaled_learning_rate_warms_up_from_0():
    task = make_task(scale_learning_rate="linear", batch_size=64, warmup_epochs=1.0)
    rates = task.learning_rates(0.1, 100)
    assert [float(rates(step)) for step in (0, 25, 50)] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("accumulate", [1, 4])
def test_gradient_accumulation_does_not_stretch_the_schedule(accumulate):
    """Keras evaluates the schedule per step, not per update."""
    task = make_task(gradient_accumulation_steps=accumulate)
    optimizer = task.make_optimizer(task.learning_rates(1.0, 100))
    for step, share in ((0, 1.0), (50, 0.5), (99, 0.0)):
        optimizer._iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(share, abs=0.01)


OPTIONS = {
    "plain": {},
    "clipped": {"clip_norm": 0.1},
    "groups": {"clip_norm": 0.1, "plan": "[{learn: all, epochs: 2, decay: 0.5}]"},
    "averaged": {"ema_decay": 0.8},
    "adamw": {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.8,
    },
}


# All together in `make test`, each by itself in `make check`.
EVERY = {"groups and averages": {**OPTIONS["groups"], "ema_decay": 0.8}, **OPTIONS}
FAST = ("groups and averages",)


@pytest.mark.parametrize(
    "options", [pytest.param(x, marks=[pytest.mark.check] * (x not in FAST)) for x in EVERY]
)
def test_two_replicas_take_the_same_steps_as_one_device(options, two_devices):
    one, two = (trained(strategy=name, **EVERY[options]) for name in ("one", "mirrored"))
    for mine, other in zip(one, two, strict=True):
        assert_equal(mine, other)


@pytest.mark.parametrize("strategy", ["one", pytest.param("mirrored", marks=pytest.mark.check)])
@pytest.mark.check
def test_two_accumulated_half_batches_equal_one_batch(strategy, two_devices):
    """The batches of an epoch are rows of one permutation, so two halves are the whole."""
    flags = {"strategy": strategy, "clip_norm": 0.1, "l2": 1e-3, "schedule": "constant"}
    _, whole, _ = trained(batch_size=32, **flags)
    _, halves, _ = trained(batch_size=16, gradient_accumulation_steps=2, **flags)
    assert_equal(whole, halves)


@pytest.mark.check
def test_accumulated_gradients_are_saved_as_their_sum(two_devices):
    task = make_task(strategy="mirrored", gradient_accumulation_steps=3)
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("mirrored"))
    prepared_stage = run.prepared_stage(0)
    prepared_stage.training_model.fit(
        prepared_stage.pipeline.epoch(0).take(2), shuffle=False, verbose=0
    )
    [part] = optimize.inner_optimizers(run.optimizer(0))
    before = [np.array(v) for v in part._accumulated_gradients]
    assert any(value.any() for value in before)
    arrays = run.arrays()
    run.restore(arrays)
    assert_equal(before, [np.array(v) for v in part._accumulated_gradients])
    own = [part._accumulated_gradients[-1].value.values[i].numpy() for i in (0, 1)]
    np.testing.assert_allclose(sum(own), before[-1], rtol=1e-5)


@pytest.mark.check
def test_synchronized_batch_norm_equals_that_of_one_device(two_devices):
    """Its batch normalization sees the batch of 16, and not two of 8."""
    one_block = PLAIN.replace("[1, 1]", "[1]").replace("[4, 8]", "[4]")
    flags = {"model_options": one_block, "epochs": 1}
    one = trained(strategy="one", **flags)
    two = trained(strategy="mirrored", sync_batch_norm="on", **flags)
    own = trained(strategy="mirrored", sync_batch_norm="off", **flags)
    # Keras's synchronized variance is a difference of two means, not a mean of differences.
    assert_equal(one[0], two[0], rtol=1e-4)
    apart, wrong = (distance(one[1], other[1]) for other in (two, own))
    assert apart < 1e-3
    assert wrong > 100 * apart


def distance(ones, others):
    """The largest difference of weights, as a share of the largest of their array."""
    pairs = zip(ones, others, strict=True)
    return max(np.abs(one - other).max() / np.abs(one).max() for one, other in pairs)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_batch_norm_is_synchronized_if_the_flag_is_on(setting, two_devices):
    synced = make_task(strategy="mirrored", sync_batch_norm=setting, model_options=PLAIN)
    run = training_run.TrainingRun(synced, synced.load(), strategies.create_strategy("mirrored"))
    run.prepared_stage(0)
    found = {layer.synchronized for layer in finetune.batch_norm_layers(run.model)}
    assert found == {setting == "on"}


VALUES = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")


def reduced(compression):
    """Returns the sums over two replicas of values, and of a gradient that is `None`."""
    strategy = strategies.create_strategy("mirrored")
    table = tf.constant(VALUES)

    def each():
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return replicas.all_reduce_gradients([table[place], None, 2 * table[place]], compression)

    found = strategy.run(each)
    return [x and [v.numpy() for v in strategy.experimental_local_results(x)] for x in found]


def bfloat16(values):
    import ml_dtypes

    return np.asarray(values, "float32").astype(ml_dtypes.bfloat16)


def test_gradients_are_summed_over_replicas(two_devices):
    one, none, two = reduced("none")
    assert none is None
    for values in (*one, *(two / 2 for two in two)):
        np.testing.assert_allclose(values, VALUES.sum(0), rtol=1e-6)


def test_compressed_gradients_are_sums_of_rounded_ones(two_devices):
    first, second = bfloat16(VALUES)
    wanted = (first.astype("float32") + second.astype("float32")).astype(first.dtype)
    one, _, _ = reduced("bfloat16")
    for values in one:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, wanted.astype("float32"))
    assert (wanted.astype("float32") != VALUES.sum(0)).any()


def test_a_step_with_compressed_gradients_is_that_of_numpy(two_devices):
    """A linear model, whose gradient on each replica is known by hand."""
    x, w = VALUES[:, :4].reshape(2, 4), np.array([0.5, -1.0, 2.0, 0.25], "float32")
    with strategies.create_strategy("mirrored").scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        model.layers[0].kernel.assign(w[:, None])
        made = optimize.create_optimizer("sgd", 1.0, compression="bfloat16")
        made.build(model.trainable_variables)
        model.compile(made, "mse", jit_compile=False)
    model.fit(x, np.zeros((2, 1), "float32"), batch_size=2, shuffle=False, verbose=0)
    halves = bfloat16((x @ w)[:, None] * x)  # of the mean of two squares, each replica's share
    total = (halves[0].astype("float32") + halves[1].astype("float32")).astype(halves.dtype)
    wanted = w - total.astype("float32")
    np.testing.assert_allclose(np.array(model.layers[0].kernel)[:, 0], wanted, rtol=1e-6)


@pytest.mark.check
def test_losses_fall_with_compressed_gradients_as_without(two_devices):
    flags = {"strategy": "mirrored", "epochs": 3, "schedule": "constant"}
    plain, rounded = (
        trained(**flags, gradient_compression=x)[0] for x in replicas.GRADIENT_COMPRESSIONS
    )
    assert plain != rounded
    assert rounded[-1] < rounded[0]
    np.testing.assert_allclose(rounded, plain, rtol=0.02)


@pytest.mark.check
def test_compression_changes_nothing_on_one_device():
    plain, rounded = (
        trained(gradient_compression=x, epochs=1) for x in replicas.GRADIENT_COMPRESSIONS
    )
    assert plain[0] == rounded[0]
