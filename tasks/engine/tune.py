"""The tuner: searches the flags of a task for those with which it does best."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from tasks.data import yamls
from tasks.engine import clusters, hardware, resume, run_folder, tokens
from tasks.engine.search import apart, engines, ledger, outcome, runner
from tasks.engine.search import space as spaces
from zoo import locks
from zoo.errors import UsageError
from zoo.lazy import LazyModule

chiefs = LazyModule("tasks.engine.search.chief")
yaml = LazyModule("yaml")

SEARCH = "search.yaml"  # what the folder of a search is known by
LOCAL = "worker"  # what a worker is called that works where the oracle is
MORE = ("trials",)  # what the same search may be asked for anew: it goes on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How to search.

    Attributes:
        engine: one of `engines.ENGINES`.
        trials: how many there may be.
        search: which flags and, if it says so, their ranges, as `space.of` takes it; "" for those
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
        engines.checked(self.engine)
        if self.trials < 1 or self.lag < 0 or self.workers < 0:
            raise UsageError(
                "a search takes trials of 1 or more, and lag and workers of 0 or more, not "
                f"{self.trials}, {self.lag} and {self.workers}"
            )
        if not self.isolate and self.workers > 1:
            raise UsageError("trials at once need processes of their own: --isolate on")
        if self.chief:
            chiefs.checked(self.chief)
        if self.worker and not self.chief:
            raise UsageError("--worker needs the --chief that it works for, as HOST:PORT")
        if not self.workers and not self.chief:
            raise UsageError("--workers 0 is for a --chief that others work for")


def tune(task, out, *, given=(), **how):
    """Searches the flags of a task; every trial is a run of the task with some of them changed.

    Killed at any moment and called again, it goes on where it was; called for a search that is
    over, it returns what came of it. Asked for more trials, it goes on.

    Args:
        task: a `tasks.Task`, whose flags hold where nothing is searched.
        out: the folder of the search: `trials/NUMBER` is the run of a trial, an ordinary one;
            `trials.csv`, `search.html` and `best.yaml` are what came of it.
        given: names of flags that are not to be searched, though they declare a range.
        how: the attributes of `Search`.

    Returns:
        A dict: `task`, `engine`, `out`, `trials` (what is known of each: its status, score and
        flags), `best` (the same of the best, with its `figures`), the path of its `recipe` and
        the `command` that repeats it. For a worker of a chief, what is known when it leaves.

    Raises:
        UsageError: a flag is wrong, the folder holds another search, or all trials failed.
    """
    asked, out = Search(**how), Path(out)
    if task.strategy == "multiworker" or clusters.found():
        raise UsageError(
            "each trial of a search trains in one process: spread trials over machines by --chief "
            "HOST:PORT and --worker NAME, with neither --strategy multiworker nor TF_CONFIG or "
            "ZOO_WORKERS"
        )
    space = searched(task, asked.engine, asked.search, given)
    oracle = engines.oracle(
        asked.engine, space, trials=asked.trials, seed=task.seed, task=task, **asked.options
    )
    plan = runner.Plan(task, space, out)
    if asked.worker:
        return _help(plan, asked)
    _claim(plan, asked)
    with locks.held(out / ".lock", lambda: _taken(out)):
        return _search(oracle, plan, asked)


def searched(task, engine, search="", given=()):
    """Returns the `space.Space` that an engine searches, as `tune` has it."""
    everything = engines.checked(engine) not in engines.SPACELESS
    return spaces.of(task, search, given, all_declared=everything)


def _search(oracle, plan, asked):
    """Runs what the oracle proposes, here or by workers; returns what came of it."""
    oracle.warm_up = asked.lag
    oracle.keep(plan.out)
    oracle.max_trials = asked.trials
    guarded, lock = runner.Guarded(oracle), threading.Lock()

    def after():
        with lock:
            rows = guarded.rows(plan)
            outcome.tell(plan, rows)
            return outcome.write(plan, asked.engine, rows)

    if asked.chief:
        with (
            tokens.published(plan.out) as token,
            chiefs.serving(guarded, asked.chief, token) as server,
        ):
            _run(guarded, plan, asked, after)
            server.wait(after)
    else:
        _run(guarded, plan, asked, after)
    found = after()
    if not found["best"]:
        rows = found["trials"]
        reason = rows[0]["reason"] if rows else "the engine proposed none"
        raise UsageError(f"all {len(rows)} trials failed; the first: {reason}")
    return found


def _run(oracle, plan, asked, after):
    if asked.isolate:
        hardware.share_gpus()  # structures are outlined here, and trained elsewhere
    if asked.isolate and asked.workers:
        runner.at_once(oracle, plan, asked.workers, after, asked.worker or LOCAL)
    elif asked.workers:
        runner.work(oracle, plan, apart.Here(), asked.worker or LOCAL, after)


def _help(plan, asked):
    """Works for a chief until that has nothing more to try."""
    with chiefs.called(asked.chief, lambda: tokens.known(plan.out)) as oracle:
        _run(oracle, plan, asked, lambda: None)
    return outcome.known(plan, asked.engine, ledger.read(plan.out))


def _claim(plan, asked):
    """Makes a folder that of a search, or finds that it already is.

    Raises:
        UsageError: it holds another search, or something else.
    """
    path = plan.out / SEARCH
    wanted = {
        "engine": asked.engine,
        "trials": asked.trials,
        "options": asked.options,
        "search": {name: spaces.written(span) for name, span in plan.space.ranges.items()},
        "flags": {"task": plan.task.name, **dataclasses.asdict(plan.task)},
    }
    with run_folder.usable(plan.out):
        begun, used = path.exists(), plan.out.exists() and any(plan.out.iterdir())
    if begun:
        there = yamls.read(path, "a search")
        if not isinstance(there, dict):
            raise UsageError(f"{path} describes no search; choose another --out")
        for name, one, other in _differences(there, wanted):
            raise UsageError(
                f"{plan.out} holds another search ({name}: {one!r} there, {other!r} asked); "
                "choose another --out"
            )
    elif used:
        raise UsageError(f"{plan.out} is there and holds no search; choose another --out")
    with run_folder.usable(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    resume.write_text(path, yaml.safe_dump(wanted, sort_keys=False))


def _differences(there, wanted):
    """Yields name, value there and value wanted of what makes it another search."""
    for key, value in wanted.items():
        if isinstance(value, dict) and key in there:
            known = there[key]
            names = dict.fromkeys([*known, *value])
            yield from (
                (n, known.get(n), value.get(n)) for n in names if known.get(n) != value.get(n)
            )
        elif key not in MORE and there.get(key) != value:
            yield key, there.get(key), value


def _taken(out):
    raise UsageError(f"another process searches in {out}; wait for it, or choose another --out")
