"""Assertions and helpers on runs and networks, for tests of several packages."""

from __future__ import annotations

import csv
import signal

import keras
import numpy as np
import pytest

from tasks.distributed import strategies
from tasks.engine import callbacks, resume, trainer, training_run
from zoo import model_files


class Killed(BaseException):
    """Stands for SIGKILL: not an `Exception`, so that nothing handles it."""


def kill(task, out, *steps, by=signal.SIGKILL):
    """Trains a task and kills it after numbers of steps, once for each of them.

    Keras calls back after each step only if `hardware.MAX_STEPS_PER_EXECUTION` is 1.

    Args:
        task, out: The arguments of `trainer.train`.
        *steps: The number of steps of each process before it is killed.
        by: The signal. SIGKILL is simulated by an exception that nothing handles; another signal
            is raised before the callback of the step.
    """
    step, left = callbacks.TrainingCallback.step, [*steps]

    def step_and_die(recorder, number, logs):
        left[0] -= 1
        dies = not left[0]
        if dies:
            left.pop(0)
            if by != signal.SIGKILL:
                signal.raise_signal(by)
        step(recorder, number, logs)
        if dies and by == signal.SIGKILL:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.TrainingCallback, "step", step_and_die)
        for _ in steps:
            with pytest.raises(Killed if by == signal.SIGKILL else KeyboardInterrupt):
                trainer.train(task, out)


def history(out):
    """Returns the rows of the history of a run, dicts of text by column."""
    with open(out / "history.csv") as file:
        return list(csv.DictReader(file))


def column(out, name):
    """Returns the values of a column of the history of a run."""
    return [float(row[name]) for row in history(out)]


def weights(out):
    """Returns the values of all weights of the model of a run."""
    return values(model_files.load(out / "model.keras")[0])


def values(model):
    """Returns the values of all weights of a model."""
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def assert_same(ones, others):
    """Asserts that arrays are equal, bit for bit."""
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_same_checkpoint(one, other):
    """Asserts that the latest checkpoints of two runs are equal."""
    first, second = (state.read(state.weights) for state in map(resume.RunState, (one, other)))
    assert list(first) == list(second)
    assert_same(first.values(), second.values())


def after_a_step(task, strategy):
    """Returns the trainable variables of a task's model after one step under a strategy."""
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy(strategy))
    prepared_stage = run.prepared_stage(0)
    prepared_stage.training_model.fit(
        prepared_stage.pipeline.epoch(0).take(1), shuffle=False, verbose=0
    )
    return [np.array(weight) for weight in run.model.trainable_variables]


def assert_all_learn(model, x, y, loss="mse", **options):
    """Asserts that every trainable weight of a model has a gradient in one training step."""
    optimizer = keras.optimizers.SGD(1.0, momentum=0.9)
    model.compile(optimizer, loss, **options)
    model.fit(x, y, verbose=0)
    assert_reached(optimizer, model)


def assert_reached(optimizer, model):
    """Asserts that every weight had a gradient in the first step of SGD with momentum."""
    # After one step the momentum is the gradient.
    momenta = [v for v in optimizer.variables if "momentum" in v.path]
    assert len(momenta) == len(model.trainable_weights)
    still = [v.path for v in momenta if not keras.ops.convert_to_numpy(v).any()]
    assert not still, f"no gradient reached {still}"


def on_one_and_on_two_replicas(task, data):
    """Returns a task's model for one device and for two, with the same weights.

    Skips the test on backends that have one replica only.
    """
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the backend has one replica only")
    keras.utils.set_random_seed(0)
    one = task.build(data)
    with strategies.create_strategy("mirrored").scope():
        two = task.build(data)
    two.set_weights(one.get_weights())
    return one, two
