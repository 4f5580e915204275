"""Predict: what is in these pictures?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import zoo
from tasks.data import batches, readers
from tasks.engine import resume
from tasks.report import metrics
from zoo import files
from zoo.errors import UsageError
from zoo.lazy import keras, np

BATCH = 32


@dataclass(frozen=True)
class Classifier:
    """A model with all that is needed to use it.

    Attributes:
        model: a `keras.Model` from images to logits.
        classes: name of each class, in label order; numbers where nobody gave names.
        resize: how an image is brought to the model's size.
        name: of the model, for people.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    resize: str
    name: str

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images that the model takes."""
        return self.model.input_shape[1:]

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        height, width, channels = self.image_shape
        colour = "grey" if channels == 1 else "RGB"
        return f"{self.resize} to {height} x {width}, bilinear with antialiasing, {colour}"


def open_classifier(target, weights=None):
    """Finds the classifier that `target` means.

    Args:
        target: a run's folder, a `.keras` file, or a zoo name with a tag, such as
            `resnet50.imagenet`.
        weights: a weights file in place of the tag's source.

    Returns:
        A `Classifier`.

    Raises:
        UsageError: there is no such thing, or it is no classifier of images.
    """
    path = Path(target)
    if path.is_dir():
        if not (path / resume.MODEL).exists():
            raise UsageError(f"{path} holds no finished run: it has no {resume.MODEL}")
        path = path / resume.MODEL
    if path.is_file():
        return _from_file(path, weights)
    if path.suffix == ".keras" or len(path.parts) > 1:
        raise UsageError(f"no model file and no run's folder at {target}")
    spec = zoo.spec(str(target))
    if spec.weights is None:
        tags = zoo.names(f"{spec.architecture}.*")
        hint = f"; {' and '.join(tags)} have learned" if tags else ""
        raise UsageError(f"{target} has random weights and knows nothing yet{hint}")
    model = zoo.build(spec.name, weights=weights)
    return Classifier(model, zoo.class_names(spec.weights.classes), spec.weights.resize, spec.name)


def predict(target, images, *, top=5, weights=None):
    """Names what is in some images.

    Args:
        target: what `open_classifier` takes, or a `Classifier`.
        images: paths of images, or of folders of them.
        top: how many classes to give for each.
        weights: a weights file in place of a tag's source.

    Returns:
        One dict per image, in order: `path`, and either `classes`, a list of `{"name",
        "probability"}` with the most likely first, or `error`, why it could not be read.

    Raises:
        UsageError: no such model, or no such image.
    """
    paths = list(_expand(images))
    if not isinstance(target, Classifier):
        target = open_classifier(target, weights)
    answers = []
    for start in range(0, len(paths), BATCH):
        answers += _predict_batch(target, paths[start : start + BATCH], top)
    return answers


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
    classes = tuple(about.get("classes", numbers))
    return Classifier(model, classes, about.get("resize", "stretch"), str(path))


def _expand(images):
    """Yields the paths of images, those in a folder in order of name."""
    for image in images:
        path = Path(image)
        if path.is_dir():
            found = sorted(inner for inner in path.rglob("*") if readers.is_image(inner))
            if not found:
                raise UsageError(f"no images in {path}")
            yield from found
        elif path.exists():
            yield path
        else:
            raise UsageError(f"no image at {path}")


def _predict_batch(classifier, paths, top):
    answers, images = [], []
    for path in paths:
        answers.append({"path": str(path)})
        try:
            images.append(readers.image(path, classifier.image_shape, classifier.resize))
        except readers.UnreadableImage as error:
            answers[-1]["error"] = str(error)
    if not images:
        return answers
    model = batches.without_xla(classifier.model)
    sure = metrics.probabilities(model.predict(np.stack(images), verbose=0))
    rows = iter(sure)
    for answer in answers:
        if "error" not in answer:
            row = next(rows)
            best = np.argsort(-row, kind="stable")[:top]
            answer["classes"] = [
                {"name": classifier.classes[i], "probability": float(row[i])} for i in best
            ]
    return answers
