"""Training from Python, on a named data set, on arrays or on a pipeline."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.api import keras_callbacks
from tasks.api.run import Run
from tasks.data import in_memory
from tasks.engine import resume
from tasks.engine.flags import rename_former_flags
from tasks.engine.task import Task, tasks
from tasks.runs import cross_validation, default_folder
from zoo.errors import UsageError, unknown_name_error

if TYPE_CHECKING:
    import keras

IN_MEMORY_TASK = "classification"  # the task that trains on arrays


def finetune(
    model: str,
    data: str | os.PathLike[str] | Iterable[Any],
    *,
    validation: Iterable[Any] | None = None,
    test: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str = "",
    **flags: Any,
) -> Run:
    """Fine-tunes a pretrained classifier, as `zoo finetune` does.

    Called again after an interruption, with the same data and flags, it resumes the run; if the
    run is finished, it returns it.

    Args:
        model: Name of a zoo model, such as `resnet50.imagenet`.
        data: A data set as in `--dataset`: a folder of class folders, a CSV file, `tfds:NAME`; or
            the training data as `(images, labels)`, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a PyTorch `DataLoader` or another iterable of batches of such
            pairs, which is read once into memory. Images are `(count, height, width, channels)`
            with values in [0, 255], or floating-point values in [0, 1]; labels are class indices
            or names `(count,)`, or rows of 0 and 1 `(count, classes)`.
        validation, test: Further data of the same kind if `data` is not a name. A tenth of the
            training images each if they are missing.
        class_names: Names of the classes of such data, in the order of the indices.
        out: The run folder; by default `runs/NAME`, named after the flags.
        callbacks: `keras.callbacks.Callback` objects; docs/python.md states when each method is
            called.
        track: `mlflow`, `wandb` or `trackio`, to log the run there too.
        **flags: Flags of `zoo finetune`, such as `epochs=5`; dashes are underscores.

    Returns:
        The finished `Run`.

    Raises:
        UsageError: A flag, the data or the folder do not fit, as for the command.
    """
    return train(
        IN_MEMORY_TASK,
        data,
        validation=validation,
        test=test,
        class_names=class_names,
        out=out,
        callbacks=callbacks,
        track=track,
        model=model,
        **flags,
    )


def train(
    task: str | Task,
    data: str | os.PathLike[str] | Iterable[Any] | None = None,
    *,
    validation: Iterable[Any] | None = None,
    test: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str = "",
    **flags: Any,
) -> Run:
    """Trains a model for a task, as `zoo train` does.

    Args:
        task: Name of a task, such as `segmentation`, or a `Task`, whose values `flags` replace.
        data: As for `finetune`; tasks other than classification take names only. By default the
            flag `dataset`.
        validation, test, class_names, out, callbacks, track: As for `finetune`.
        **flags: Flags of `zoo train TASK`, such as `epochs=5`; dashes are underscores.

    Returns:
        The finished `Run`.

    Raises:
        UsageError: A flag, the data or the folder do not fit, as for the command.
    """
    others = {"validation": validation, "test": test}
    flags = _with_data(task, data, others, class_names, flags)
    made = make_task(task, flags)
    folder = Path(out) if out is not None else default_folder.default_folder(made)
    finished = (folder / resume.REPORT).exists()
    with keras_callbacks.keras_callbacks_scope([] if finished else callbacks):
        cross_validation.train(made, folder, track=track)
    return Run(folder)


def cross_validate(
    task: str | Task,
    data: str | os.PathLike[str] | Iterable[Any],
    *,
    folds: int = 5,
    class_names: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    track: str = "",
    **flags: Any,
) -> list[Run]:
    """Trains a run per fold, as `zoo train TASK --folds K` does.

    Args:
        task, data, class_names, track: As for `train`.
        folds: The number of folds, each of which is the test split of one run.
        out: The folder of the runs; by default `runs/NAME-K-folds`.
        **flags: Flags of `zoo train TASK`; dashes are underscores.

    Returns:
        The finished runs; `out/folds.json` has the mean and the spread of their figures.

    Raises:
        UsageError: A flag, the data or the folder do not fit, as for the command.
    """
    made = make_task(task, _with_data(task, data, {}, class_names, flags))
    folder = Path(out or f"{default_folder.default_folder(made)}-{folds}-folds")
    record = cross_validation.cross_validate(made, folds, folder, track=track)
    return [Run(row["out"]) for row in record["folds"]]


def _with_data(task, data, others, class_names, flags):
    """Returns the flags with the data set, which is registered if it is in memory."""
    given = {name: value for name, value in others.items() if value is not None}
    if data is None or isinstance(data, str | os.PathLike):
        if extra := [*given, *(["class_names"] if class_names is not None else [])]:
            raise UsageError(
                f"{extra[0]} is for data in memory; slices of a named data set are "
                "train_split, validation_split and test_split"
            )
        return flags if data is None else {**flags, "dataset": os.fspath(data)}
    name = task.name if isinstance(task, Task) else tasks.get(task).name
    if name != IN_MEMORY_TASK:
        raise UsageError(
            f"{name} takes the name or the folder of a data set, not {type(data).__name__}"
        )
    return {**flags, "dataset": in_memory.register({"train": data, **given}, class_names)}


def make_task(task, flags):
    """Returns a task, or the one of that name, with the values of flags.

    Raises:
        UsageError: There is no such task or flag, or a value is out of range.
    """
    make = type(task) if isinstance(task, Task) else tasks.get(task)
    flags = rename_former_flags(make, {name: _to_flag(value) for name, value in flags.items()})
    known = [field.name for field in dataclasses.fields(make)]
    if unknown := sorted(flags.keys() - set(known)):
        raise unknown_name_error(f"flag of {make.name}", unknown[0], known)
    return dataclasses.replace(task, **flags) if isinstance(task, make) else make(**flags)


def _to_flag(value):
    """Returns a path, a NumPy scalar, or a dict or list for YAML, as the command line has it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    is_scalar = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if is_scalar else value
