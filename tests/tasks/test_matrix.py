"""Precision x XLA x replicas x trainable layers: each cell trains, or is refused with advice."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

import tasks
from tasks.distributed import strategies
from tasks.engine import hardware, optimize, resume, training_run
from tasks.inference import dtype_policies
from tests.support import checks
from zoo.errors import UsageError

if keras.config.backend() != "tensorflow":
    pytest.skip("replicas and XLA are of TensorFlow", allow_module_level=True)

import tensorflow as tf

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LEARNING = {  # trainable layers: the plan, and prefixes of the kernels that change
    "frozen": ("probe", ("logits",)),
    "partial": ("[{learn: stage1, epochs: 1}]", ("block2", "logits")),
    "full": ("full", ("block1", "block2", "logits")),
}
TINY = {
    "model": "convnet",
    "model_options": "{depths: [1, 1], widths: [4, 8], head: pool, hidden: [], conv_dropout: 0.0}",
    "train_split": "train[:64]",
    "validation_split": "none",
    "test_split": "test[:16]",
    "batch_size": 16,
    "epochs": 1,
    "optimizer": "momentum",
    "learning_rate": 0.05,
    "schedule": "constant",
}
PASSES = 4  # over the 64 images, in which the loss goes down
CELLS = list(itertools.product(PRECISIONS, ("off", "on"), ("one", "mirrored"), LEARNING))
REFUSED = {("on", "mirrored")}  # XLA compiles for one device
SLOW = pytest.mark.slow
# Of all pairs of a precision and trainable layers, `make test` runs those that differ most.
QUICK = {("float32", "frozen"), ("mixed_bfloat16", "full")}


def marked(cell):
    precision, jit_compile, strategy, learning = cell
    refused = (jit_compile, strategy) in REFUSED
    quick = (precision, learning) in QUICK
    if refused or (jit_compile, strategy) == ("off", "one"):
        marks = () if quick else pytest.mark.check
    elif jit_compile == "on":  # takes seconds to compile
        marks = pytest.mark.check if quick else SLOW
    else:  # takes seconds to trace
        marks = pytest.mark.check
    return pytest.param(*cell, marks=marks, id="-".join(cell))


def trained(passes=PASSES, name="classification", **flags):
    """Trains a task without a report; returns the run, initial weights, and losses by pass."""
    task = tasks.get(name)(**flags)
    with dtype_policies.dtype_policy_scope(task.precision, task.flops()):
        run = training_run.TrainingRun(task, task.load(), strategies.create_strategy(task.strategy))
        start = {v.path: np.array(v) for v in run.model.weights}
        prepared_stage = run.prepared_stage(0)
        batches = prepared_stage.pipeline.epoch(0)
        found = prepared_stage.training_model.fit(batches, epochs=passes, shuffle=False, verbose=0)
    return run, start, found.history["loss"]


@pytest.mark.parametrize(
    ("precision", "jit_compile", "strategy", "learning"), [marked(cell) for cell in CELLS]
)
def test_a_cell_trains_or_is_refused(precision, jit_compile, strategy, learning, two_devices):
    plan, names = LEARNING[learning]
    flags = {
        **TINY,
        "precision": precision,
        "jit_compile": jit_compile,
        "strategy": strategy,
        "plan": plan,
    }
    if (jit_compile, strategy) in REFUSED:
        with pytest.raises(
            UsageError, match="2 replicas; use --jit-compile auto, or --strategy one"
        ):
            trained(**flags)
        return
    run, start, losses = trained(**flags)
    assert all(np.isfinite(losses))
    assert losses[-1] < losses[0]
    assert run.prepared_stage(0).training_model.jit_compile == (jit_compile == "on")
    kernels = {v.path: np.array(v) for v in run.model.weights if v.path.endswith("kernel")}
    changed = {path for path, value in kernels.items() if (value != start[path]).any()}
    assert changed == {path for path in kernels if path.startswith(names)}
    scaled = hasattr(run.prepared_stage(0).training_model.optimizer, "dynamic_scale")
    assert scaled == (precision == "mixed_float16")


def test_there_is_a_cell_for_every_combination():
    assert len(CELLS) == len(PRECISIONS) * 2 * 2 * len(LEARNING)
    assert set(itertools.product(PRECISIONS, LEARNING)) >= QUICK


def test_auto_compiles_for_a_single_gpu(monkeypatch, two_devices):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert hardware.jit_compile("auto", model) is False
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
    assert hardware.jit_compile("auto", model) == "auto"
    assert hardware.jit_compile("off", model) is False
    with strategies.create_strategy("mirrored").scope():
        assert hardware.jit_compile("auto", model) is False


def test_layers_that_xla_does_not_support_are_refused():
    class Odd(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_jit = False

    model = keras.Sequential([keras.Input((1,)), Odd(name="odd")])
    with pytest.raises(UsageError, match="cannot compile the layer odd; use --jit-compile auto"):
        hardware.jit_compile("on", model)


SCALED = {
    "precision": "mixed_float16",
    "clip_norm": 0.5,
    "ema_decay": 0.9,
    "plan": "[{learn: all, epochs: 1, decay: 0.5}]",
}


@pytest.mark.parametrize("strategy", ["one", pytest.param("mirrored", marks=pytest.mark.check)])
@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param({"plan": "full", "gradient_accumulation_steps": 2}, marks=pytest.mark.check),
    ],
    ids=["groups", "one"],
)
def test_loss_scaling_gives_the_updates_of_float32(strategy, more, two_devices):
    """Clipping, averaging, parameter groups and accumulation get unscaled gradients."""
    flags = {**TINY, **SCALED, **more, "strategy": strategy}
    run, start, _ = trained(1, **flags)
    expected, _, _ = trained(1, **{**flags, "precision": "float32"})
    for mine, other in zip(
        run.model.trainable_weights, expected.model.trainable_weights, strict=True
    ):
        moved = np.abs(np.array(other) - start[other.path]).max()
        # float16 rounds activations to 3 digits; a scale left in would be off by 32768.
        np.testing.assert_allclose(mine, other, atol=0.15 * moved + 1e-6)
    averages = [
        [
            np.array(a)
            for part in optimize.inner_optimizers(each.optimizer(0))
            for a in part_averages(part)
        ]
        for each in (run, expected)
    ]
    for mine, other in zip(*averages, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-2)


def part_averages(part):
    return part._model_variables_moving_average


@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_a_step_that_overflows_anywhere_is_skipped_everywhere(strategy, two_devices):
    """The second half of a batch, that of the second replica, has an infinite gradient."""
    with strategies.create_strategy(strategy).scope():
        keras.config.set_dtype_policy("mixed_float16")
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        made = optimize.create_optimizer("sgd", 0.1)
        made.build(model.trainable_variables)
        model.compile(optimize.with_loss_scaling(made), "mse", jit_compile=False)
    before = [np.array(v) for v in model.weights]
    scale = float(model.optimizer.dynamic_scale.numpy())
    wrong = np.array([[1.0], [1.0], [1.0], [6e4]], "float32"), np.zeros((4, 1), "float32")
    model.fit(*wrong, batch_size=4, verbose=0, shuffle=False)
    checks.assert_same(before, [np.array(v) for v in model.weights])
    assert float(model.optimizer.dynamic_scale.numpy()) == scale / 2
    model.optimizer.dynamic_scale.assign(1.0)
    right = np.ones((4, 1), "float32"), np.zeros((4, 1), "float32")
    model.fit(*right, batch_size=4, verbose=0, shuffle=False)
    [kernel] = (np.array(v) for v in model.weights)
    # By hand: the slope of the mean of (w * 1) ** 2 is 2 w.
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.1 * 2), rtol=2e-3)


@pytest.mark.parametrize(
    "name", ["classification", *(pytest.param(x, marks=pytest.mark.check) for x in ("gan", "dqn"))]
)
def test_checkpoints_hold_the_loss_scale(name):
    def begun():
        task = tasks.get(name)(**{"classification": TINY, **SMALL}[name])
        with dtype_policies.dtype_policy_scope("mixed_float16", task.flops()):
            run = training_run.TrainingRun(task, task.load(), strategies.create_strategy("one"))
            return run, run.prepared_stage(0).training_model.optimizer

    run, scaled = begun()
    scaled.dynamic_scale.assign(64.0)
    again, other = begun()
    resume.assign_values(again.variables(), resume.variable_values(run.variables(), "run"), "run")
    assert float(other.dynamic_scale.numpy()) == 64


def test_the_loss_scale_grows_after_finite_steps():
    keras.config.set_dtype_policy("mixed_float16")
    weight = keras.Variable(1.0)
    inner = keras.optimizers.SGD(0.0)
    inner.build([weight])
    made = optimize.with_loss_scaling(inner)
    made.dynamic_growth_steps = 2
    scales = []
    for _ in range(4):
        made.apply([tf.constant(1.0)], [weight])
        scales.append(float(made.dynamic_scale.numpy()))
    assert scales == [2.0**15, 2.0**16, 2.0**16, 2.0**17]


SMALL = {  # a few cells of the other tasks
    "segmentation": {
        "model_options": "{widths: [4, 8]}",
        "train_split": "train[:16]",
        "validation_split": "validation[:4]",
        "test_split": "test[:4]",
        "image_size": 32,
        "batch_size": 8,
    },
    "gan": {
        "width": 4,
        "latent_size": 8,
        "train_split": "train[:32]",
        "validation_split": "train[32:48]",
        "test_split": "test[:16]",
        "batch_size": 16,
    },
    "detection": {
        "backbone": "lenet5",
        "model_options": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8], least: 0.0}",
        "train_split": "train[:16]",
        "validation_split": "validation[:4]",
        "test_split": "test[:4]",
        "image_size": 64,
    },
    "captioning": {
        "backbone": "lenet5",
        "model_options": "{widths: [8], embedding: 8, units: 12, attention: 8}",
        "train_split": "train[:16]",
        "validation_split": "validation[:4]",
        "test_split": "test[:4]",
        "image_size": 32,
        "batch_size": 8,
    },
    "dqn": {
        "model_options": "{widths: [8]}",
        "epochs": 2,
        "epoch_steps": 96,
        "learning_starts": 60,
        "replay_size": 400,
        "validation_episodes": 3,
        "test_episodes": 5,
    },
}
OTHERS = [
    pytest.param("segmentation", "mixed_float16", "off", "mirrored", marks=pytest.mark.slow),
    pytest.param("gan", "mixed_float16", "off", "mirrored", marks=pytest.mark.check),
    pytest.param("gan", "float32", "on", "one", marks=pytest.mark.slow),
    pytest.param("segmentation", "mixed_bfloat16", "on", "one", marks=pytest.mark.slow),
    pytest.param("detection", "mixed_float16", "off", "mirrored", marks=pytest.mark.slow),
    pytest.param("detection", "float32", "on", "one", marks=pytest.mark.slow),
    pytest.param("captioning", "mixed_float16", "off", "mirrored", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "precision", "jit_compile", "strategy"), OTHERS)
def test_cells_of_other_tasks_train(name, precision, jit_compile, strategy, two_devices):
    flags = {
        **SMALL[name],
        "precision": precision,
        "jit_compile": jit_compile,
        "strategy": strategy,
        "epochs": 1,
    }
    run, start, losses = trained(1, name=name, **flags)
    assert all(np.isfinite(losses))
    moved = [(np.array(v) != start[v.path]).any() for v in run.model.trainable_weights]
    assert any(moved)
    assert all(np.isfinite(np.array(v)).all() for v in run.model.weights)


@pytest.mark.parametrize("name", ["captioning", "dqn"])
def test_tasks_that_xla_cannot_compile_are_refused(name):
    with pytest.raises(
        UsageError, match=f"cannot compile a step of {name}; use --jit-compile auto"
    ):
        tasks.get(name)(jit_compile="on")


def test_lbfgs_is_refused_with_loss_scaling(tmp_path):
    from tasks.style_transfer import gatys

    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(UsageError, match="use --precision float32, or --optimizer adam"):
        gatys.compile_loop(None, None, (1.0, 1.0, 1.0))
