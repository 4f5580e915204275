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

from tasks.distributed import devices, replicas, strategies
from tasks.engine import (
    callbacks,
    finetune,
    hardware,
    optimize,
    plans,
    recipes,
    resume,
    run_folder,
    training_run,
)
from tasks.inference import dtype_policies
from tasks.report import (
    environment,
    formatting,
    image_results,
    model_card,
    page,
    phase_timer,
    plots,
)
from zoo import atomic_files

PAGE = "report.html"
PLAN_COLUMNS = (
    *("trained layers", "epochs", "peak learning rate", "rate factor per stage"),
    *("batch normalization", "passes per epoch"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train(task, out, *, alone=False):
    """Trains and evaluates a task, and writes the run folder.

    An interrupted run is resumed from its last checkpoint. A finished run is not trained again.

    Args:
        task: A `tasks.Task`.
        out: The run folder; `docs/quickstart.md` lists the files it holds in the end.
        alone: Whether this process does nothing else, so that settings of the whole process may
            be changed to suit the task.

    Returns:
        The contents of `report.json`: task, flags, figures (a dict of floats), times (seconds by
        phase of the run; their sum is the figure `seconds`), environment.

    Raises:
        UsageError: The folder contains another run, or another process trains in it; a flag or the
            data are wrong, or differ from those of the interrupted run.
    """
    out, since = Path(out), time.perf_counter()
    joined = strategies.join_process_group(task.strategy, recipes.recipe(task), out)
    with joined as process_group, ExitStack() as stack:
        found = process_group.broadcast(lambda: _read_report_or_claim(task, out, stack))
        if found:
            return found
        if alone and devices.is_tiny(task.flops() * task.batch_size):
            devices.use_single_thread()
        with dtype_policies.dtype_policy_scope(task.precision, task.flops()):
            run, training_callback = _fit(task, out, process_group, since)
            with run.alone():
                return process_group.broadcast(lambda: _evaluate(task, out, run, training_callback))


def _read_report_or_claim(task, out, stack):
    """Returns the report of a finished run; otherwise locks the folder until the stack is closed
    and returns `None`."""
    with run_folder.folder_errors(out):
        resume.check_folder(out, task)
        found = resume.read_report(out)
    if found is None:
        stack.enter_context(run_folder.lock_folder(out, lambda: (out / resume.STATE).exists()))
        resume.claim_folder(out, task)
    return found


def _evaluate(task, out, run, training_callback):
    """Saves and evaluates the model of a run with its best weights; returns the report."""
    state = training_callback.state
    if state.best_weights != state.weights:
        run.restore(state.read(state.best_weights))
    optimize.load_ema_weights(run.optimizer(state.best - 1))
    run.recalibrate_batch_norm(state.best - 1)
    for layer in finetune.batch_norm_layers(run.model):
        layer.synchronized = False  # saved models are for any number of devices and any backend
    model = task.finish(run.model, run.data)
    task.save(model, run.data, out / resume.MODEL)
    evaluation = task.build_report(model, run.data)
    for line in evaluation.metric_warnings:
        callbacks.print_status(f"warning: {line}")
    environment_info = {
        **environment.describe(),
        "replicas": str(run.strategy.num_replicas_in_sync),
    }
    training_callback.clock.lap(phase_timer.EVALUATION)
    licence = getattr(getattr(run.data, "source", None), "licence", "")
    return _write_reports(task, out, evaluation, state, environment_info, run.stages, licence)


def _write_reports(task, out, evaluation, state, environment_info, stages, data_licence):
    """Writes the HTML and the JSON report of a run; returns the contents of the latter."""
    history, figures = state.history, {**evaluation.figures, **_speed(state)}
    planned = [[*map(str, dataclasses.astuple(stage))] for stage in stages]
    curves = "".join(
        plots.training_curves(history, [name], title) for name, title in task.curves.items()
    )
    page.write(
        out / PAGE,
        title=evaluation.title,
        lead=evaluation.lead,
        command=f"zoo train --recipe {out / recipes.RECIPE} --out NEW_FOLDER",
        figures=figures,
        sections=[
            *evaluation.sections,
            ("Curves", curves),
            ("Plan", page.table(planned, PLAN_COLUMNS)),
            ("Time", page.table(_time_rows(state.times), ("part", "time"))),
        ],
        environment=environment_info,
        warnings=[*evaluation.metric_warnings, *evaluation.warnings],
    )
    digest = state.data.get("splits", {}).get("test", "")
    image_results.write(out, evaluation.image_results, digest)
    # Written last: a run is finished if this file exists.
    flags = task.recipe_fields()
    written = {"task": task.name, "flags": flags, "figures": figures, "times": state.times}
    written |= {"environment": environment_info, "data": state.data}
    written |= {"title": evaluation.title, "lead": evaluation.lead}
    written |= {"class_figures": evaluation.class_figures, "data_licence": data_licence}
    model_card.write(out, written, task)
    atomic_files.write_text(out / resume.REPORT, json.dumps(written, indent=2) + "\n")
    return written


def _load_data(task, out, state, process_group):
    """Returns the data of a task; raises `UsageError` if the run began with other data."""
    data = task.load()
    found = task.data_fingerprint(data)
    state.data = process_group.broadcast(lambda: state.data or found)
    resume.check_same_data(out, state, found)
    return data


def _fit(task, out, process_group, since):
    """Trains; returns the `training_run.TrainingRun` and its `callbacks.TrainingCallback`."""
    strategy = strategies.create_strategy(task.strategy)
    with strategy.scope():
        lines = replicas.check_replicas(task)
    state = resume.RunState(out, begun=process_group.chief)
    state.take(process_group.broadcast(state.facts))
    data = _load_data(task, out, state, process_group)
    run = training_run.TrainingRun(task, data, strategy)
    if process_group.chief:
        resolved_flags = hardware.resolve_auto_flags(
            task, run.model, strategies.strategy_name(strategy), run.features_setting()
        )
        # Also for a resumed run: its data may have moved, and the machine may be another.
        recipes.write_recipe(out, task, resolved=resolved_flags | task.resolved(data))
    training_callback = callbacks.TrainingCallback(task, run, out, state, process_group, since)
    for line in (*lines, *task.notes(data)):
        training_callback.print_status(line)
    _restore_checkpoint(run, training_callback)
    with _graceful_interrupt(training_callback):
        while not training_callback.finished():
            _fit_epoch(run, training_callback)
    return run, training_callback


def _restore_checkpoint(run, training_callback):
    """Restores the latest checkpoint of a run, if any; otherwise prints the plan of a new run."""
    state, process_group = training_callback.state, training_callback.process_group
    if state.weights:
        arrays = state.read(state.weights, process_group)
        run.restore(arrays)
        training_callback.metrics = arrays if state.step else {}
        progress = f"{_progress(state)} of {run.task.epochs}"
        training_callback.print_status(f"resuming after {progress}")
        return
    training_callback.print_status(plans.describe_plan(run.stages))
    if process_group.chief:
        run.task.show(run.data, training_callback.events)


def _fit_epoch(run, training_callback):
    """Trains one epoch, or the rest of one that was interrupted."""
    state, started = training_callback.state, time.perf_counter()
    prepared_stage = run.prepared_stage(state.epoch, begun=bool(state.step))
    training_callback.start_stage(prepared_stage, time.perf_counter() - started)
    pipeline, several = prepared_stage.pipeline, training_callback.process_group.count > 1
    prepared_stage.training_model.fit(
        strategies.distribute_batches(run.strategy, pipeline, state.epoch, state.step),
        steps_per_epoch=pipeline.steps - state.step if several else None,
        initial_epoch=state.epoch,
        epochs=state.epoch + 1,
        callbacks=[training_callback.to_keras(), *callbacks.keras_callbacks],
        shuffle=False,  # the data pipeline shuffles
        verbose=0,
    )


@contextmanager
def _graceful_interrupt(training_callback):
    """Defers the first SIGINT or SIGTERM until a checkpoint after the current step is saved."""

    def stop(number, frame):
        if training_callback.stopping:
            raise KeyboardInterrupt
        training_callback.stopping = True
        training_callback.print_status("saving a checkpoint; interrupt again to stop at once")

    here = threading.current_thread() is threading.main_thread()
    before = {each: signal.signal(each, stop) for each in SIGNALS} if here else {}
    try:
        yield
    except KeyboardInterrupt:
        training_callback.print_status(
            f"stopped; the same command resumes after {_progress(training_callback.state)}"
        )
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(state):
    """Returns the progress of a run as text: `epoch 3`, `step 120 of epoch 4`."""
    return f"step {state.step} of epoch {state.epoch + 1}" if state.step else f"epoch {state.epoch}"


def _time_rows(times):
    """Returns the table rows of the phases of a run and their durations."""
    return [[part, formatting.format_value("seconds", seconds)] for part, seconds in times.items()]


def _speed(state):
    """Returns the seconds and the images per second of a run.

    The first epoch, which compiles, counts for the latter only if it is the only one.
    """
    rates = [row["images_per_second"] for row in state.history]
    return {
        "seconds": sum(state.times.values()),
        "images_per_second": statistics.median(rates[1:] or rates),
    }
