"""A classifier with all that is needed to use it: found by name, by folder or by file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import zoo
from tasks.engine import resume
from tasks.report import metrics
from zoo import files
from zoo.errors import UsageError
from zoo.lazy import keras, np

COLOURS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}
TRUE_FROM = 0.5  # probability from which a class of several that may be true is named


@dataclass(frozen=True)
class Classifier:
    """A model with all that is needed to use it.

    Attributes:
        model: a `keras.Model` from images to logits.
        classes: name of each class, in label order; numbers where nobody gave names.
        resize: how an image is brought to the model's size.
        name: of the model, for people.
        multi_label: whether several classes may be true of an image at once, or none.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    resize: str
    name: str
    multi_label: bool = False

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images that the model takes."""
        return self.model.input_shape[1:]

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        height, width, channels = self.image_shape
        colour = COLOURS.get(channels, f"{channels} channels")
        return f"{self.resize} to {height} x {width}, bilinear with antialiasing, {colour}"

    def named(self, logits, top):
        """Returns the classes of each image, the most likely first.

        Args:
            logits: float `(images, classes)`.
            top: how many classes to give. A model whose images may be of several classes names
                all that have a probability of `TRUE_FROM` or more, and one at least.

        Returns:
            For each image a list of `{"name", "probability"}`. Probabilities are in [0, 1]:
            softmax, or of a multi-label model sigmoids.
        """
        rows = _sigmoid(logits) if self.multi_label else metrics.probabilities(logits)
        return [self._best(row, top) for row in rows]

    def _best(self, row, top):
        count = max(1, int((row >= TRUE_FROM).sum())) if self.multi_label else top
        best = np.argsort(-row, kind="stable")[:count]
        return [{"name": self.classes[i], "probability": float(row[i])} for i in best]


def open_classifier(target, weights=None):
    """Opens the classifier that `target` means.

    Args:
        target: what `find` takes.
        weights: a weights file in place of the source of a zoo name.

    Returns:
        A `Classifier`.

    Raises:
        UsageError: there is no such thing, or it is no classifier of images.
    """
    found = find(target)
    if isinstance(found, Path):
        return _from_file(found, weights)
    model = zoo.build(found.name, weights=weights)
    names = zoo.class_names(found.weights.classes)
    return Classifier(model, names, found.weights.resize, found.name)


def find(target):
    """Returns the path of a model file or the `Spec` of a zoo name, without loading anything.

    Args:
        target: a run's folder, a `.keras` file, or a zoo name with a tag, such as
            `resnet50.imagenet`.

    Raises:
        UsageError: there is no such thing, or it has not learned anything.
    """
    path = Path(target)
    if path.is_dir():
        return resume.model_in(path)
    if path.is_file():
        return path
    if path.suffix == ".keras" or len(path.parts) > 1:
        raise UsageError(f"no model file and no run's folder at {target}")
    spec = zoo.spec(str(target))
    if spec.weights is None:
        tags = zoo.names(f"{spec.architecture}.*")
        hint = f"; {' and '.join(tags)} have learned" if tags else ""
        raise UsageError(f"{target} has random weights and knows nothing yet{hint}")
    return spec


def _from_file(path, weights):
    if weights:
        raise UsageError(f"{path} has its own weights; --weights goes with a zoo name")
    model, about = files.load(path)
    shape = model.input_shape
    if not (isinstance(shape, tuple) and len(shape) == 4 and len(model.output_shape) == 2):
        raise UsageError(
            f"{path} is no classifier of images: it maps {shape} to {model.output_shape}"
        )
    numbers = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    return Classifier(
        model,
        tuple(about.get("classes", numbers)),
        about.get("resize", "stretch"),
        str(path),
        bool(about.get("multi_label", False)),
    )


def _sigmoid(logits):
    return 0.5 + 0.5 * np.tanh(np.asarray(logits, "float64") / 2)  # overflows nowhere
