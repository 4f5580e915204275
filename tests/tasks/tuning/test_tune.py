"""Searches that train small networks, some of which are killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from scripts import __main__ as command
from tasks.distributed import rendezvous
from tasks.engine import callbacks, recipes, resume, trainer
from tasks.inference import array_store
from tasks.report import run_files
from tasks.tuning import runner, subprocess_trials, trial, tune
from tests.support import checks
from zoo.errors import UsageError

keras_tuner = pytest.importorskip("keras_tuner")
pytest.importorskip("tensorboard")

SMALL = {
    "model": "mlp",
    "model_options": "{widths: [16]}",
    "dataset": "fashion_sample",
    "train_split": "train[:128]",
    "validation_split": "train[128:192]",
    "test_split": "test[:64]",
}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def small(**flags):
    return tasks.get("classification")(**{**SMALL, "epochs": 2, **flags})


def search(out, task=None, **settings):
    defaults = {"engine": "random", "trials": 3, "search": "learning_rate,batch_size=16|32"}
    return tune.tune(task or small(), out, **{**defaults, "isolate": False, **settings})


def without_times(found):
    return [{key: row[key] for key in row if key != "seconds"} for row in found["trials"]]


def test_search_writes_runs_and_a_recipe_that_repeats_the_best(tmp_path, capsys):
    found = search(tmp_path / "search", small(epochs=1))
    rows = found["trials"]
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert len({row["flags"]["learning_rate"] for row in rows}) == 3
    for row in rows:
        out = tmp_path / "search" / "trials" / row["trial"]
        recipe = recipes.read_recipe(out / "recipe.yaml")
        assert {key: recipe[key] for key in row["flags"]} == row["flags"]
        assert row["score"] == max(checks.column(out, "val_accuracy"))
        assert {"report.json", "report.html", "model.keras"} <= set(os.listdir(out))
    best = max(rows, key=lambda row: row["score"])
    assert found["best"]["score"] == best["score"]
    again = trainer.train(
        recipes.task_from_recipe(recipes.read_recipe(found["recipe"])), tmp_path / "again"
    )
    timeless = [name for name in again["figures"] if "second" not in name]
    assert all(again["figures"][name] == found["best"]["figures"][name] for name in timeless)
    with open(tmp_path / "search" / "trials.csv") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [r["score"] for r in rows]
    page = (tmp_path / "search" / "search.html").read_text()
    assert all(heading in page for heading in ("Parallel coordinates", "Importance", "Trials"))
    assert found["recipe"] in page
    assert "The score is val_accuracy of the best epoch." in page
    capsys.readouterr()
    assert search(tmp_path / "search", small(epochs=1)) == found
    assert "epoch" not in capsys.readouterr().err


def rename_flag(out, name, former):
    """Rewrites the files of a search as an earlier version, which named a flag `former`, did."""
    for path in (out / "search.yaml", *(out / "trials").glob("*.json")):
        path.write_text(path.read_text().replace(name, former))
        if path.suffix == ".json":  # earlier versions wrote no checksum
            path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": None}))
    stored = json.loads((out / "oracle.json").read_text().replace(name, former))
    digest = keras_tuner.Oracle._compute_values_hash
    for each in stored["trials"]:
        stored["oracle"]["id_to_hash"][each["trial_id"]] = digest(
            None, each["hyperparameters"]["values"]
        )
    stored["oracle"]["tried_so_far"] = [*stored["oracle"]["id_to_hash"].values()]
    del stored["sha256"]
    (out / "oracle.json").write_text(json.dumps(stored))


@pytest.mark.check
def test_search_of_an_earlier_version_over_a_renamed_flag_resumes(tmp_path, monkeypatch):
    def run(task, out, report):
        report([task.ema_decay])
        return trial.TrialResult(trial.COMPLETED)

    monkeypatch.setattr(trial, "run", run)
    ranges = "=0.1|0.2|0.3|0.4"
    whole = search(tmp_path / "whole", search="ema_decay" + ranges, trials=4)
    assert len({row["flags"]["ema_decay"] for row in whole["trials"]}) == 4
    search(tmp_path / "cut", search="average" + ranges, trials=2)
    rename_flag(tmp_path / "cut", "ema_decay", "average")
    assert "average" in (tmp_path / "cut" / "trials" / "0000.json").read_text()
    resumed = search(tmp_path / "cut", search="average" + ranges, trials=4)
    assert without_times(resumed) == without_times(whole)


@pytest.mark.slow
def test_completed_search_continues_with_more_trials(tmp_path):
    search(tmp_path / "both", small(epochs=1), trials=1)
    more = search(tmp_path / "both", small(epochs=1), trials=2)
    once = search(tmp_path / "once", small(epochs=1), trials=2)
    assert without_times(more) == without_times(once)


@pytest.mark.check
def test_search_killed_during_a_trial_resumes_the_trial(tmp_path, monkeypatch):
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
    assert "resuming after epoch 1 of 2" in fitted
    assert sum(line.startswith("epoch ") for line in fitted) == 1  # of the four


@pytest.mark.check
def test_search_continues_after_failed_trials(tmp_path):
    search_spec = "optimizer=sgd|nowhere,learning_rate=1e-2|1e6"
    found = search(tmp_path, small(epochs=1, l2=40.0), engine="grid", trials=9, search=search_spec)
    rows = {tuple(row["flags"].values()): row for row in found["trials"]}
    assert rows["sgd", 1e-2]["status"] == "completed"
    assert rows["sgd", 1e6]["status"] == "diverged"
    assert rows["sgd", 1e6]["reason"] == "the loss is nan in epoch 1"
    assert rows["nowhere", 1e-2]["status"] == "failed"
    assert "no optimizer named 'nowhere'" in rows["nowhere", 1e-2]["reason"]
    assert found["best"]["flags"] == {"optimizer": "sgd", "learning_rate": 1e-2}
    assert "no optimizer named" in (tmp_path / "search.html").read_text()


def test_search_whose_trials_all_fail_reports_the_first_reason(tmp_path):
    with pytest.raises(UsageError, match="all 2 trials failed; the first: no data set named 'no"):
        search(tmp_path / "data", small(dataset="nowhere"), trials=2)
    with pytest.raises(UsageError, match="needs a validation split for the scores"):
        search(tmp_path / "split", small(validation_split="none", epochs=1), trials=1)


HISTORY_ROW = dict.fromkeys(run_files.HISTORY_COLUMNS, 1)


def ended_epoch(data):
    """Returns a stand-in for `trainer.train` that ends its first epoch on some data."""

    def train(task, out):
        recipes.write_recipe(out, task)
        state = resume.RunState(out)
        state.data, state.history = data, [{**HISTORY_ROW, "val_accuracy": 0.5}]
        state.epoch, state.best = 1, 1
        state.save({}, better=True)
        for listener in callbacks.epoch_listeners:
            listener(state.history)

    return train


def test_a_trial_on_other_data_than_the_first_fails(tmp_path, monkeypatch):
    def result(name, data, **flags):
        monkeypatch.setattr(trainer, "train", ended_epoch(data))
        return trial.run(small(**flags), tmp_path / name, lambda scores: True)

    data = {"classes": ["a", "b"], "splits": {"train": "18 examples, digest 1"}}
    renamed = {**data, "classes": ["a", "c"]}
    assert result("0000", data).status == "completed"
    assert result("0001", data, learning_rate=0.1).status == "completed"
    changed = result("0002", renamed)
    assert changed.status == "failed"
    assert changed.reason.startswith(
        "the data are not those of trial 0000: classes removed: 'b' and new: 'c'; use the data"
    )
    more = {**data, "splits": {"train": "20 examples, digest 2"}}
    assert result("0003", more, train_split="train[:20]").status == "completed"
    assert result("0004", renamed, train_split="train[:20]").status == "failed"
    (tmp_path / "0000" / resume.STATE).write_text("{")
    assert "of trial 0001" in result("0005", renamed).reason


@pytest.mark.check
def test_a_search_whose_data_change_continues_on_the_first_data_only(tmp_path):
    for level, name in ((50, "dark"), (200, "light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((8, 8), level + number, "uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    whole = {"train_split": "", "validation_split": "", "test_split": "", "image_size": 8}
    task = small(dataset=str(tmp_path / "data"), epochs=1, **whole)
    assert search(tmp_path / "out", task, trials=1)["best"]["trial"] == "0000"
    (tmp_path / "data" / "dark").rename(tmp_path / "data" / "black")
    found = search(tmp_path / "out", task, trials=2)
    assert [row["status"] for row in found["trials"]] == ["completed", "failed"]
    assert "classes removed: 'dark' and new: 'black'" in found["trials"][1]["reason"]


def test_unexpected_errors_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda task, out: [][0])
    with pytest.raises(UsageError, match="the first: IndexError: list index out of range"):
        search(tmp_path, trials=1)
    assert "Traceback" in (tmp_path / "trials" / "0000.error.txt").read_text()
    monkeypatch.setattr(trainer, "train", lambda task, out: (_ for _ in ()).throw(MemoryError()))
    assert trial.run(small(), tmp_path / "x", None) == trial.TrialResult("memory", "out of memory")


@pytest.mark.check
def test_trial_below_the_median_is_stopped_and_never_the_best(tmp_path):
    found = search(
        tmp_path,
        small(),
        engine="grid",
        trials=4,
        search="learning_rate=1e-2|8e-3|5e-3|1e-9,batch_size=16",
        median_stopping_epochs=1,
    )
    *_, last = found["trials"]
    assert (last["status"], last["epochs"]) == ("stopped", 1)
    assert last["reason"] == "below the median of the other trials"
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
        ({"search": "dropout"}, "contains another search (learning_rate: '1e-05..0.01:log' there"),
        ({"engine": "grid"}, "contains another search (engine: 'random' there, 'grid' here)"),
        ({"task": small(seed=1)}, "contains another search (seed: 0 there, 1 here)"),
    ],
)
def test_folder_of_another_search_is_rejected(tmp_path, change, message):
    with pytest.raises(UsageError, match="all 1 trials failed"):
        search(tmp_path, trials=1, task=small(dataset="nowhere"))
    settings = {"task": small(dataset="nowhere"), "trials": 1} | change
    if "task" in change:
        settings["task"] = small(dataset="nowhere", seed=1)
    with pytest.raises(UsageError) as error:
        search(tmp_path, **settings)
    assert message in str(error.value)


def test_invalid_settings_are_rejected_before_anything_is_written(tmp_path):
    for how in (
        {"trials": 0},
        {"median_stopping_epochs": -1},
        {"lag": -1},
        {"workers": 2},
        {"worker": "one"},
        {"workers": 0},
    ):
        with pytest.raises(UsageError):
            search(tmp_path / "none", **how)
    with pytest.raises(UsageError, match="HOST:PORT"):
        search(tmp_path / "none", chief="nobody")
    assert not (tmp_path / "none").exists()


def test_search_inside_a_cluster_is_rejected_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--chief HOST:PORT and --worker NAME"):
        search(tmp_path / "none", small(strategy="multiworker"))
    monkeypatch.setenv("ZOO_WORKERS", "a:1,b:1")
    monkeypatch.setenv("ZOO_WORKER", "0")
    with pytest.raises(UsageError, match="--chief HOST:PORT and --worker NAME"):
        search(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_two_processes_do_not_search_in_one_folder(tmp_path, monkeypatch):
    rejected = []

    def search_again(*args):
        with pytest.raises(UsageError, match="another process is searching in"):
            search(tmp_path, small(epochs=1), trials=1)
        rejected.append(True)

    monkeypatch.setattr(runner, "run_trials", search_again)
    with pytest.raises(UsageError, match="all 0 trials failed"):
        search(tmp_path, small(epochs=1), trials=1)
    assert rejected


@pytest.mark.check
def test_command_prints_the_best_trial_and_how_to_repeat_it(tmp_path, capsys):
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
@pytest.mark.check
def test_killed_trial_process_does_not_end_the_search(tmp_path):
    executor, reported = subprocess_trials.SubprocessExecutor(), []

    def kill(scores):
        reported.append(scores)
        server = executor.server.pid
        (child,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        return True

    try:
        killed = executor.run(small(), tmp_path / "0000", kill)
        assert (killed.status, len(reported)) == ("memory", 1)
        assert "SIGKILL" in killed.reason
        done = executor.run(small(), tmp_path / "0000", lambda scores: not reported.append(scores))
        assert done == trial.TrialResult(trial.COMPLETED)
        assert reported[1:] == [
            reported[0],
            [*reported[0], reported[-1][1]],
        ]  # resumed after epoch 1
        rejected = executor.run(small(dataset="nowhere"), tmp_path / "0001", None)
        assert (rejected.status, rejected.reason[:11]) == ("failed", "no data set")
        stopped = executor.run(small(), tmp_path / "0002", lambda scores: False)
        assert stopped.status == trial.STOPPED
    finally:
        executor.close()
    apart_weights = checks.weights(tmp_path / "0000")
    trainer.train(small(), tmp_path / "here")
    checks.assert_same(apart_weights, checks.weights(tmp_path / "here"))


@pytest.mark.parametrize("name", tasks.names())
def test_help_of_tune_for_every_task(name, capsys):
    with pytest.raises(SystemExit):
        command.main(["tune", name, "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--search", "--engine-options", "--learning-rate"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_command_resumes(tmp_path, number):
    flags = [
        *FLAGS,
        "--epochs=40",
        "--trials=2",
        "--engine=random",
        "--median-stopping-epochs=0",
        "--batch-size=16",
    ]
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
    assert "resuming after" in again.stderr
    found = json.loads(again.stdout)
    assert [len(row["scores"]) for row in found["trials"]] == [40, 40]
    whole = [w if not w.startswith("--out") else f"--out={tmp_path / 'whole'}" for w in words]
    unkilled = json.loads(subprocess.run(whole, capture_output=True, text=True).stdout)
    assert without_times(found) == without_times(unkilled)


@pytest.mark.slow
def test_workers_run_trials_of_a_chief(tmp_path):
    flags = [*FLAGS, "--epochs=2", "--trials=6", "--engine=random", "--search=learning_rate"]
    words = [sys.executable, "-m", "scripts", "tune", "classification", *flags, "--json"]
    words += [f"--out={tmp_path / 'search'}", f"--chief=127.0.0.1:{rendezvous.free_port()}"]
    roles = [["--workers=0"], ["--worker=one"], ["--worker=two"]]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*words, *role], **quiet) for role in roles]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len(json.loads(outputs[0][0])["trials"]) == 6
    for _, err in outputs[1:]:
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
    "sequence": {"dataset": "mackey_glass", "length": 8, "stride": 200, "units": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_search_of_every_task(tmp_path, name):
    task = tasks.get(name)(**TINY[name], epochs=1)
    found = search(tmp_path, task, search="learning_rate=1e-4..1e-3", trials=2)
    assert [row["status"] for row in found["trials"]] == ["completed"] * 2
