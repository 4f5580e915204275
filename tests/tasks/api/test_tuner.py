"""A task as a hypermodel of keras-tuner."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest

import tasks
from zoo.errors import UsageError

keras_tuner = pytest.importorskip("keras_tuner")
SAMPLE = {
    "train_split": "train[:64]",
    "validation_split": "train[64:96]",
    "test_split": "test[:32]",
}


@pytest.mark.check
def test_keras_tuner_searches_over_runs(tmp_path):
    hypermodel = tasks.HyperModel(
        "classification",
        model="lenet5",
        epochs=2,
        search="learning_rate=1e-4..1e-2,optimizer=adam|sgd",
        out=str(tmp_path / "runs"),
        **SAMPLE,
    )
    tuner = keras_tuner.BayesianOptimization(
        hypermodel, objective="val_accuracy", max_trials=3, directory=tmp_path, seed=0
    )
    tuner.search(verbose=0)
    runs = {folder: tasks.Run.open(folder) for folder in (tmp_path / "runs").iterdir()}
    best = max(max(run.history["val_accuracy"]) for run in runs.values())
    (trial,) = tuner.oracle.get_best_trials(1)
    assert trial.score == pytest.approx(best)
    flags = trial.hyperparameters.values
    (chosen,) = (
        run
        for run in runs.values()
        if run.task.optimizer == flags["optimizer"]
        and np.isclose(run.task.learning_rate, flags["learning_rate"])
    )
    (model,) = tuner.get_best_models(1)
    for mine, other in zip(model.get_weights(), chosen.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.fixture
def hypermodel(tmp_path):
    options = {"model": "mlp", "epochs": 2, "search": "learning_rate=1e-4..1e-2"}
    return tasks.HyperModel("classification", out=str(tmp_path / "runs"), **options, **SAMPLE)


def test_callbacks_are_called_as_by_fit(hypermodel, tmp_path):
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")  # opens its file before the first epoch
    tuner = keras_tuner.RandomSearch(
        hypermodel, objective="val_accuracy", max_trials=1, directory=tmp_path
    )
    hp = keras_tuner.HyperParameters()
    hypermodel.task_of(hp)
    model = hypermodel.build(hp)
    path = str(tmp_path / "{epoch}-{val_loss:.2f}.weights.h5")
    saved = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    found = hypermodel.fit(hp, model, callbacks=[log, saved], verbose=0, epochs=3)
    assert len([*tmp_path.glob("*.weights.h5")]) == 3
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["epoch"]) for row in rows] == [0, 1, 2]  # as Hyperband sets them
    assert max(float(row["val_accuracy"]) for row in rows) == pytest.approx(found["val_accuracy"])
    with pytest.raises(keras_tuner.errors.FatalTypeError, match="takes no data for a task"):
        tuner.search(np.zeros((4, 28, 28, 1)), np.zeros(4))
    with pytest.raises(keras_tuner.errors.FatalTypeError, match="takes no batch_size for a task"):
        tuner.search(batch_size=3)


def test_ranges_are_those_of_the_task_or_as_passed():
    hypermodel = tasks.HyperModel("classification", model="lenet5", learning_rate=0.01)
    hp = keras_tuner.HyperParameters()
    task = hypermodel.task_of(hp)
    assert "learning_rate" not in hp.values
    assert {"augment", "resize"} <= {*hp.values}
    assert task.learning_rate == 0.01
    assert task.augment == hp.get("augment")
    with pytest.raises(UsageError, match="no flag"):
        tasks.HyperModel("classification", search="learning_rat=1e-4..1")
