"""Who the workers of a run are: from flags, `TF_CONFIG`, Kubernetes or Slurm.

Which machines a run is on is no part of its recipe, so it is asked of the environment.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from dataclasses import dataclass

from zoo.errors import UsageError

WORKERS, WORKER, WAIT = "ZOO_WORKERS", "ZOO_WORKER", "ZOO_WAIT"
SERVICE, COUNT, POD = "ZOO_SERVICE", "ZOO_COUNT", "HOSTNAME"  # on Kubernetes
DEFAULT_PORT = 29400  # of the chief, where nobody names one
DEFAULT_WAIT_SECONDS = 300.0  # seconds to wait for the others, where nobody says how long
_PARTS = re.compile(r"((?:[^,\[\]]|\[[^\]]*\])+)")
_RANGE = re.compile(r"\[([^\]]*)\]")
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):\d{1,5}")


@dataclass(frozen=True)
class ClusterConfig:
    """The workers of a run, and which of them this process is.

    Attributes:
        workers: `host:port` of each. Only the port of the first, the chief, is ever opened: the
            others are told which ports to use, free ones.
        number: of this process, from 0.
    """

    workers: tuple[str, ...]
    number: int


def find_cluster(environ=os.environ, *, scheduled=False):
    """Returns the `Place` of this process, or `None` if it is one alone.

    Args:
        environ: variables of the environment.
        scheduled: whether to ask Kubernetes and Slurm too, whose jobs may be many processes that
            have nothing to do with each other.

    Raises:
        UsageError: the variables are not what they should be.
    """
    sources = {WORKERS: _from_flags, "TF_CONFIG": _from_tf_config}
    if scheduled:
        sources |= {SERVICE: _from_kubernetes, "SLURM_JOB_NODELIST": _from_slurm}
    for variable, read in sources.items():
        if environ.get(variable):
            workers, number = read(environ)
            return _validated(variable, workers, number)
    return None


def wait_seconds(environ=os.environ):
    """Returns how many seconds to wait for the other workers."""
    text = environ.get(WAIT) or str(DEFAULT_WAIT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--wait takes seconds, more than 0; not {text!r}")
    return seconds


def expand_hostlist(nodes):
    """Returns the names in a list as Slurm writes it: `a[01-03,7],b` is a01, a02, a03, a7, b.

    Raises:
        UsageError: it is no such list.
    """
    parts = _PARTS.findall(nodes)
    names = [name for part in parts for name in _expand_part(part)]
    if not nodes or ",".join(parts) != nodes:
        raise UsageError(f"{nodes!r} is no list of nodes; needed is one such as node[01-03,7]")
    return names


def _expand_part(part):
    """Returns the names that one part of a list stands for, which may have several brackets."""
    pieces = _RANGE.split(part)  # what is in brackets is at the odd places
    choices = [
        _expand_range(piece) if place % 2 else [piece.strip()] for place, piece in enumerate(pieces)
    ]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _expand_range(text):
    """Returns the numbers in `01-03,7`, as they are written."""
    found = []
    for item in text.split(","):
        first, _, last = item.strip().partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            raise UsageError(f"[{text}] is no list of numbers such as [01-03,7]")
        found += [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    return found


def _from_flags(environ):
    workers = [word.strip() for word in environ[WORKERS].split(",") if word.strip()]
    return workers, environ.get(WORKER, "")


def _from_tf_config(environ):
    """Reads `TF_CONFIG`; a chief comes before the workers, and nobody else takes part."""
    try:
        config = json.loads(environ["TF_CONFIG"])
        cluster, task = config.get("cluster", {}), config.get("task", {})
        jobs = [
            (job, n, each)
            for job in ("chief", "worker")
            for n, each in enumerate(cluster.get(job, []))
        ]
        this_task = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"TF_CONFIG is not what TensorFlow says it is: {error}") from error
    places = [place for place, (job, n, _) in enumerate(jobs) if (job, n) == this_task]
    if jobs and not places:
        raise UsageError(
            f"TF_CONFIG makes this process {this_task[0]} {this_task[1]}, which its cluster does "
            "not have; "
            "only a chief and workers train"
        )
    return [each for *_, each in jobs], str(places[0]) if places else "0"


def _from_kubernetes(environ):
    """Reads what a Job with indexed completions, or a StatefulSet, says to its pods.

    Pod NAME-INDEX has the address NAME-INDEX.SERVICE in both.
    """
    name, _, ordinal = environ.get(POD, "").partition(".")[0].rpartition("-")
    index = environ.get("JOB_COMPLETION_INDEX") or ordinal
    count = environ.get(COUNT, "")
    if not (name and index.isdigit() and count.isdigit()):
        raise UsageError(
            f"{SERVICE} names a headless service, and the pod {environ.get(POD)!r} of {count!r}; "
            f"needed are a pod NAME-INDEX, as of an indexed Job or a StatefulSet, and {COUNT}"
        )
    service, _, port = environ[SERVICE].partition(":")
    return [f"{name}-{n}.{service}:{port or DEFAULT_PORT}" for n in range(int(count))], index


def _from_slurm(environ):
    """Reads what Slurm says to the tasks of a job step, which stand node by node."""
    nodes = expand_hostlist(environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"])
    count = environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or str(len(nodes))
    number = environ.get("SLURM_PROCID", "")
    if not count.isdigit() or not number.isdigit():
        raise UsageError(
            "this is a Slurm job, but no task of one: start it with srun, one task for each worker"
        )
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE", "")
    each = _tasks_per_node(tasks) or [-(-int(count) // len(nodes))] * len(nodes)
    hosts = [node for node, many in zip(nodes, each, strict=False) for _ in range(many)]
    job = environ.get("SLURM_JOB_ID", "")
    # Two jobs on one node get different ports.
    port = DEFAULT_PORT + (int(job) % 1000 if job.isdigit() else 0)
    return [f"{host}:{port}" for host in hosts[: int(count)]], number


def _tasks_per_node(text):
    """Returns the tasks of each node as Slurm writes them: `2(x3),1` is 2, 2, 2, 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(many) for many, times in found for _ in range(int(times or 1))]


def _validated(variable, workers, number):
    """Returns a `Place`, or `None` for one worker alone."""
    source = "--workers" if variable == WORKERS else variable
    for worker in workers:
        if not _ADDRESS.fullmatch(worker) or int(worker.rpartition(":")[2]) > 65535:
            raise UsageError(f"{source} names {worker!r}; needed is host:port of each worker")
    if not workers:
        return None
    if not str(number).isdigit() or int(number) >= len(workers):
        raise UsageError(
            f"{source} names {len(workers)} workers, and this is worker {number or 'unknown'!r}; "
            f"say --worker N, from 0 to {len(workers) - 1}"
        )
    return ClusterConfig(tuple(workers), int(number)) if len(workers) > 1 else None
