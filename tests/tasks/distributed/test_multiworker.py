"""Several processes of this machine train as one device does, whoever of them is killed.

Sums of gradients over two or three parts of a batch are the sum over all of it in another order,
so float32 may differ in its last bit at each step: by 6e-8 of a value. The tiny runs below take
tens of steps; TOLERANCE is some hundred times that. Figures that count what a threshold decides
(mIoU, precision) may jump where a value is as good as on it, and are not compared.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

import tasks
from scripts import __main__ as command
from tasks.distributed import (
    auth_tokens,
    clusters,
    handshake,
    keras_patches,
    messages,
    process_group,
    rendezvous,
)
from tasks.engine import resume, trainer
from tests.support import checks
from tests.support.paths import ROOT
from tests.support.tiny_tasks import TINY
from zoo.errors import UsageError

if keras.backend.backend() != "tensorflow":
    pytest.skip("workers need TensorFlow", allow_module_level=True)

TOLERANCE = 1e-5
LENET = {
    "model": "lenet5",
    "train_split": "train[100:220]",
    "validation_split": "train[:100]",
    "test_split": "test[:50]",
    "augment": "light",
    "mix": "mixup",
    "epochs": 2,
    "batch_size": 12,
    "precision": "float32",
}
NO_DROPOUT = "{widths: [8], embedding: 8, units: 12, attention: 8, dropout: 0.0}"
SAME = {  # flags with which results do not depend on the number of replicas
    "captioning": {"model_options": NO_DROPOUT},
    "dqn": {"num_envs": 6, "train_frequency": 6},
    "sequence": {"dropout": 0.0},
}
CPU = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


def words(flags):
    return [str(w) for key, value in flags.items() for w in (f"--{key.replace('_', '-')}", value)]


def zoo(*arguments, **environ):
    """Starts a command as a process, whose standard error can be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "scripts", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **CPU, **environ},
    )


def launch(count, out, task="classification", restarts=0, **flags):
    command = ["train", task, *words(flags), "--out", out]
    return zoo("launch", "-n", count, "--restarts", restarts, "--", *command)


def done(process, status=0, timeout=280):
    """Waits for a process; returns its output."""
    try:
        out, output = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.kill()
        pytest.fail(f"it did not end: {process.communicate()[1]}")
    assert process.returncode == status, output
    return out + output


def assert_same_losses(one, other, tolerance=TOLERANCE):
    losses = [name for name in checks.history(one)[0] if name.endswith("loss")]
    assert losses
    for name in losses:
        ones, others = (checks.column(out, name) for out in (one, other))
        np.testing.assert_allclose(others, ones, rtol=tolerance, err_msg=name)


MLP = {"model": "mlp", "model_options": "{widths: [8]}", "train_split": "train[100:160]"}


@pytest.mark.parametrize(
    ("flags", "strategies"),
    [
        (MLP, ("one", "mirrored")),
        pytest.param({}, ("one", "mirrored"), marks=pytest.mark.slow),
    ],
    ids=["mlp", "lenet5"],
)
@pytest.mark.check
def test_two_workers_train_like_one_device_and_like_two_replicas(
    flags, strategies, tmp_path, two_devices
):
    flags = {**LENET, **flags}
    process = launch(2, tmp_path / "group", **flags)
    make = tasks.get("classification")
    for strategy in strategies:
        trainer.train(make(**flags, strategy=strategy), tmp_path / strategy)
    output = done(process)
    assert "[0] epoch 2/2" in output
    assert "[1] epoch" not in output
    assert output.count("report    ") == 1
    for strategy in strategies:
        assert_same_losses(tmp_path / strategy, tmp_path / "group")
    # Files are written once, and are those of any run; the metrics of the chief are exact.
    assert {path.name for path in (tmp_path / "group").iterdir()} == {
        path.name for path in (tmp_path / "one").iterdir()
    }
    figures = json.loads((tmp_path / "group/report.json").read_text())["figures"]
    assert (figures["accuracy"] * 50) % 1 == pytest.approx(0, abs=1e-9)
    for one, grouped in zip(*(checks.weights(tmp_path / n) for n in ("one", "group")), strict=True):
        np.testing.assert_allclose(grouped, one, rtol=1e-3, atol=1e-5)


@pytest.mark.check
def test_a_worker_that_never_connects_is_named_in_time(tmp_path, monkeypatch, capsys):
    for name in ("ZOO_WORKERS", "ZOO_WORKER", "ZOO_WAIT"):  # which the command sets
        monkeypatch.setenv(name, "")
    address = f"localhost:{rendezvous.free_port()}"
    workers = ["--workers", f"{address},localhost:1", "--worker", "0", "--wait", "1"]
    assert command.main(["train", "classification", *workers, "--out", str(tmp_path)]) == 1
    output = capsys.readouterr().err
    assert "zoo: worker 1 (localhost:1) did not connect within 1 s; start all workers" in output
    assert not any(tmp_path.iterdir())
    with pytest.raises(
        UsageError, match=rf"worker 0 \({address}\) could not be reached within 0.5 s"
    ):
        process_group.ProcessGroup(
            clusters.ClusterConfig((address, "localhost:1"), 1), {}, 0.5, tmp_path
        )
    assert not any(tmp_path.parent.glob("*.token"))


def together(out, count, calls, wait=30):
    """Calls functions of process groups whose members are threads; returns their results."""
    workers = tuple(f"localhost:{rendezvous.free_port()}" for _ in range(count))

    def member(number, call):
        def make(run):
            return process_group.ProcessGroup(
                clusters.ClusterConfig(workers, number), run, wait, out
            )

        make.workers = workers
        try:
            return call(make)
        except BaseException as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(member, range(count), calls))


@pytest.mark.check
def test_workers_of_different_runs_do_not_start(tmp_path):
    run = {"seed": 0, "rate": 0.1}
    found = together(
        tmp_path, 3, [lambda m: m(run), lambda m: m({**run, "seed": 5}), lambda m: m(run)], 2
    )
    for error in found[:2]:
        assert isinstance(error, UsageError)
        assert "worker 1 has another run: seed is 5 there and 0 at worker 0" in str(error)


def test_broadcast_gather_and_any(tmp_path):
    def member(make):
        group = make({"seed": 0})
        broadcast = group.broadcast(lambda: {"epoch": 3, "loss": 0.1})
        broadcast_bytes = group.broadcast_bytes(lambda: b"weights" * 100_000)
        flags = group.any(False), group.any(group.number == 2)
        gather = group.gather(bytes([group.number]))
        group.leave()
        return (
            group.number,
            group.chief,
            broadcast,
            len(broadcast_bytes),
            flags,
            gather,
            len(group.addresses),
        )

    found = together(tmp_path, 3, [member] * 3)
    for number, row in enumerate(found):
        chief = number == 0
        gather = [b"\0", b"\1", b"\2"] if chief else None
        output = {"epoch": 3, "loss": 0.1}
        assert row == (number, chief, output, 700_000, (False, True), gather, 3)


@pytest.mark.check
def test_a_worker_that_is_killed_during_the_rendezvous_may_connect_again(tmp_path):
    def chief(make):
        return make({}).addresses

    def strangers_and_worker_1(make):
        address = rendezvous.split_address(make.workers[0])
        time.sleep(0.5)
        with socket.create_connection(address) as dead:  # worker 2, soon killed
            hello = {
                "number": 2,
                "count": 3,
                "run": {},
                "port": 1,
                "token": auth_tokens.read_token(tmp_path),
            }
            messages.send(dead, messages.HELLO, json.dumps(hello).encode())
            time.sleep(0.5)
        return make({}).addresses

    def worker_2(make):
        time.sleep(2)
        return make({}).addresses

    found = together(tmp_path, 3, [chief, strangers_and_worker_1, worker_2])
    assert found[0] == found[1] == found[2]
    assert "localhost:1" not in found[0]
    assert len(set(found[0])) == 3


HELLO = {"number": 1, "count": 2, "run": {}, "port": 1, "token": "secret"}
TRUSTED = [  # with the token, but without a valid handshake
    *({**HELLO, "number": number} for number in (0, 99, -1, "1", True, None, 1.0, [1])),
    *({**HELLO, "port": port} for port in (0, -1, 2**16, "1", None, {})),
    *({key: value for key, value in HELLO.items() if key != left} for left in HELLO),
    {**HELLO, "run": [1]},
    {**HELLO, "count": None},
]
FOREIGN = [{**HELLO, "token": token} for token in ("", "other", None, 5, "sécret", "\ud800")]
OTHER = [[1], None, 5, "x", {}, [[]], {**HELLO, "token": "other", "run": {"seed": 5}}]
RAW = [
    b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"H" + b"\xff" * 8,
    b"H" + (2**40).to_bytes(8, "big"),
    b"D\0\0\0\0\0\0\0\1x",
    b"H\0\0\0\0\0\0\0\2\xff\xfe",
    b"H\0\0\0\0\0\1\0\0" + b"[" * 2**16,
    b"H",
    b"",
]


def test_messages_of_strangers_neither_end_nor_delay_the_chief(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(auth_tokens.TOKEN_VARIABLE, "secret")
    silent = []

    def chief(make):
        return make({}).addresses

    def strangers_then_worker_1(make):
        address = rendezvous.split_address(make.workers[0])
        time.sleep(0.3)
        silent.extend(socket.create_connection(address) for _ in range(80))
        for hello in (*TRUSTED, *FOREIGN, *OTHER):
            with socket.create_connection(address) as stranger:
                messages.send(stranger, messages.HELLO, json.dumps(hello).encode())
                stranger.recv(1)
        for content in RAW:
            with socket.create_connection(address) as stranger:
                stranger.sendall(content)
        return make({}).addresses

    monkeypatch.setattr(logging.getLogger("zoo"), "propagate", True)
    found = together(tmp_path, 2, [chief, strangers_then_worker_1], wait=60)
    for stranger in silent:
        stranger.close()
    assert found[0] == found[1]
    assert len(found[0]) == 2
    for reason in ("lacks the token", "out of range", "no handshake"):
        assert reason in caplog.text


def test_silent_connections_are_closed_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(handshake, "HANDSHAKE_TIMEOUT_SECONDS", 0.2)

    def chief(make):
        return make({}).addresses

    def silent_then_worker_1(make):
        time.sleep(0.3)
        with socket.create_connection(
            rendezvous.split_address(make.workers[0]), timeout=20
        ) as silent:
            assert silent.recv(1) == b""
        return make({}).addresses

    found = together(tmp_path, 2, [chief, silent_then_worker_1])
    assert found[0] == found[1]


def test_workers_with_different_tokens_are_refused(tmp_path, monkeypatch):
    def chief(make):
        with pytest.raises(UsageError, match=r"worker 1 .* did not connect within 3 s"):
            make({})

    def other(make):
        monkeypatch.setattr(auth_tokens, "read_token", lambda out: "other")
        with pytest.raises(UsageError, match=r"another token than this worker: .* ZOO_TOKEN"):
            make({})

    assert together(tmp_path, 2, [chief, other], wait=3) == [None, None]


def test_the_chief_listens_at_its_address_only(tmp_path):
    port = rendezvous.free_port()
    with rendezvous._listener(
        clusters.ClusterConfig((f"127.0.0.1:{port}", "127.0.0.1:1"), 0), 1
    ) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        for name in (f"127.0.0.1:{port}", "192.0.2.1:29400"):  # taken; of no machine
            with pytest.raises(UsageError, match=rf"worker 0 cannot listen at {name}"):
                rendezvous._listener(clusters.ClusterConfig((name, "127.0.0.1:1"), 0), 1)
    with pytest.raises(UsageError, match=r"cannot listen at nowhere\.invalid:1"):
        rendezvous._listener(clusters.ClusterConfig(("nowhere.invalid:1", "127.0.0.1:1"), 0), 0.1)


def test_the_token_file_is_private_and_removed_after_the_rendezvous(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "one"
    assert auth_tokens.read_token(run) == ""
    with auth_tokens.publish(run) as token:
        (path,) = run.parent.iterdir()
        assert auth_tokens.read_token(run) == token == path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
    assert not any(run.parent.iterdir())
    run.parent.rmdir()
    run.parent.write_text("a file in the place of a folder")
    with pytest.raises(UsageError, match="set ZOO_TOKEN"), auth_tokens.publish(run):
        pass
    monkeypatch.setenv(auth_tokens.TOKEN_VARIABLE, "secret")
    with auth_tokens.publish(run) as token:
        assert auth_tokens.read_token(run) == token == "secret"


def test_wrong_cluster_flags_are_refused(tmp_path, monkeypatch, capsys):
    make = tasks.get("classification")
    with pytest.raises(UsageError, match="needs two or more workers"):
        trainer.train(make(strategy="multiworker"), tmp_path)
    monkeypatch.setenv("ZOO_WORKERS", "localhost:1,localhost:2")
    monkeypatch.setenv("ZOO_WORKER", "0")
    with pytest.raises(UsageError, match="strategy one is for one process, and there are 2 work"):
        trainer.train(make(strategy="one"), tmp_path)
    for words, expected in (
        (["-n", "2"], "no command given"),
        (["-n", "0", "--", "train"], "-n must be from 1"),
    ):
        assert command.main(["launch", *words]) == 1
        assert expected in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_batches_that_cannot_be_split_evenly_are_refused(tmp_path):
    output = done(launch(2, tmp_path, batch_size=9), status=1)
    assert "set --batch-size to a multiple of 2, such as 10" in output


def test_keras_still_has_the_bugs_that_are_patched():
    """When this fails, Keras has fixed them: remove `keras_patches`."""
    source = inspect.getsource(sys.modules["keras.src.backend.tensorflow.trainer"])
    there = [name for name, line in keras_patches.BUGGY_LINES.items() if line in source]
    assert there == list(keras_patches.BUGGY_LINES)


def test_a_keras_without_the_bugs_is_not_patched(monkeypatch):
    from keras.src.backend.tensorflow import trainer as module

    def reduce_per_replica(values, strategy, reduction):
        return values

    def build(self, iterator=None, data_batch=None):
        return None

    monkeypatch.setattr(module, "reduce_per_replica", reduce_per_replica)
    monkeypatch.setattr(module.TensorFlowTrainer, "_maybe_symbolic_build", build)
    assert keras_patches.apply_patches() == []
    assert module.reduce_per_replica is reduce_per_replica
    assert module.TensorFlowTrainer._maybe_symbolic_build is build


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", tasks.names())
def test_every_task_trains_the_same_on_workers(name, count, tmp_path):
    flags = {"epochs": 2, **TINY[name], "batch_size": 12, **SAME.get(name, {})}
    trainer.train(tasks.get(name)(**flags), tmp_path / "one")
    output = done(launch(count, tmp_path / "group", name, **flags))
    assert f"[0] epoch 2/{flags['epochs']}" in output
    if name != "dqn":  # each replica acts in environments of its own
        assert_same_losses(tmp_path / "one", tmp_path / "group")


@pytest.mark.slow
def test_players_of_workers_are_those_of_replicas(tmp_path, two_devices):
    flags = {"epochs": 2, **TINY["dqn"], "batch_size": 12, **SAME["dqn"]}
    trainer.train(tasks.get("dqn")(**flags, strategy="mirrored"), tmp_path / "two")
    done(launch(2, tmp_path / "group", "dqn", **flags))
    assert_same_losses(tmp_path / "two", tmp_path / "group")
    for name in ("mean_return", "val_mean_return"):
        assert checks.column(tmp_path / "two", name) == checks.column(tmp_path / "group", name)


def worker(launcher, number):
    """Returns the process of a worker that a launcher has started, or `None`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                environ = (folder / "environ").read_bytes().split(b"\0")
                if parent == launcher.pid and f"ZOO_WORKER={number}".encode() in environ:
                    return int(folder.name)
            except OSError:
                continue
    return None


def place(out):
    state = resume.RunState(out)
    return state.epoch, state.step


def train_and_kill(count, kills, out, **flags):
    """Trains, and kills each worker in turn at random moments; returns the places of the run."""
    with (out.parent / "output").open("w") as output:
        launched = ["launch", "-n", count, "--restarts", 99, "--"]
        command = [*launched, "train", "classification", *words(flags), "--out", out]
        launcher = subprocess.Popen(
            [sys.executable, "-m", "scripts", *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env={**os.environ, **CPU},
        )
        draw, places = random.Random(count), []
        for kill in range(kills):
            before, started = place(out), time.monotonic()
            while place(out) == before and time.monotonic() - started < 150:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.2))
            found = worker(launcher, kill % count)
            assert found, "it was over before it could be killed"
            os.kill(found, signal.SIGKILL)
            places.append(place(out))
        assert launcher.wait(timeout=300) == 0, (out.parent / "output").read_text()
    return places


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills"), [(2, 10), (3, 10)])
def test_each_worker_killed_in_turn_a_run_ends_as_if_nobody_was(count, kills, tmp_path):
    flags = {
        **LENET,
        "train_split": "train[100:1540]",
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.9,
    }
    flags |= {"checkpoint_steps": 1, "clip_norm": 1.0}
    done(launch(count, tmp_path / "whole", **flags))
    places = train_and_kill(count, kills, tmp_path / "cut", **flags)
    assert len(set(places)) >= kills - 1  # there was progress between them
    checks.assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut")
    checks.assert_same(*(checks.weights(tmp_path / name) for name in ("whole", "cut")))
    for name in ("epoch", "loss", "accuracy", "val_loss", "learning_rate"):
        assert checks.column(tmp_path / "whole", name) == checks.column(tmp_path / "cut", name)


@pytest.mark.slow
def test_a_run_goes_on_with_other_workers_and_after_a_signal(tmp_path):
    flags = {**LENET, "train_split": "train[100:4000]", "checkpoint_steps": 4}
    one = {**flags, "strategy": "auto"}
    process = launch(3, tmp_path / "cut", **one)
    started = time.monotonic()
    while not place(tmp_path / "cut")[1] and time.monotonic() - started < 120:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = done(process, status=process_group.EXIT_INTERRUPTED)
    assert output.count("the same command resumes after step") == 1
    stopped = place(tmp_path / "cut")
    assert "resuming after step" in done(launch(2, tmp_path / "cut", **one))
    trainer.train(tasks.get("classification")(**one), tmp_path / "whole")
    assert stopped < (2, 0)
    assert_same_losses(tmp_path / "whole", tmp_path / "cut", tolerance=1e-3)
