"""What is exported: a run, a `.keras` file, or a pretrained model of the zoo; and its images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import tasks
import zoo
from tasks.data import class_order, image_io, image_stats, splits
from tasks.deploy import cached_export, model_loader, predict
from tasks.engine import recipes
from tasks.inference import dtype_policies
from tasks.inference.export_model import ExportModel
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import np

NUM_SYNTHETIC = 64


@dataclass(frozen=True)
class Target:
    """A model to export.

    Attributes:
        name: its name or path, for messages.
        exported: the `ExportModel`.
        run: the run folder, or `None`.
        task: the `Task` of the run, or `None`.
    """

    name: str
    exported: ExportModel = field(repr=False)
    run: Path | None = None
    task: object = field(default=None, repr=False)
    _sources: dict = field(default_factory=dict, repr=False)

    def source(self, dataset=""):
        """Returns the `dataset.Source` of the run, or of another data set by name.

        Raises:
            UsageError: the data set is missing.
        """
        name = dataset or self.task.dataset
        if name not in self._sources:
            source = self.exported.data.load(self.task, name)
            self._sources[name] = class_order.named_as(source, self.exported.metadata["classes"])
        return self._sources[name]


def load(target, weights=None, calibration="", data_dir=""):
    """Loads what is to be exported.

    Args:
        target: a run folder, a `.keras` file, or the name of a pretrained model.
        weights: a weights file for a pretrained model.
        calibration: a data set with images of the same classes, for a model without a run.
        data_dir: the folder of TFDS data sets; by default that of the run.

    Raises:
        UsageError: there is no such model, or its task exports none.
    """
    name, path = str(target), Path(target)
    found = model_loader.find_model(target)
    if isinstance(found, Path):
        if weights:
            raise UsageError(f"{found} has its own weights; --weights is for pretrained models")
        model, about = model_files.load(found)
    else:
        model = zoo.build(found.name, weights=weights)
        classes = zoo.class_names(found.weights.classes)
        about = {"classes": list(classes), "resize": found.weights.resize}
    model = dtype_policies.in_float32(model)  # converters and processors differ in bfloat16
    exported = cached_export.export_model(model, about, name)
    exported.metadata["model"] = about.get("model", name if not path.exists() else path.name)
    exported.metadata["source"] = path.name
    run = path if path.is_dir() else None
    task = _task(run, about, found) if run else None
    if task is None and calibration and exported.takes_images:
        own = {"resize": exported.metadata["resize"], "dataset": calibration}
        task = tasks.get(exported.metadata["task"])(**own)
    if task is not None and data_dir:
        task = dataclasses.replace(task, data_dir=data_dir)
    return Target(name, exported, run, task)


def _task(run, about, path):
    """Returns the task of a run, or `None` if the folder has no recipe."""
    recipe = run / recipes.RECIPE
    if not recipe.exists():
        return None
    task = recipes.task_from_recipe(recipes.read_recipe(recipe))
    task = dataclasses.replace(task, strategy="auto")  # the run may have used other devices
    if hasattr(task, "image_bits"):
        task = task.with_bits(image_stats.stated_bits(about, path))
    return task


def split_examples(target, role, limit, dataset=""):
    """Returns decoded examples of a split of the run, spread evenly over it.

    Args:
        target: a `Target` of a run whose `ExportModel` has a `SplitReader`.
        role: `train`, `validation` or `test`.
        limit: the maximum number of examples.
        dataset: another data set, whose split of that role is used.

    Returns:
        `decoding.Examples`, or `None` if there is no such split.

    Raises:
        UsageError: the data set is missing, or has other classes.
    """
    task, reader = target.task, target.exported.data
    source = target.source(dataset)
    names = () if dataset else task.slices()
    part = splits.train_val_test_split(source, *names)[splits.ROLES.index(role)]
    if part is None:
        return None
    if len(part) > limit:
        part = part.take(np.linspace(0, len(part) - 1, limit).astype("int64"))
    if task.bits:
        part = image_stats.with_bits(part, task.bits)
    return reader.decode(task, source, part, target.exported)


def comparison_inputs(target, count, images):
    """Returns inputs by name for a comparison with Keras, and where they come from.

    Args:
        target: a `Target`.
        count: the number of rows.
        images: paths of images to use instead of the test split of the run, or empty.

    Raises:
        UsageError: there are no test images.
    """
    exported = target.exported
    if not exported.takes_images:
        return exported.make_inputs(count), "random numbers"
    name = exported.model.inputs[0].name
    if images:
        paths = predict.find_images(images)[:count]
        return {name: _read(exported, paths)}, f"{len(paths)} images of --images"
    if target.task is not None and exported.data is not None:
        try:
            examples = split_examples(target, "test", count)
        except UsageError as error:
            if target.run is None:  # the data set is that of the calibration
                raise
            raise UsageError(
                f"no test images to compare {target.name} with Keras on: {error}; pass some: "
                "--images FOLDER"
            ) from error
        return {name: np.asarray(examples.pixels[np.arange(len(examples))])}, "test split"
    return {name: _synthetic(exported, count)}, "shapes, which are synthetic"


def _read(exported, paths):
    shape, resize = exported.sample_shape, exported.metadata.get("resize", "stretch")
    pixels = []
    for path in paths:
        try:
            pixels.append(image_io.read_image(path, shape, resize))
        except image_io.UnreadableImage as error:
            raise UsageError(f"{path} cannot be read as an image: {error.reason}") from error
    return np.stack(pixels)


def _synthetic(exported, count):
    from tasks.data import sources

    items = sources.load("shapes").splits["test"].items[:count]
    *size, channels = exported.sample_shape
    if channels not in (1, 3):  # such as RGBA, or bands of a satellite
        pixels = np.stack([image_io.read_image(item, (*size, 3)) for item in items])
        return pixels[..., np.arange(channels) % 3]
    return np.stack([image_io.read_image(item, exported.sample_shape) for item in items])
