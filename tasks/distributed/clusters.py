"""The cluster configuration of a run: from flags, `TF_CONFIG`, Kubernetes or Slurm.

The machines of a run are not part of its recipe, so they come from the environment.
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
DEFAULT_PORT = 29400  # of the chief, under Kubernetes and Slurm
DEFAULT_WAIT_SECONDS = 300.0  # for the other workers
_PARTS = re.compile(r"((?:[^,\[\]]|\[[^\]]*\])+)")
_RANGE = re.compile(r"\[([^\]]*)\]")
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):\d{1,5}")


@dataclass(frozen=True)
class ClusterConfig:
    """The workers of a run, and the index of this process.

    Attributes:
        workers: `host:port` of each worker. Only the port of the first, the chief, is used; the
            others use free ports.
        number: The index of this process, from 0.
    """

    workers: tuple[str, ...]
    number: int


def find_cluster(environ=os.environ, *, scheduled=False):
    """Returns the `ClusterConfig` of this process, or `None` for a single process.

    Args:
        environ: The environment variables.
        scheduled: Whether to read those of Kubernetes and Slurm too, whose jobs may also consist
            of independent processes.

    Raises:
        UsageError: The variables are malformed.
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
    """Returns the seconds to wait for the other workers."""
    text = environ.get(WAIT) or str(DEFAULT_WAIT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--wait takes a number of seconds above 0, not {text!r}")
    return seconds


def expand_hostlist(nodes):
    """Returns the names in a Slurm hostlist: `a[01-03,7],b` is a01, a02, a03, a7, b.

    Raises:
        UsageError: The list is malformed.
    """
    parts = _PARTS.findall(nodes)
    names = [name for part in parts for name in _expand_part(part)]
    if not nodes or ",".join(parts) != nodes:
        raise UsageError(f"{nodes!r} is not a list of nodes such as node[01-03,7]")
    return names


def _expand_part(part):
    """Returns the names of one part of a hostlist, which may have several brackets."""
    pieces = _RANGE.split(part)  # contents of brackets are at odd indices
    choices = [
        _expand_range(piece) if number % 2 else [piece.strip()]
        for number, piece in enumerate(pieces)
    ]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _expand_range(text):
    """Returns the numbers in `01-03,7`, with leading zeros."""
    found = []
    for item in text.split(","):
        first, _, last = item.strip().partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            raise UsageError(f"[{text}] is not a list of numbers such as [01-03,7]")
        found += [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    return found


def _from_flags(environ):
    workers = [word.strip() for word in environ[WORKERS].split(",") if word.strip()]
    return workers, environ.get(WORKER, "")


def _from_tf_config(environ):
    """Reads `TF_CONFIG`; a chief precedes the workers, and other task types are ignored."""
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
        raise UsageError(
            f"TF_CONFIG is malformed: {error}; see the documentation of TensorFlow"
        ) from error
    indices = [index for index, (job, n, _) in enumerate(jobs) if (job, n) == this_task]
    if jobs and not indices:
        raise UsageError(
            f"TF_CONFIG names this process {this_task[0]} {this_task[1]}, which is not in its "
            "cluster; only a chief and workers train"
        )
    return [each for *_, each in jobs], str(indices[0]) if indices else "0"


def _from_kubernetes(environ):
    """Reads the variables of a pod of an indexed Job, or of a StatefulSet.

    In both, pod NAME-INDEX has the address NAME-INDEX.SERVICE.
    """
    name, _, ordinal = environ.get(POD, "").partition(".")[0].rpartition("-")
    index = environ.get("JOB_COMPLETION_INDEX") or ordinal
    count = environ.get(COUNT, "")
    if not (name and index.isdigit() and count.isdigit()):
        raise UsageError(
            f"{SERVICE} names a headless service, but the pod is {environ.get(POD)!r} and {COUNT} "
            f"is {count!r}; use an indexed Job or a StatefulSet, with pods NAME-INDEX, and set "
            f"{COUNT}"
        )
    service, _, port = environ[SERVICE].partition(":")
    return [f"{name}-{n}.{service}:{port or DEFAULT_PORT}" for n in range(int(count))], index


def _from_slurm(environ):
    """Reads the variables of a task of a Slurm job step; tasks are ordered by node."""
    nodes = expand_hostlist(environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"])
    count = environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or str(len(nodes))
    number = environ.get("SLURM_PROCID", "")
    if not count.isdigit() or not number.isdigit():
        raise UsageError(
            "this process is not a task of the Slurm job; start it with srun, one task per worker"
        )
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE", "")
    each = _tasks_per_node(tasks) or [-(-int(count) // len(nodes))] * len(nodes)
    hosts = [node for node, many in zip(nodes, each, strict=False) for _ in range(many)]
    job = environ.get("SLURM_JOB_ID", "")
    # Two jobs on one node get different ports.
    port = DEFAULT_PORT + (int(job) % 1000 if job.isdigit() else 0)
    return [f"{host}:{port}" for host in hosts[: int(count)]], number


def _tasks_per_node(text):
    """Returns the tasks per node in the format of Slurm: `2(x3),1` is 2, 2, 2, 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(many) for many, times in found for _ in range(int(times or 1))]


def _validated(variable, workers, number):
    """Returns a `ClusterConfig`, or `None` for a single worker."""
    source = "--workers" if variable == WORKERS else variable
    for worker in workers:
        if not _ADDRESS.fullmatch(worker) or int(worker.rpartition(":")[2]) > 65535:
            raise UsageError(f"{source} has {worker!r}; expected host:port of each worker")
    if not workers:
        return None
    if not str(number).isdigit() or int(number) >= len(workers):
        raise UsageError(
            f"{source} has {len(workers)} workers, and this is worker {number or 'unknown'!r}; "
            f"set --worker N, from 0 to {len(workers) - 1}"
        )
    return ClusterConfig(tuple(workers), int(number)) if len(workers) > 1 else None
