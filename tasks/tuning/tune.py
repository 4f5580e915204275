"""Hyperparameter search over the flags of a task."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from tasks.data import safe_yaml
from tasks.distributed import auth_tokens, clusters, devices
from tasks.engine import flags, run_folder
from tasks.tuning import engines, former_names, runner, subprocess_trials, summary, trials_table
from tasks.tuning import space as spaces
from zoo import atomic_files, file_lock
from zoo.errors import UsageError
from zoo.lazy import LazyModule

chiefs = LazyModule("tasks.tuning.server")
yaml = LazyModule("yaml")

SEARCH_FILE = "search.yaml"  # the settings of the search in its folder
LOCAL_WORKER = "worker"  # name of the worker in the process of the oracle
EXTENSIBLE_KEYS = ("trials",)  # settings that may differ when a search is resumed
FORMER_SETTINGS = {"lag": "median_stopping_epochs"}  # names of earlier versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Settings of a search.

    Attributes:
        engine: one of `engines.ENGINES`.
        trials: the maximum number of trials.
        search: the flags to search and their ranges, in the syntax of `space.make_space`; "" for
            all flags that declare a range or, for an architecture search, for no flags.
        options: options of the engine, by name.
        median_stopping_epochs: number of epochs before a trial whose score is below the median
            can be stopped; 0 to stop none.
        isolate: whether each trial runs in a process of its own.
        workers: the number of parallel trials on this machine.
        chief: `HOST:PORT` of the chief of a distributed search; "" for a search on one machine.
        worker: the name of this worker of a chief; "" for the chief itself.
    """

    engine: str = "shrinking"
    trials: int = 20
    search: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    median_stopping_epochs: int = 2
    isolate: bool = True
    workers: int = 1
    chief: str = ""
    worker: str = ""

    def __post_init__(self):
        object.__setattr__(self, "engine", engines.check_engine(self.engine))
        if self.trials < 1 or self.median_stopping_epochs < 0 or self.workers < 0:
            raise UsageError(
                "trials must be 1 or more, median_stopping_epochs and workers 0 or more, not "
                f"{self.trials}, {self.median_stopping_epochs} and {self.workers}"
            )
        if not self.isolate and self.workers > 1:
            raise UsageError("parallel trials need processes of their own; use --isolate on")
        if self.chief:
            chiefs.check_address(self.chief)
        if self.worker and not self.chief:
            raise UsageError("--worker needs the address of its chief: --chief HOST:PORT")
        if not self.workers and not self.chief:
            raise UsageError("--workers 0 needs a --chief, whose workers run the trials")


def tune(task, out, *, fixed=(), **settings):
    """Searches the flags of a task; each trial is a run of the task with other values of them.

    After an interruption, the same call resumes the search. For a completed search it returns the
    results, or continues if `trials` is larger.

    Args:
        task: the base `tasks.Task` of all trials.
        out: the folder of the search. `trials/NUMBER` is the run folder of a trial; the results
            are `trials.csv`, `search.html` and `best.yaml`.
        fixed: names of flags that are not searched although they declare a range.
        settings: the attributes of `SearchConfig`.

    Returns:
        A dict with `task`, `engine`, `out`, `trials` (one record per trial, with its status, score
        and flags), `best` (the record of the best trial, with its `figures`), the path of its
        `recipe`, and the `command` that repeats it. A worker of a chief returns the results so
        far.

    Raises:
        UsageError: a flag is invalid, the folder contains another search, or all trials failed.
    """
    settings = {FORMER_SETTINGS.get(name, name): value for name, value in settings.items()}
    config, out = SearchConfig(**settings), Path(out)
    if task.strategy == "multiworker" or clusters.find_cluster():
        raise UsageError(
            "each trial of a search trains in one process; distribute trials with --chief "
            "HOST:PORT and --worker NAME, without --strategy multiworker, TF_CONFIG and "
            "ZOO_WORKERS"
        )
    space = search_space(task, config.engine, config.search, fixed)
    oracle = engines.make_oracle(
        config.engine, space, trials=config.trials, seed=task.seed, task=task, **config.options
    )
    plan = runner.SearchPlan(task, space, out)
    if config.worker:
        return _run_worker(plan, config)
    _claim_folder(plan, config)
    with file_lock.hold_lock(out / ".lock", lambda: _raise_locked(out)):
        return _run_search(oracle, plan, config)


def search_space(task, engine, search="", fixed=()):
    """Returns the `space.SearchSpace` that `tune` searches."""
    everything = engines.check_engine(engine) not in engines.ARCHITECTURE_SEARCH
    return spaces.make_space(task, search, fixed, all_declared=everything)


def _run_search(oracle, plan, config):
    """Runs the trials of an oracle, here or on workers; returns the results."""
    oracle.warm_up = config.median_stopping_epochs
    former_names.rename_stored_flags(plan.out, plan.task)
    oracle.save_to(plan.out)
    oracle.max_trials = config.trials
    guarded, lock = runner.ThreadSafeOracle(oracle), threading.Lock()

    def after():
        with lock:
            rows = guarded.rows(plan)
            summary.write_hparams(plan, rows)
            return summary.write_summary(plan, config.engine, rows)

    if config.chief:
        with (
            auth_tokens.publish(plan.out) as token,
            chiefs.serve(guarded, config.chief, token) as server,
        ):
            _run_trials(guarded, plan, config, after)
            server.wait(after)
    else:
        _run_trials(guarded, plan, config, after)
    found = after()
    if not found["best"]:
        rows = found["trials"]
        reason = rows[0]["reason"] if rows else "the engine proposed no trial"
        raise UsageError(f"all {len(rows)} trials failed; the first: {reason}")
    return found


def _run_trials(oracle, plan, config, after):
    if config.isolate:
        devices.enable_memory_growth()  # this process shares the GPU with those of the trials
    if config.isolate and config.workers:
        runner.run_parallel(oracle, plan, config.workers, after, config.worker or LOCAL_WORKER)
    elif config.workers:
        runner.run_trials(
            oracle,
            plan,
            subprocess_trials.InProcessExecutor(),
            config.worker or LOCAL_WORKER,
            after,
        )


def _run_worker(plan, config):
    """Runs trials of a chief until it has no more."""
    with chiefs.connect(config.chief, lambda: auth_tokens.read_token(plan.out)) as oracle:
        _run_trials(oracle, plan, config, lambda: None)
    return summary.search_summary(plan, config.engine, trials_table.read_trials(plan.out))


def _claim_folder(plan, config):
    """Creates the folder of a search, or checks that it holds the same search.

    Raises:
        UsageError: the folder contains another search, or something else.
    """
    path = plan.out / SEARCH_FILE
    requested = {
        "engine": config.engine,
        "trials": config.trials,
        "options": config.options,
        "search": {name: spaces.format_range(span) for name, span in plan.space.ranges.items()},
        "flags": {"task": plan.task.name, **dataclasses.asdict(plan.task)},
    }
    with run_folder.folder_errors(plan.out):
        begun, used = path.exists(), plan.out.exists() and any(plan.out.iterdir())
    if begun:
        stored = safe_yaml.read(path, "a search")
        if not isinstance(stored, dict):
            raise UsageError(f"{path} does not describe a search; choose another --out")
        for name, one, other in _differences(_with_present_names(stored, plan.task), requested):
            raise UsageError(
                f"{plan.out} contains another search ({name}: {one!r} there, {other!r} here); "
                "choose another --out"
            )
    elif used:
        raise UsageError(f"{plan.out} exists and contains no search; choose another --out")
    with run_folder.folder_errors(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(path, yaml.safe_dump(requested, sort_keys=False))


def _with_present_names(stored, task):
    """Returns stored settings with the present names of engines and flags."""
    engine = stored.get("engine")
    found = {**stored, "engine": engines.FORMER_NAMES.get(str(engine), engine)}
    for key in ("search", "flags"):
        if isinstance(stored.get(key), dict):
            found[key] = flags.rename_former_flags(task, stored[key])
    return found


def _differences(stored, requested):
    """Yields the name, stored value and requested value of each setting that differs."""
    for key, value in requested.items():
        if isinstance(value, dict) and key in stored:
            known = stored[key]
            names = dict.fromkeys([*known, *value])
            yield from (
                (n, known.get(n), value.get(n)) for n in names if known.get(n) != value.get(n)
            )
        elif key not in EXTENSIBLE_KEYS and stored.get(key) != value:
            yield key, stored.get(key), value


def _raise_locked(out):
    raise UsageError(f"another process is searching in {out}; wait for it, or choose another --out")
