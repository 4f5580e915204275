"""Tasks as hypermodels, for those who call keras-tuner themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner

from tasks.api.run import Run
from tasks.api.training import make_task
from tasks.engine import trainer
from tasks.engine.task import Task
from tasks.runs import default_folder
from tasks.tuning import space as spaces
from zoo.lazy import keras

OPTIONS = ("epochs", "initial_epoch", "verbose")  # of `fit`, besides `callbacks`


class HyperModel(keras_tuner.HyperModel):
    """A task with ranges of its flags, such as
    `keras_tuner.RandomSearch(tasks.HyperModel("classification"), objective="val_accuracy")`.

    `tuner.search()` needs no data: the task has them. Each trial is a run in a folder of its own.

    Args:
        task: Name of a task, or a `tasks.Task`.
        search: The flags to search, as in `--search`: `learning_rate=1e-4..1e-1,batch_size=16|32`;
            by default all ranges that the task declares.
        out: The parent of the run folders.
        **flags: Flags that all trials have in common.

    Raises:
        UsageError: A flag or a range does not fit the task.
    """

    def __init__(
        self, task: str | Task, *, search: str = "", out: str = "runs", **flags: Any
    ) -> None:
        super().__init__()
        self.task = make_task(task, flags)
        self.out = Path(out)
        self.space = spaces.make_space(self.task, search, tuple(flags))

    def task_of(self, hp: keras_tuner.HyperParameters) -> Task:
        """Returns the task with the values of hyperparameters."""
        for name, span in self.space.ranges.items():
            spaces.add_range(hp, name, span, self.space.kinds[name])
        return dataclasses.replace(self.task, **self.space.flags(hp.values))

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns the model of the task with the values of hyperparameters, not yet trained."""
        task = self.task_of(hp)
        return task.build(task.load())

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> dict[str, float]:
        """Trains a run with the values of hyperparameters; returns the figures of its best epoch.

        `model` has the trained weights afterwards, for `tuner.get_best_models`.

        Args:
            hp: The values.
            model: As returned by `build`.
            *args: None: the task has the data.
            callbacks: Called after the training, with the row of the history of each epoch.
            **options: Arguments of `keras.Model.fit`: `epochs`, which `keras_tuner.Hyperband` sets.

        Raises:
            keras_tuner.errors.FatalTypeError: Data or other options were passed to `search`.
        """
        if args or (unknown := sorted(options.keys() - OPTIONS)):
            what = "data" if args else unknown[0]
            raise keras_tuner.errors.FatalTypeError(
                f"search() takes no {what} for a task; pass flags to tasks.HyperModel"
            )
        task = self.task_of(hp)
        if "epochs" in options:
            task = dataclasses.replace(task, epochs=options["epochs"])
        folder = self.out / default_folder.default_folder(task).name
        trainer.train(task, folder)
        run = Run(folder)
        model.set_weights(run.model.get_weights())
        history = run.history
        rows = [
            {name: values[epoch] for name, values in history.items()}
            for epoch in range(len(history["epoch"]))
        ]
        best = rows[0]
        listed = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=len(rows))
        listed.on_train_begin()
        for epoch, row in enumerate(rows):
            best = row if task.better(row, best) else best
            listed.on_epoch_begin(epoch)
            listed.on_epoch_end(epoch, {name: row[name] for name in row if name != "epoch"})
        listed.on_train_end()
        return best
