"""The trainer: the only file that calls `fit`."""

from __future__ import annotations

import dataclasses
import json
import statistics
from contextlib import contextmanager
from pathlib import Path

from tasks.engine import distribute, environment, hardware, optimize, record, resume
from tasks.report import page, plots
from zoo.lazy import keras

PAGE = "report.html"


def train(task, out):
    """Trains a task from its seed to its report.

    Interrupted at any moment and called again, it goes on from the last whole epoch; called
    for a finished run, it returns that run's record.

    Args:
        task: a `tasks.Task`.
        out: the run's folder; `docs/quickstart.md` lists what it holds in the end.

    Returns:
        The record of `report.json`: task, flags, figures (a dict of floats), environment.

    Raises:
        UsageError: the folder holds another run, or a flag or the data are wrong.
    """
    out = Path(out)
    resume.claim(out, task)
    if (out / resume.REPORT).exists():
        return json.loads((out / resume.REPORT).read_text())

    keras.utils.set_random_seed(task.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(hardware.policy(task.precision, task.flops()))
    try:
        model, data, state = _fit(task, out)
        task.save(model, data, out / resume.MODEL)
        verdict = task.judge(model, data)
        around = environment.describe()
    finally:
        keras.config.set_dtype_policy(before)
    return _report(task, out, verdict, state.history, around)


def _report(task, out, verdict, history, around):
    """Writes what a person and a program read of a run; returns the latter."""
    figures = {**verdict.figures, **_speed(history)}
    curves = "".join(plots.curves(history, [name], title) for name, title in task.curves.items())
    page.write(
        out / PAGE,
        title=verdict.title,
        lead=verdict.lead,
        command=f"zoo train --recipe {out / resume.RECIPE} --out NEW_FOLDER",
        figures=figures,
        sections=[*verdict.sections, ("Curves", curves)],
        environment=around,
        warnings=verdict.warnings,
    )
    # This file comes last: where it is, the run is finished.
    flags = dataclasses.asdict(task)
    written = {"task": task.name, "flags": flags, "figures": figures, "environment": around}
    resume.write_text(out / resume.REPORT, json.dumps(written, indent=2) + "\n")
    return written


def _fit(task, out):
    """Trains, or goes on training; returns what came of it: model, data and state."""
    data = task.load()
    state = resume.State(out)
    stream = task.training(data)
    strategy = distribute.strategy(task.strategy)
    with strategy.scope():
        model = task.build(data, stream.steps * task.epochs)
    if strategy.num_replicas_in_sync == 1:  # with more, Keras 3.15 loses the iterator in its loop
        # Small networks would spend their time on being called.
        model.steps_per_execution = hardware.steps_at_once(task.flops() * stream.size)
    resume.restore(model, state)
    if state.epoch:
        record.say(f"going on after epoch {state.epoch} of {task.epochs}")
    recorder = record.Recorder(task, model, data, out, state, stream)
    with _said_when_stopped(state):
        while not recorder.finished():
            model.fit(
                stream.epoch(state.epoch),
                initial_epoch=state.epoch,
                epochs=state.epoch + 1,
                callbacks=[recorder.callback()],
                shuffle=False,  # the batches come in an order of their own
                verbose=0,
            )
    resume.restore_best(model, state)
    optimize.take_averages(model)
    return task.finish(model, data), data, state


@contextmanager
def _said_when_stopped(state):
    """Tells a person who presses Ctrl-C that nothing but the epoch under way is lost."""
    try:
        yield
    except KeyboardInterrupt:
        record.say(f"stopped; the same command goes on after epoch {state.epoch}")
        raise


def _speed(history):
    """Returns the run's seconds and images per second, the latter without the first epoch if
    there are more, because that one compiles."""
    rates = [row["images_per_second"] for row in history]
    return {
        "seconds": sum(row["seconds"] for row in history),
        "images_per_second": statistics.median(rates[1:] or rates),
    }
