"""The trainer: the only file that calls `fit`."""

from __future__ import annotations

import dataclasses
import json
import signal
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.engine import (
    clock,
    course,
    distribute,
    environment,
    finetune,
    hardware,
    optimize,
    plans,
    record,
    replicas,
    resume,
    run_folder,
)
from tasks.report import page, plots, words

PAGE = "report.html"
PLAN = ("learns", "epochs", "peak rate", "rate below", "batch normalisation", "passes each")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train(task, out, *, alone=False):
    """Trains a task from its seed to its report.

    Interrupted at any moment and called again, it goes on from the last whole epoch; called
    for a finished run, it returns that run's record.

    Args:
        task: a `tasks.Task`.
        out: the run's folder; `docs/quickstart.md` lists what it holds in the end.
        alone: whether this process does nothing else, so that what holds for all of it may be set
            as suits the task.

    Returns:
        The record of `report.json`: task, flags, figures (a dict of floats), times (seconds by part
        of the run, whose sum is the figure `seconds`), environment.

    Raises:
        UsageError: the folder holds another run, or another process trains in it; a flag or the
            data are wrong, or others than those that the run began with.
    """
    out, since = Path(out), time.perf_counter()
    joined = distribute.joined(task.strategy, resume.recipe(task), out)
    with joined as team, ExitStack() as stack:
        found = team.told(lambda: _finished(task, out, stack))
        if found:
            return found
        if alone and hardware.tiny(task.flops() * task.batch_size):
            hardware.one_thread()
        with hardware.computing(task.precision, task.flops()):
            run, recorder = _fit(task, out, team, since)
            with run.alone():
                return team.told(lambda: _judged(task, out, run, recorder))


def _finished(task, out, stack):
    """Returns the record of the run in a folder; `None` if that is not finished, and then claims
    the folder, until the stack is closed."""
    with run_folder.usable(out):
        resume.check(out, task)
        found = resume.read_report(out)
    if found is None:
        stack.enter_context(run_folder.held(out, lambda: (out / resume.STATE).exists()))
        resume.claim(out, task)
    return found


def _judged(task, out, run, recorder):
    """Saves and judges what a run has taught, with its best weights; returns the record."""
    state = recorder.state
    if state.best_weights != state.weights:
        run.restore(state.read(state.best_weights))
    optimize.take_averages(run.optimizer(state.best - 1))
    run.settle(state.best - 1)
    for layer in finetune.norms(run.model):
        layer.synchronized = False  # files are for any number of devices, and for any backend
    model = task.finish(run.model, run.data)
    task.save(model, run.data, out / resume.MODEL)
    verdict = task.judge(model, run.data)
    for line in verdict.doubts:
        record.say(f"warning: {line}")
    around = {**environment.describe(), "replicas": str(run.strategy.num_replicas_in_sync)}
    recorder.clock.lap(clock.EVALUATION)
    return _report(task, out, verdict, state, around, run.stages)


def _report(task, out, verdict, state, around, stages):
    """Writes what a person and a program read of a run; returns the latter."""
    history, figures = state.history, {**verdict.figures, **_speed(state)}
    planned = [[*map(str, dataclasses.astuple(stage))] for stage in stages]
    curves = "".join(plots.curves(history, [name], title) for name, title in task.curves.items())
    page.write(
        out / PAGE,
        title=verdict.title,
        lead=verdict.lead,
        command=f"zoo train --recipe {out / resume.RECIPE} --out NEW_FOLDER",
        figures=figures,
        sections=[
            *verdict.sections,
            ("Curves", curves),
            ("Plan", page.table(planned, PLAN)),
            ("Time", page.table(_shown(state.times), ("part", "time"))),
        ],
        environment=around,
        warnings=[*verdict.doubts, *verdict.warnings],
    )
    # This file comes last: where it is, the run is finished.
    flags = task.recorded()
    written = {"task": task.name, "flags": flags, "figures": figures, "times": state.times}
    written["environment"] = around
    resume.write_text(out / resume.REPORT, json.dumps(written, indent=2) + "\n")
    return written


def _loaded(task, out, state, team):
    """Returns the data of a task, which are those that its run began with."""
    data = task.load()
    found = task.data_identity(data)
    state.data = team.told(lambda: state.data or found)
    resume.same_data(out, state, found)
    return data


def _fit(task, out, team, since):
    """Trains; returns what came of it, a `course.Course` and its recorder."""
    strategy = distribute.strategy(task.strategy)
    with strategy.scope():
        lines = replicas.settled(task)
    state = resume.State(out, begun=team.chief)
    state.take(team.told(state.facts))
    data = _loaded(task, out, state, team)
    run = course.Course(task, data, strategy)
    if team.chief:
        meant = hardware.resolved(task, run.model, distribute.name_of(strategy))
        # Also of a run that goes on: its data may have moved, and this may be another machine.
        resume.write_recipe(out, task, resolved=meant | task.resolved(data))
    recorder = record.Recorder(task, run, out, state, team, since)
    for line in (*lines, *task.notes(data)):
        recorder.say(line)
    if state.weights:
        arrays = state.read(state.weights, team)
        run.restore(arrays)
        recorder.metrics = arrays if state.step else {}
        recorder.say(f"going on after {_place(state)} of {task.epochs}")
    else:
        recorder.say(plans.described(run.stages))
        if team.chief:
            task.show(data, recorder.events)
    with _stopped_with_care(recorder):
        while not recorder.finished():
            started = time.perf_counter()
            lesson = run.lesson(state.epoch, begun=bool(state.step))
            recorder.take_up(lesson, time.perf_counter() - started)
            lesson.learner.fit(
                distribute.shared(run.strategy, lesson.stream, state.epoch, state.step),
                steps_per_epoch=lesson.stream.steps - state.step if team.count > 1 else None,
                initial_epoch=state.epoch,
                epochs=state.epoch + 1,
                callbacks=[recorder.callback()],
                shuffle=False,  # the batches come in an order of their own
                verbose=0,
            )
    return run, recorder


@contextmanager
def _stopped_with_care(recorder):
    """Lets the first Ctrl-C, or SIGTERM, wait for the step under way and a checkpoint after it."""

    def stop(number, frame):
        if recorder.stopping:
            raise KeyboardInterrupt
        recorder.stopping = True
        recorder.say("saving; once more to stop at once")

    here = threading.current_thread() is threading.main_thread()
    before = {each: signal.signal(each, stop) for each in SIGNALS} if here else {}
    try:
        yield
    except KeyboardInterrupt:
        recorder.say(f"stopped; the same command goes on after {_place(recorder.state)}")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _place(state):
    """Says how far a run came: `epoch 3`, `step 120 of epoch 4`."""
    return f"step {state.step} of epoch {state.epoch + 1}" if state.step else f"epoch {state.epoch}"


def _shown(times):
    """Returns the parts of a run and what they took, as a table has it."""
    return [[part, words.number("seconds", seconds)] for part, seconds in times.items()]


def _speed(state):
    """Returns the run's seconds and images per second, the latter without the first epoch if
    there are more, because that one compiles."""
    rates = [row["images_per_second"] for row in state.history]
    return {
        "seconds": sum(state.times.values()),
        "images_per_second": statistics.median(rates[1:] or rates),
    }
