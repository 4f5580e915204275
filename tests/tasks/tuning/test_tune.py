"""Searches that train: whole runs of small networks, some of which are killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tasks
from scripts import __main__ as command
from tasks.distributed import rendezvous
from tasks.engine import callbacks, resume, trainer
from tasks.inference import array_store
from tasks.tuning import runner, subprocess_trials, trial, tune
from tests.support import checks
from zoo.errors import UsageError

pytest.importorskip("keras_tuner")
pytest.importorskip("tensorboard")

SMALL = {
    "model": "mlp",
    "dataset": "fashion_sample",
    "train_split": "train[:128]",
    "validation_split": "train[128:192]",
    "test_split": "test[:64]",
}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def small(**flags):
    return tasks.get("classification")(**{**SMALL, "epochs": 2, **flags})


def search(out, task=None, **how):
    told = {"engine": "random", "trials": 3, "search": "learning_rate,batch_size=16|32"}
    return tune.tune(task or small(), out, **{**told, "isolate": False, **how})


def without_times(found):
    return [{key: row[key] for key in row if key != "seconds"} for row in found["trials"]]


def test_a_search_leaves_runs_and_the_best_recipe_repeats(tmp_path, capsys):
    found = search(tmp_path / "search", small(epochs=1))
    rows = found["trials"]
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert len({row["flags"]["learning_rate"] for row in rows}) == 3
    for row in rows:
        out = tmp_path / "search" / "trials" / row["trial"]
        recipe = resume.read_recipe(out / "recipe.yaml")
        assert {key: recipe[key] for key in row["flags"]} == row["flags"]
        assert row["score"] == max(checks.column(out, "val_accuracy"))
        assert {"report.json", "report.html", "model.keras"} <= set(os.listdir(out))
    best = max(rows, key=lambda row: row["score"])
    assert found["best"]["score"] == best["score"]
    again = trainer.train(
        resume.task_from_recipe(resume.read_recipe(found["recipe"])), tmp_path / "again"
    )
    timeless = [name for name in again["figures"] if "second" not in name]
    assert all(again["figures"][name] == found["best"]["figures"][name] for name in timeless)
    with open(tmp_path / "search" / "trials.csv") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [r["score"] for r in rows]
    page = (tmp_path / "search" / "search.html").read_text()
    assert all(heading in page for heading in ("Parallel coordinates", "Importance", "Trials"))
    assert found["recipe"] in page
    capsys.readouterr()
    assert search(tmp_path / "search", small(epochs=1)) == found
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_that_is_over_goes_on_if_it_is_given_more_trials(tmp_path):
    search(tmp_path / "both", small(epochs=1), trials=1)
    more = search(tmp_path / "both", small(epochs=1), trials=2)
    once = search(tmp_path / "once", small(epochs=1), trials=2)
    assert without_times(more) == without_times(once)


def test_killed_in_a_trial_a_search_goes_on_in_its_middle(tmp_path, monkeypatch):
    whole = search(tmp_path / "whole", trials=2)
    step, left = callbacks.TrainingCallback.end, [3]

    def end_and_die(recorder, epoch, logs):
        step(recorder, epoch, logs)
        left[0] -= 1
        if not left[0]:
            raise checks.Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.TrainingCallback, "end", end_and_die)
        with pytest.raises(checks.Killed):
            search(tmp_path / "killed", trials=2)
    fitted = []
    say = callbacks.print_status
    monkeypatch.setattr(callbacks, "print_status", lambda line: (fitted.append(line), say(line)))
    killed = search(tmp_path / "killed", trials=2)
    assert without_times(killed) == without_times(whole)
    assert "going on after epoch 1 of 2" in fitted
    assert sum(line.startswith("epoch ") for line in fitted) == 1  # of the four


def test_trials_that_fail_are_recorded_and_the_search_goes_on(tmp_path):
    asked = "optimizer=sgd|nowhere,learning_rate=1e-2|1e6"
    found = search(tmp_path, small(epochs=1, l2=40.0), engine="grid", trials=9, search=asked)
    told = {tuple(row["flags"].values()): row for row in found["trials"]}
    assert told["sgd", 1e-2]["status"] == "completed"
    assert told["sgd", 1e6]["status"] == "diverged"
    assert told["sgd", 1e6]["reason"] == "the loss is nan in epoch 1"
    assert told["nowhere", 1e-2]["status"] == "failed"
    assert "no optimiser named 'nowhere'" in told["nowhere", 1e-2]["reason"]
    assert found["best"]["flags"] == {"optimizer": "sgd", "learning_rate": 1e-2}
    assert "no optimiser named" in (tmp_path / "search.html").read_text()


def test_where_all_trials_fail_the_first_reason_is_said(tmp_path):
    with pytest.raises(UsageError, match="all 2 trials failed; the first: no data set named 'no"):
        search(tmp_path / "data", small(dataset="nowhere"), trials=2)
    with pytest.raises(UsageError, match="needs a validation split to choose by"):
        search(tmp_path / "split", small(validation_split="none", epochs=1), trials=1)


def test_an_error_that_nobody_expected_is_a_reason_too(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda task, out: [][0])
    with pytest.raises(UsageError, match="the first: IndexError: list index out of range"):
        search(tmp_path, trials=1)
    assert "Traceback" in (tmp_path / "trials" / "0000.error.txt").read_text()
    monkeypatch.setattr(trainer, "train", lambda task, out: (_ for _ in ()).throw(MemoryError()))
    assert trial.run(small(), tmp_path / "x", None) == trial.TrialResult("memory", "out of memory")


def test_a_trial_that_lags_is_stopped_and_never_the_best(tmp_path):
    found = search(
        tmp_path,
        small(epochs=3),
        engine="grid",
        trials=4,
        search="learning_rate=1e-2|8e-3|5e-3|1e-9,batch_size=16",
        lag=1,
    )
    *_, last = found["trials"]
    assert (last["status"], last["epochs"]) == ("stopped", 1)
    assert last["reason"] == "it lags behind the median of the other trials"
    assert not (tmp_path / "trials" / last["trial"] / "report.json").exists()
    assert found["best"]["trial"] != last["trial"]


@pytest.mark.slow
def test_trials_share_the_features_of_a_frozen_network(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    task = small(model="resnet20.cifar10", plan="probe", epochs=12)
    computed, keep = [], array_store.get_or_compute
    monkeypatch.setattr(
        array_store, "get_or_compute", lambda *args: (computed.append(args[0]), keep(*args))[1]
    )
    found = search(tmp_path / "search", task, search="learning_rate,dropout", trials=3)
    assert {row["status"] for row in found["trials"]} == {"completed"}
    assert len(computed) == 2  # of the training and of the validation split, once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": "dropout"}, "holds another search (learning_rate: '1e-05..0.01:log' there"),
        ({"engine": "grid"}, "holds another search (engine: 'random' there, 'grid' asked)"),
        ({"task": small(seed=1)}, "holds another search (seed: 0 there, 1 asked)"),
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path, change, message):
    with pytest.raises(UsageError, match="all 1 trials failed"):
        search(tmp_path, trials=1, task=small(dataset="nowhere"))
    asked = {"task": small(dataset="nowhere"), "trials": 1} | change
    if "task" in change:
        asked["task"] = small(dataset="nowhere", seed=1)
    with pytest.raises(UsageError) as error:
        search(tmp_path, **asked)
    assert message in str(error.value)


def test_wrong_searches_are_said_before_anything_is_written(tmp_path):
    for how in ({"trials": 0}, {"lag": -1}, {"workers": 2}, {"worker": "one"}, {"workers": 0}):
        with pytest.raises(UsageError):
            search(tmp_path / "none", **how)
    with pytest.raises(UsageError, match="HOST:PORT"):
        search(tmp_path / "none", chief="nobody")
    assert not (tmp_path / "none").exists()


def test_a_search_inside_a_cluster_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--chief HOST:PORT and --worker NAME"):
        search(tmp_path / "none", small(strategy="multiworker"))
    monkeypatch.setenv("ZOO_WORKERS", "a:1,b:1")
    monkeypatch.setenv("ZOO_WORKER", "0")
    with pytest.raises(UsageError, match="--chief HOST:PORT and --worker NAME"):
        search(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_two_processes_do_not_search_in_one_folder(tmp_path, monkeypatch):
    work = runner.run_trials

    def another(*args):
        with pytest.raises(UsageError, match="another process searches in"):
            search(tmp_path, small(epochs=1), trials=1)
        work(*args)

    monkeypatch.setattr(runner, "run_trials", another)
    search(tmp_path, small(epochs=1), trials=1)


def test_the_command_prints_the_best_and_how_to_repeat_it(tmp_path, capsys):
    words = ["tune", "classification", *FLAGS, "--epochs=1", "--trials=2", "--engine=grid"]
    words += ["--search=batch_size=16|32", "--isolate=off", f"--out={tmp_path / 'search'}"]
    assert command.main(words) == 0
    printed = capsys.readouterr().out
    assert f"zoo train classification --recipe {tmp_path / 'search' / 'best.yaml'}" in printed
    assert "batch_size 16" in printed
    assert command.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["flags"] for row in found["trials"]] == [{"batch_size": 16}, {"batch_size": 32}]
    assert command.main(["tune", "classification", "--search=learnin_rate"]) == 1
    assert "did you mean learning_rate" in capsys.readouterr().err
    assert command.main([*words, "--batch-size=8"]) == 1
    assert "leave out --batch-size" in capsys.readouterr().err


CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


@pytest.mark.skipif(not CHILDREN.exists(), reason="looks for processes as Linux shows them")
def test_a_trial_of_its_own_process_is_killed_without_harm(tmp_path):
    how, told = subprocess_trials.SubprocessExecutor(), []

    def kill(scores):
        told.append(scores)
        nursery = how.nursery.pid
        (child,) = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        return True

    try:
        killed = how.run(small(), tmp_path / "0000", kill)
        assert (killed.status, len(told)) == ("memory", 1)
        assert "SIGKILL" in killed.reason
        done = how.run(small(), tmp_path / "0000", lambda scores: not told.append(scores))
        assert done == trial.TrialResult(trial.COMPLETED)
        assert told[1:] == [told[0], [*told[0], told[-1][1]]]  # it went on after its first epoch
        refused = how.run(small(dataset="nowhere"), tmp_path / "0001", None)
        assert (refused.status, refused.reason[:11]) == ("failed", "no data set")
        stopped = how.run(small(), tmp_path / "0002", lambda scores: False)
        assert stopped.status == trial.STOPPED
    finally:
        how.close()
    apart_weights = checks.weights(tmp_path / "0000")
    trainer.train(small(), tmp_path / "here")
    checks.assert_same(apart_weights, checks.weights(tmp_path / "here"))


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_search_on_the_command_line(name, capsys):
    with pytest.raises(SystemExit):
        command.main(["tune", name, "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--search", "--engine-options", "--learning-rate"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_command_is_killed_and_goes_on(tmp_path, number):
    flags = [*FLAGS, "--epochs=40", "--trials=2", "--engine=random", "--lag=0", "--batch-size=16"]
    words = [sys.executable, "-m", "scripts", "tune", "classification", *flags, "--json"]
    words += ["--search=learning_rate", f"--out={tmp_path / 'search'}"]
    begun = tmp_path / "search" / "trials" / "0001" / "history.csv"
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not begun.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    assert not (begun.parent / "report.json").exists()
    again = subprocess.run(words, capture_output=True, text=True)
    assert "going on after" in again.stderr
    found = json.loads(again.stdout)
    assert [len(row["scores"]) for row in found["trials"]] == [40, 40]
    whole = [w if not w.startswith("--out") else f"--out={tmp_path / 'whole'}" for w in words]
    unkilled = json.loads(subprocess.run(whole, capture_output=True, text=True).stdout)
    assert without_times(found) == without_times(unkilled)


@pytest.mark.slow
def test_workers_on_loopback_help_a_chief(tmp_path):
    flags = [*FLAGS, "--epochs=2", "--trials=6", "--engine=random", "--search=learning_rate"]
    words = [sys.executable, "-m", "scripts", "tune", "classification", *flags, "--json"]
    words += [f"--out={tmp_path / 'search'}", f"--chief=127.0.0.1:{rendezvous.free_port()}"]
    roles = [["--workers=0"], ["--worker=one"], ["--worker=two"]]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*words, *role], **quiet) for role in roles]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert len(json.loads(said[0][0])["trials"]) == 6
    for _, err in said[1:]:
        assert "completed: score" in err


TINY = {
    "segmentation": {"dataset": "shapes", "image_size": 32, "train_split": "train[:16]"},
    "gan": {"width": 8, "train_split": "train[:256]", "num_samples": 64, "validation_samples": 64},
    "detection": {
        "train_split": "train[:8]",
        "validation_split": "validation[:8]",
        "test_split": "test[:8]",
    },
    "dqn": {"dataset": "catch", "epoch_steps": 100, "learning_starts": 50, "test_episodes": 2},
    "style_transfer": {"steps": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_task_is_searched(tmp_path, name):
    task = tasks.get(name)(**TINY[name], epochs=1)
    found = search(tmp_path, task, search="learning_rate=1e-4..1e-3", trials=2)
    assert [row["status"] for row in found["trials"]] == ["completed"] * 2
