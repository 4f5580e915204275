"""The tuner: searches the flags of a task for those with which it does best."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from tasks.data import safe_yaml
from tasks.distributed import auth_tokens, clusters, devices
from tasks.engine import run_folder
from tasks.tuning import engines, runner, subprocess_trials, summary, trials_table
from tasks.tuning import space as spaces
from zoo import atomic_files, file_lock
from zoo.errors import UsageError
from zoo.lazy import LazyModule

chiefs = LazyModule("tasks.tuning.server")
yaml = LazyModule("yaml")

SEARCH_FILE = "search.yaml"  # what the folder of a search is known by
LOCAL_WORKER = "worker"  # what a worker is called that works where the oracle is
EXTENSIBLE_KEYS = ("trials",)  # what the same search may be asked for anew: it goes on


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    Attributes:
        engine: one of `engines.ENGINES`.
        trials: how many there may be.
        search: which flags and, if it says so, their ranges, as `space.make_space` takes it; ""
        for those
            that declare one or, of an engine that makes up structures, for these alone.
        options: of the engine, by name.
        lag: epochs after which a trial that lags behind the median is stopped; 0: none is.
        isolate: whether each trial has a process of its own.
        workers: trials at once on this machine.
        chief: `HOST:PORT` of the process that says what to try; "" where this one does.
        worker: the name of this worker of a chief; "" for the chief itself.
    """

    engine: str = "narrowing"
    trials: int = 20
    search: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    lag: int = 2
    isolate: bool = True
    workers: int = 1
    chief: str = ""
    worker: str = ""

    def __post_init__(self):
        engines.check_engine(self.engine)
        if self.trials < 1 or self.lag < 0 or self.workers < 0:
            raise UsageError(
                "a search takes trials of 1 or more, and lag and workers of 0 or more, not "
                f"{self.trials}, {self.lag} and {self.workers}"
            )
        if not self.isolate and self.workers > 1:
            raise UsageError("trials at once need processes of their own: --isolate on")
        if self.chief:
            chiefs.check_address(self.chief)
        if self.worker and not self.chief:
            raise UsageError("--worker needs the --chief that it works for, as HOST:PORT")
        if not self.workers and not self.chief:
            raise UsageError("--workers 0 is for a --chief that others work for")


def tune(task, out, *, fixed=(), **settings):
    """Searches the flags of a task; every trial is a run of the task with some of them changed.

    Killed at any moment and called again, it goes on where it was; called for a search that is
    over, it returns what came of it. Asked for more trials, it goes on.

    Args:
        task: a `tasks.Task`, whose flags hold where nothing is searched.
        out: the folder of the search: `trials/NUMBER` is the run of a trial, an ordinary one;
            `trials.csv`, `search.html` and `best.yaml` are what came of it.
        fixed: names of flags that are not to be searched, though they declare a range.
        settings: the attributes of `Search`.

    Returns:
        A dict: `task`, `engine`, `out`, `trials` (what is known of each: its status, score and
        flags), `best` (the same of the best, with its `figures`), the path of its `recipe` and
        the `command` that repeats it. For a worker of a chief, what is known when it leaves.

    Raises:
        UsageError: a flag is wrong, the folder holds another search, or all trials failed.
    """
    config, out = SearchConfig(**settings), Path(out)
    if task.strategy == "multiworker" or clusters.find_cluster():
        raise UsageError(
            "each trial of a search trains in one process: spread trials over machines by --chief "
            "HOST:PORT and --worker NAME, with neither --strategy multiworker nor TF_CONFIG or "
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
    """Returns the `space.SearchSpace` that an engine searches, as `tune` has it."""
    everything = engines.check_engine(engine) not in engines.ARCHITECTURE_SEARCH
    return spaces.make_space(task, search, fixed, all_declared=everything)


def _run_search(oracle, plan, config):
    """Runs what the oracle proposes, here or by workers; returns what came of it."""
    oracle.warm_up = config.lag
    oracle.keep(plan.out)
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
        reason = rows[0]["reason"] if rows else "the engine proposed none"
        raise UsageError(f"all {len(rows)} trials failed; the first: {reason}")
    return found


def _run_trials(oracle, plan, config, after):
    if config.isolate:
        devices.enable_memory_growth()  # structures are outlined here, and trained elsewhere
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
    """Works for a chief until that has nothing more to try."""
    with chiefs.connect(config.chief, lambda: auth_tokens.read_token(plan.out)) as oracle:
        _run_trials(oracle, plan, config, lambda: None)
    return summary.search_summary(plan, config.engine, trials_table.read_trials(plan.out))


def _claim_folder(plan, config):
    """Makes a folder that of a search, or finds that it already is.

    Raises:
        UsageError: it holds another search, or something else.
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
            raise UsageError(f"{path} describes no search; choose another --out")
        for name, one, other in _differences(stored, requested):
            raise UsageError(
                f"{plan.out} holds another search ({name}: {one!r} there, {other!r} asked); "
                "choose another --out"
            )
    elif used:
        raise UsageError(f"{plan.out} is there and holds no search; choose another --out")
    with run_folder.folder_errors(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(path, yaml.safe_dump(requested, sort_keys=False))


def _differences(stored, requested):
    """Yields name, value there and value wanted of what makes it another search."""
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
    raise UsageError(f"another process searches in {out}; wait for it, or choose another --out")
