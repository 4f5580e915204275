"""Cross-validation: a run per fold, and the mean and spread of their figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tasks
from scripts.__main__ import main
from tasks.runs import cross_validation
from zoo.errors import UsageError


def test_mean_and_spread_are_those_of_the_runs():
    rows = [
        {"figures": {"accuracy": value, "accuracy_low": 0.1, "auroc": 1.0}} for value in (0.5, 0.8)
    ]
    del rows[1]["figures"]["auroc"]
    found = cross_validation.summary(rows)
    assert found["mean"] == {"accuracy": pytest.approx(0.65)}
    assert found["std"] == {"accuracy": pytest.approx(np.std([0.5, 0.8], ddof=1))}


@pytest.mark.parametrize(
    ("task", "count", "message"),
    [
        (tasks.get("classification")(test_split="test[:10]"), 3, "leave out --test-split"),
        (tasks.get("classification")(), 1, "2 or more"),
        (tasks.get("dqn")(), 3, "no test split"),
    ],
)
def test_tasks_without_folds_are_refused(task, count, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        cross_validation.cross_validate(task, count, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.check
def test_runs_side_by_side_test_each_image_once(tmp_path, capsys):
    out = tmp_path / "folds"
    words = ["finetune", "lenet5", "fashion_sample", "--train-split", "train[:90]", "--epochs", "1"]
    words += ["--folds", "2", "--balance", "sample", "--out", str(out), "--json"]
    assert not main(words)
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "folds.json").read_text("utf-8"))
    images = []
    for fold in (1, 2):
        run = tasks.Run.open(out / f"fold-{fold}")
        assert run.figures == found["folds"][fold - 1]["figures"]
        [table] = (run.out / "predictions").glob("*.csv")
        images += table.read_text("utf-8").splitlines()[1:]
    assert len(images) == 90
    assert "fold-2" in (out / "report.html").read_text("utf-8")
    times = [path.stat().st_mtime_ns for path in out.glob("fold-*/report.json")]
    assert not main(words)  # nothing is trained again
    assert times == [path.stat().st_mtime_ns for path in out.glob("fold-*/report.json")]
