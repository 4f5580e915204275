"""Who the workers are, from every place that says so; and what is said where it is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.data import batches
from tasks.distributed import clusters
from zoo.errors import UsageError

SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NODELIST": "gpu[08-10]",
    "SLURM_NTASKS": "6",
    "SLURM_TASKS_PER_NODE": "2(x3)",
    "SLURM_PROCID": "3",
}


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("a", ["a"]),
        ("node[01-03,7]", ["node01", "node02", "node03", "node7"]),
        ("a[1-2],b,c[9-11]", ["a1", "a2", "b", "c9", "c10", "c11"]),
        ("r[1-2]n[0-1]", ["r1n0", "r1n1", "r2n0", "r2n1"]),
        ("x[2]-ib", ["x2-ib"]),
    ],
)
def test_node_lists_are_expanded(nodes, names):
    assert clusters.expand_hostlist(nodes) == names


@pytest.mark.parametrize("nodes", ["", "a[1-", "a[x-y]", "a[3-1]", "a[]", "a]"])
def test_a_malformed_hostlist_is_refused(nodes):
    with pytest.raises(UsageError, match="is not a list of"):
        clusters.expand_hostlist(nodes)


def place(environ, **options):
    found = clusters.find_cluster(environ, **options)
    return found and (found.workers, found.number)


def test_flags_name_workers():
    environ = {"ZOO_WORKERS": "a:1, b:2", "ZOO_WORKER": "1"}
    assert place(environ) == (("a:1", "b:2"), 1)
    assert place({"ZOO_WORKERS": "[::1]:5,b:6", "ZOO_WORKER": "0"})[0] == ("[::1]:5", "b:6")


def test_one_worker_is_no_cluster():
    assert place({}) is None
    assert place({"ZOO_WORKERS": "a:1", "ZOO_WORKER": "0"}) is None
    assert place({"TF_CONFIG": "{}"}) is None


@pytest.mark.parametrize("task", ["worker", "chief"])
def test_tf_config(task):
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"], "evaluator": ["d:1"], "ps": ["e:1"]}
    config = {"cluster": cluster, "task": {"type": task, "index": 0}}
    number = {"chief": 0, "worker": 1}[task]
    assert place({"TF_CONFIG": json.dumps(config)}) == (("a:1", "b:1", "c:1"), number)


def test_flags_come_before_tf_config():
    config = json.dumps({"cluster": {"worker": ["x:1", "y:1"]}, "task": {"index": 1}})
    environ = {"TF_CONFIG": config, "ZOO_WORKERS": "a:1,b:2", "ZOO_WORKER": "0"}
    assert place(environ) == (("a:1", "b:2"), 0)


def test_slurm_is_asked_only_where_it_is_wanted():
    hosts = ("gpu08", "gpu08", "gpu09", "gpu09", "gpu10", "gpu10")
    port = clusters.DEFAULT_PORT + 345
    assert place(SLURM) is None
    assert place(SLURM, scheduled=True) == (tuple(f"{host}:{port}" for host in hosts), 3)


def test_slurm_nodes_may_have_different_numbers_of_tasks():
    environ = {**SLURM, "SLURM_TASKS_PER_NODE": "2,1(x2)", "SLURM_NTASKS": "4"}
    workers, _ = place(environ, scheduled=True)
    assert [each.partition(":")[0] for each in workers] == ["gpu08", "gpu08", "gpu09", "gpu10"]


@pytest.mark.parametrize("pod", [{}, {"JOB_COMPLETION_INDEX": "2"}])
def test_kubernetes(pod):
    environ = {"ZOO_SERVICE": "zoo.default.svc", "ZOO_COUNT": "3", "HOSTNAME": "train-2", **pod}
    workers = tuple(f"train-{n}.zoo.default.svc:{clusters.DEFAULT_PORT}" for n in range(3))
    assert place(environ, scheduled=True) == (workers, 2)
    environ["ZOO_SERVICE"] += ":7000"
    assert place(environ, scheduled=True)[0][0] == "train-0.zoo.default.svc:7000"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ZOO_WORKERS": "a,b:2", "ZOO_WORKER": "0"}, "--workers has 'a'; expected host:port"),
        ({"ZOO_WORKERS": "a:1,b:99999", "ZOO_WORKER": "0"}, "expected host:port"),
        ({"ZOO_WORKERS": "a:1,b:2"}, "this is worker 'unknown'; set --worker N, from 0 to 1"),
        ({"ZOO_WORKERS": "a:1,b:2", "ZOO_WORKER": "2"}, "has 2 workers, and this is worker '2'"),
        ({"ZOO_WORKERS": "a:1,b:2", "ZOO_WORKER": "-1"}, "from 0 to 1"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG is malformed"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG is malformed"),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps"}}'},
            "ps 0, which is not in its cluster",
        ),
        ({"SLURM_JOB_NODELIST": "a"}, "start it with srun"),
        ({"ZOO_SERVICE": "zoo", "HOSTNAME": "laptop"}, "with pods NAME-INDEX"),
    ],
)
def test_a_malformed_configuration_is_refused(environ, words):
    with pytest.raises(UsageError, match=words):
        clusters.find_cluster(environ, scheduled=True)


def test_the_waiting_time_is_a_positive_number_of_seconds():
    assert clusters.wait_seconds({}) == 300
    assert clusters.wait_seconds({"ZOO_WAIT": "2.5"}) == 2.5
    for text in ("soon", "0", "-1", "nan", "inf"):
        with pytest.raises(UsageError, match="--wait takes a number of seconds"):
            clusters.wait_seconds({"ZOO_WAIT": text})


class Recorded:
    """Pixels that record the indices that were read."""

    def __init__(self, count):
        self.pixels = np.arange(count, dtype="uint8").reshape(count, 1, 1, 1)
        self.shape, self.dtype, self.indices = self.pixels.shape, self.pixels.dtype, []

    def __getitem__(self, indices):
        self.indices += indices.tolist()
        return self.pixels[indices]


@pytest.mark.parametrize("parts", [2, 3])
def test_a_worker_reads_its_shard_and_one_example_more(parts):
    order = np.random.default_rng(0).permutation(24).reshape(2, 12)
    size, found = 12 // parts, []
    for number in range(parts):
        seen = Recorded(24)
        with batches.read_shard(range(number, number + 1), parts):
            gather = batches.make_gather(seen, 12)
        rows = [gather(batch).numpy().reshape(-1) for batch in order]
        found.append([row[number * size : (number + 1) * size] for row in rows])
        assert len(seen.indices) == 2 * (size + 1)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), order)
    whole = Recorded(24)
    np.testing.assert_array_equal(
        batches.make_gather(whole, 12)(order[0]).numpy().ravel(), order[0]
    )
