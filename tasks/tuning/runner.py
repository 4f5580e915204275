"""Runs the trials that an oracle proposes, one after the other or several in parallel."""

from __future__ import annotations

import dataclasses
import threading
import time

from tasks.engine import callbacks
from tasks.tuning import subprocess_trials, trial, trials_table
from zoo.errors import UsageError
from zoo.lazy import LazyModule

oracles = LazyModule("tasks.tuning.oracles")
weight_inheritance = LazyModule("tasks.tuning.weight_inheritance")

MAX_WORKERS = 1_000  # trials in parallel on one machine
POLL_INTERVAL = 0.5  # seconds between requests to an oracle that waits for running trials
REMOTE_TRIAL = "its folder is on another machine, that of its worker"
PARENT = "parent"  # hyperparameter that names the trial whose weights are inherited


class ThreadSafeOracle:
    """A thread-safe oracle."""

    def __init__(self, oracle):
        self.oracle, self.lock = oracle, threading.RLock()

    def create_trial(self, tuner):
        """Returns the next trial for a tuner."""
        with self.lock:
            return self.oracle.create_trial(tuner)

    def update_trial(self, name, metrics, step=0):
        """Records the score of an epoch; returns the trial."""
        with self.lock:
            return self.oracle.update_trial(name, metrics, step=step)

    def end_trial(self, ended):
        """Records that a trial has ended, unless another worker has already ended it."""
        with self.lock:
            known = self.oracle.trials[ended.trial_id]
            if known.trial_id not in self.oracle.end_order:
                ended.hyperparameters = (
                    known.hyperparameters
                )  # those of a worker are rounded to float32
                self.oracle.end_trial(ended)

    def rows(self, plan):
        """Returns the records of all ended trials, also of those in a folder of another machine."""
        found = {row["trial"]: row for row in trials_table.read_trials(plan.out)}
        with self.lock:
            ended = [self.oracle.trials[name] for name in self.oracle.end_order]
        for each in ended:
            if trials_table.trial_name(each.trial_id) not in found:
                flags, scores = (
                    plan.space.flags(each.hyperparameters.values),
                    oracles.epoch_scores(each),
                )
                status = trial.COMPLETED if each.status == oracles.COMPLETED else trial.FAILED
                stopped = each.trial_id in self.oracle.stopped_early
                outcome = trial.TrialResult(trial.STOPPED if stopped else status, REMOTE_TRIAL)
                row = trials_table.trial_record(
                    plan.out, each.trial_id, flags, [*scores.values()], outcome
                )
                found[row["trial"]] = row
        return sorted(found.values(), key=lambda row: row["trial"])

    def get_trial(self, name):
        """Returns the trial with an id."""
        with self.lock:
            return self.oracle.get_trial(name)


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """The settings that all trials of a search share.

    Attributes:
        task: the base `tasks.Task` of all trials.
        space: the `space.SearchSpace`.
        out: the folder of the search, a `Path`.
    """

    task: object
    space: object
    out: object


def run_trials(oracle, plan, executor, tuner, after=lambda: None):
    """Runs trials until the oracle proposes no more.

    Args:
        oracle: a `ThreadSafeOracle` or `server.OracleClient`.
        plan: a `SearchPlan`.
        executor: `subprocess_trials.SubprocessExecutor` or `subprocess_trials.InProcessExecutor`.
        tuner: name of this worker.
        after: function that is called after each trial.

    Raises:
        UsageError: the first trials failed for the same reason.
    """
    while True:
        found = oracle.create_trial(tuner)
        if found.status == oracles.STOPPED:
            return
        if found.status == oracles.IDLE:
            time.sleep(POLL_INTERVAL)
            continue
        _run_trial(oracle, plan, executor, found)
        after()
        rows = trials_table.read_trials(plan.out)
        if trials_table.all_failed_alike(rows):
            raise UsageError(
                f"the first {len(rows)} trials failed for the same reason, so the search ended: "
                f"{rows[0]['reason']}"
            )


def run_parallel(oracle, plan, count, after=lambda: None, tuner="worker"):
    """Runs `count` trials in parallel, each in its own process, until the oracle has no more."""
    count = min(count, MAX_WORKERS)
    executors = [subprocess_trials.SubprocessExecutor() for _ in range(count)]
    errors = []

    def run(number):
        try:
            run_trials(oracle, plan, executors[number], f"{tuner}-{number}", after)
        except BaseException as error:  # raised again in the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads) and not errors:
            threads[0].join(0.1)
            time.sleep(0.1)
        if not errors:
            return
        raise errors[0]
    finally:  # trials that are still running save a checkpoint
        for executor in executors:
            executor.interrupt()
        for thread in threads:
            thread.join()
        for executor in executors:
            executor.close()


def _run_trial(oracle, plan, executor, found):
    """Runs one trial, then prints and writes its result."""
    values, name = found.hyperparameters.values, trials_table.trial_name(found.trial_id)
    flags, scores = plan.space.flags(values), []

    def report_scores(last):
        for step, score in enumerate(scores, start=1):
            if step > report_scores.num_reported and (last or step < epochs):
                metrics = {oracles.SCORE: score} | ({oracles.FINAL_EPOCH: 1.0} if last else {})
                report_scores.last_trial = oracle.update_trial(found.trial_id, metrics, step=step)
                report_scores.num_reported = step
        return (
            report_scores.last_trial is None or report_scores.last_trial.status != oracles.STOPPED
        )

    def report(known):
        scores[:] = known
        return report_scores(last=False)

    report_scores.num_reported, report_scores.last_trial, epochs = 0, None, 0
    callbacks.print_status(f"trial {name}: {format_flags(flags) or 'unchanged flags'}")
    try:
        task = dataclasses.replace(
            plan.task, **flags, **_inherited_weights(plan, values, flags, name)
        )
        epochs = task.epochs
        outcome = executor.run(task, trials_table.trial_folder(plan.out, name), report)
    except UsageError as error:
        outcome = trial.TrialResult(trial.FAILED, str(error))
    report_scores(last=True)
    trials_table.write_trial(plan.out, name, flags, scores, outcome)
    good = outcome.status in (trial.COMPLETED, trial.STOPPED)
    found.status = oracles.COMPLETED if good else oracles.FAILED
    found.message = outcome.reason or None
    oracle.end_trial(found)
    score = f"score {max(scores):.4f}" if scores and good else "no score"
    callbacks.print_status(f"trial {name} {outcome.status}: {outcome.reason or score}")


def _inherited_weights(plan, values, flags, name):
    """Returns the flag `weights` with the weights inherited from the parent, or `{}`."""
    if not values.get(PARENT):
        return {}
    child = dataclasses.replace(plan.task, **flags)
    path = plan.out / trials_table.TRIALS_FOLDER / f"{name}.inherited.weights.h5"
    weights = weight_inheritance.write_inherited_weights(
        trials_table.trial_folder(plan.out, values[PARENT]), child, path
    )
    return {"weights": str(weights)} if weights else {}


def format_flags(flags):
    """Returns flags as text for messages."""
    return "  ".join(f"{name} {value}" for name, value in flags.items())
