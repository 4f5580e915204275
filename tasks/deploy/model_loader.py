"""Loads the predictor of a run folder, of a model file or of a pretrained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tasks
import zoo
from tasks.data import image_stats
from tasks.engine import resume
from tasks.inference import export_cache, exported_file, threads
from zoo import hub, model_files
from zoo.errors import UsageError
from zoo.paths import special_file_type

# The kind of model that a file without metadata is taken for, such as one saved by plain Keras.
DEFAULT_KIND = "classifier"


def load_predictor(target, weights=None, *, cached=False, adapt=None):
    """Loads a model with its class names and preprocessing.

    Args:
        target: a run folder, a `.keras` file, a pretrained model, as for `find_model`; or an
            exported `.onnx`, `.tflite` or `.xml` file.
        weights: a weights file to load instead of the published weights of a pretrained model.
        cached: whether an export that is kept in a run folder may stand for its model.
        adapt: function from the `keras.Model` of a classifier's file to the model to use.

    Returns:
        A `tasks.inference.predictor.Predictor`.

    Raises:
        UsageError: there is no such model, or no predictor for its task.
    """
    found = find_model(target)
    if not isinstance(found, Path):
        return _task_of_kind(found.kind).predictor.from_spec(found, weights)
    if weights:
        raise UsageError(f"{found} has its own weights; --weights is for pretrained models only")
    if exported_file.is_exported(found):
        streams = threads.num_workers()
        return _exported_predictor(found, exported_file.open_file(found, streams=streams))
    is_cached = cached and Path(target).is_dir()
    if is_cached and (opened := export_cache.open_cached(found, threads.num_workers())):
        return _exported_predictor(found, dataclasses.replace(opened, path=found))
    model, metadata = model_files.load(found)
    task = _task_of_file(found, metadata)
    if adapt and task is _task_of_kind(DEFAULT_KIND):
        model = adapt(model)
    predictor = task.predictor.from_file(found, model, metadata)
    object.__setattr__(predictor, "bits", image_stats.stated_bits(metadata, found))
    return predictor


def _exported_predictor(path, opened):
    """Returns the predictor of an exported file, without importing TensorFlow.

    Raises:
        UsageError: it was not written by `zoo export`.
    """
    if "task" not in opened.metadata:
        raise UsageError(f"{path} does not record its task; use a file of zoo export")
    predictor = _task_of_file(path, opened.metadata).predictor.from_export(opened)
    object.__setattr__(predictor, "bits", image_stats.stated_bits(opened.metadata, path))
    return predictor


def find_model(target):
    """Returns the path of a model file or the `Spec` of a pretrained model, without loading it.

    Args:
        target: a run folder, a `.keras` file, the name of a pretrained model, such as
            `resnet50.imagenet`, or of a model on the Hugging Face Hub, `hf://USER/NAME`.

    Raises:
        UsageError: there is no such model, or it has no pretrained weights.
    """
    if hub.is_hub_name(target):
        return hub.fetch(target)
    path = Path(target)
    if path.is_dir():
        return resume.model_path(path)
    if path.is_file():
        return path
    if kind := special_file_type(path):
        raise UsageError(f"{target} is {kind}, not a model file")
    if path.suffix == ".keras" or len(path.parts) > 1:
        raise UsageError(f"{target} does not exist; pass a model file, run folder or model name")
    spec = zoo.spec(str(target))
    if spec.weights is None:
        tags = zoo.names(f"{spec.architecture}.*")
        hint = f"; pretrained: {', '.join(tags)}" if tags else "; train it first"
        raise UsageError(f"{target} has random weights{hint}")
    if not _task_of_kind(spec.kind):
        raise UsageError(f"{target} is a {spec.kind}; train it first, then pass the run folder")
    return spec


def input_finder(target):
    """Returns how the inputs of a model are found, if it takes something other than images.

    Args:
        target: as for `find_model`.

    Returns:
        `None`, or the function `find_inputs(words, metadata)` of the task's predictor module, which
        returns the inputs for `Predictor.read`, and the metadata of the model file.

    Raises:
        UsageError: there is no such model.
    """
    found = find_model(target)
    if not isinstance(found, Path) or found.suffix != ".keras":
        return None
    metadata = model_files.read_metadata(found)
    name = metadata.get("task")
    predictor = tasks.get(name).predictor if name in tasks.names() else None
    find = getattr(predictor, "find_inputs", None)
    return find and (find, metadata)


def _task_of_kind(kind):
    """Returns the task class that predicts with pretrained models of a kind, or `None`."""
    classes = [tasks.get(name) for name in tasks.names()]
    classes = [task for task in classes if getattr(task, "kind", None) == kind]
    return next((task for task in classes if hasattr(task.predictor, "from_spec")), None)


def _task_of_file(path, metadata):
    """Returns the task class of a model file.

    Raises:
        UsageError: the task is unknown, or its models do not predict from images.
    """
    name = metadata.get("task")
    if name is None:
        return _task_of_kind(DEFAULT_KIND)
    if name not in tasks.names():
        known = ", ".join(tasks.names())
        raise UsageError(f"{path} was trained for the unknown task {name!r}; known tasks: {known}")
    task = tasks.get(name)
    if task.predictor is None:
        raise UsageError(
            f"{path} is a {name} model, which does not take images; use `{task.command}`"
        )
    return task
