"""Trackers: what MLflow's file store holds of a run, also one that was interrupted."""

from __future__ import annotations

import json
import sys

import pytest

import tasks
from tasks.engine import callbacks, recipes, resume
from tasks.runs import tracking
from zoo.errors import UsageError

ROWS = [
    {"epoch": 1, "loss": 2.0, "val_accuracy": 0.25, "learning_rate": 0.1},
    {"epoch": 2, "loss": 1.0, "val_accuracy": 0.5, "learning_rate": float("nan")},
]


def train(task, out, rows, *, interrupt=False):
    """Calls what a run calls after each epoch; writes the report."""
    out.mkdir(exist_ok=True, parents=True)
    with tracking.tracked("mlflow", task, out):
        for number in range(1, len(rows) + 1):
            for listener in callbacks.epoch_listeners:
                listener(rows[:number])
        if interrupt:
            raise KeyboardInterrupt
        (out / "report.html").write_text("<p>report</p>")
        (out / resume.REPORT).write_text(
            json.dumps(
                {"task": task.name, "flags": {}, "figures": {"accuracy": 0.75}, "environment": {}}
            )
        )


def test_file_store_of_mlflow_has_flags_history_and_figures(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    task, out = tasks.get("classification")(model="lenet5", epochs=2), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(task, out, ROWS[:1], interrupt=True)
    assert not callbacks.epoch_listeners
    train(task, out, ROWS)
    client = mlflow.MlflowClient((tmp_path / tracking.STORE).as_uri())
    [run] = client.search_runs([client.get_experiment_by_name(tracking.PROJECT).experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["model"] == "lenet5"
    losses = {x.step: x.value for x in client.get_metric_history(run.info.run_id, "loss")}
    assert losses == {1: 2.0, 2: 1.0}
    assert run.data.metrics["test_accuracy"] == 0.75
    assert [x.path for x in client.list_artifacts(run.info.run_id)] == ["report.html"]
    train(task, out, ROWS)  # finished: nothing is logged again
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 3


def test_a_refused_run_is_not_logged(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError, match="no split"):
        tasks.train(
            "classification", dataset="fashion_sample", train_split="none", model="mlp",
            out=tmp_path / "run", track="mlflow",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert not callbacks.epoch_listeners
    assert not callbacks.keras_callbacks


def test_a_resumed_run_goes_on_in_its_trackers(tmp_path, monkeypatch):
    logged = []

    class Recorder:
        def __init__(self, out, flags, run_id):
            self.id = run_id or "first"
            logged.append(self.id)

        def log(self, values, step):
            logged.append(step)

        def finish(self, done):
            logged.append(done)

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", Recorder)
    task, out = tasks.get("classification")(model="lenet5", epochs=2), tmp_path / "run"
    recipes.write_recipe(out, task)

    def interrupted():
        with tracking.tracked("mlflow", task, out):
            callbacks.epoch_listeners[-1](ROWS[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    def goes_on(task, out):
        callbacks.epoch_listeners[-1](ROWS)
        report = {"task": task.name, "flags": {}, "figures": {"accuracy": 0.75}, "environment": {}}
        (out / resume.REPORT).write_text(json.dumps(report))

    monkeypatch.setattr("tasks.api.run.trainer.train", goes_on)
    tasks.Run.open(out).resume()
    assert logged == ["first", 1, False, "first", 2, 2, True]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mlflow": 5}', "\xff"])
def test_a_damaged_record_is_one_line(text, tmp_path):
    task = tasks.get("classification")()
    (tmp_path / tracking.RECORD).write_text(text, encoding="latin-1")
    with (
        pytest.raises(UsageError, match=r"tracked\.json") as caught,
        tracking.tracked("mlflow", task, tmp_path),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_trackers_are_refused(tmp_path, monkeypatch):
    task = tasks.get("classification")()
    with (
        pytest.raises(UsageError, match="did you mean mlflow"),
        tracking.tracked("mlfow", task, tmp_path),
    ):
        pass

    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    with (
        pytest.raises(UsageError, match=r"keras-zoo\[trackio\]"),
        tracking.tracked("trackio", task, tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())
