"""What tests of several modules do with runs and networks."""

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
    """Stands for SIGKILL: nobody is asked."""


def kill(task, out, *steps, by=signal.SIGKILL):
    """Trains a task in a folder and kills it after some steps: as often as numbers are given.

    Keras comes back after each step only where `hardware.MAX_STEPS_PER_EXECUTION` is 1.

    Args:
        task, out: as `trainer.train` takes them.
        *steps: how many each process takes before it is killed.
        by: the signal. SIGKILL is an error that nothing catches; any other is raised, before
            what follows the step, for the process to handle.
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
    """Returns the rows of a run's history, dicts of text by column."""
    with open(out / "history.csv") as file:
        return list(csv.DictReader(file))


def column(out, name):
    """Returns the numbers of a column of a run's history."""
    return [float(row[name]) for row in history(out)]


def weights(out):
    """Returns the values of all weights of a run's model."""
    return values(model_files.load(out / "model.keras")[0])


def values(model):
    """Returns the values of all weights of a model."""
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def assert_same(ones, others):
    """Asserts that arrays are the same, bit for bit."""
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_same_checkpoint(one, other):
    """Asserts that the latest checkpoints of two runs hold the same arrays."""
    first, second = (state.read(state.weights) for state in map(resume.RunState, (one, other)))
    assert list(first) == list(second)
    assert_same(first.values(), second.values())


def after_a_step(task, strategy):
    """Returns the values of what learns in a task's model after one step of a strategy."""
    run = training_run.TrainingRun(task, task.load(), strategies.create_strategy(strategy))
    prepared_stage = run.prepared_stage(0)
    prepared_stage.training_model.fit(
        prepared_stage.stream.epoch(0).take(1), shuffle=False, verbose=0
    )
    return [np.array(weight) for weight in run.model.trainable_variables]


def assert_all_learn(model, x, y, loss="mse", **options):
    """Asserts that a step gives a gradient to every weight of a model, which it changes."""
    optimizer = keras.optimizers.SGD(1.0, momentum=0.9)
    model.compile(optimizer, loss, **options)
    model.fit(x, y, verbose=0)
    assert_reached(optimizer, model)


def assert_reached(optimizer, model):
    """Asserts that the first step of SGD with momentum had a gradient for every weight."""
    momenta = [v for v in optimizer.variables if "momentum" in v.path]  # the gradient at first
    assert len(momenta) == len(model.trainable_weights)
    still = [v.path for v in momenta if not keras.ops.convert_to_numpy(v).any()]
    assert not still, f"no gradient reached {still}"
