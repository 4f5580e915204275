"""The predictor of classifiers: class names and probabilities of an image."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import zoo
from tasks.classification import metrics, saved_classifier
from tasks.inference.exported_file import ExportedNetwork
from tasks.inference.predictor import Predictor, describe_channels
from zoo.lazy import LazyModule, keras, np

methods = LazyModule("tasks.explain.methods")
overlays = LazyModule("tasks.explain.overlays")

PROBABILITY_THRESHOLD = 0.5  # from which a multi-label classifier predicts a class


@dataclass(frozen=True)
class ClassificationPredictor(Predictor):
    """A classifier with its class names and preprocessing.

    Attributes:
        model: A `keras.Model` from images to logits `(batch, classes)`.
        classes: The class names, in the order of the logits.
        resize: How an image is resized to the input shape: `stretch`, `crop` or `pad`.
        name: The display name of the model.
        multi_label: Whether an image may have any number of classes.
    """

    model: keras.Model = field(repr=False)
    classes: tuple[str, ...]
    resize: str
    name: str
    multi_label: bool = False

    columns: ClassVar = ("path", "rank", "class", "probability", "error")
    has_explanations: ClassVar = True

    @property
    def image_shape(self):
        """The input shape of the model, `(height, width, channels)`."""
        return self.model.input_shape[1:]

    @property
    def protocol(self):
        """A description of the preprocessing."""
        height, width, channels = self.image_shape
        resize = f"{self.resize} to {height} x {width}, bilinear with antialiasing"
        return f"{resize}, {describe_channels(channels)}"

    def predict(self, images, run, options):
        """Returns one dict per image with `classes`, as returned by `top_classes`, and the path of
        its `explanation`, a heat map over the image, if it is drawn."""
        logits = run(np.stack([image.pixels for image in images]))
        predictions = [{"classes": classes} for classes in self.top_classes(logits, options.top)]
        if options.explain and options.drawings_dir:
            for image, row, prediction in zip(images, logits, predictions, strict=True):
                saliency = self.saliency(image.pixels, int(np.argmax(row)))
                path = options.drawings_dir / f"{image.stem}-heat-map.png"
                overlays.write(image.pixels, saliency, path)
                prediction["explanation"] = str(path)
        return predictions

    @functools.cached_property
    def explained(self):
        """The model as `tasks.explain.methods` takes it."""
        if self.is_exported:
            return methods.Explained(None, None, run=self.model, multi_label=self.multi_label)
        return methods.prepare(self.model, multi_label=self.multi_label)

    def saliency(self, pixels, label):
        """Returns the saliency map of a class, by the method that suits the model.

        Args:
            pixels: uint8 `(height, width, channels)`.
            label: The index of the class.
        """
        method = methods.METHODS[methods.default_method(self.explained)]
        return method(self.explained, pixels[None], [label])[0]

    def text_lines(self, prediction):
        """Returns one line per predicted class, and one for the heat map."""
        lines = [f"{found['probability']:6.1%}  {found['name']}" for found in prediction["classes"]]
        drawn = prediction.get("explanation")
        return [*lines, f"heat map: {drawn}"] if drawn else lines

    def csv_rows(self, prediction):
        """Returns rank, name and probability of each predicted class."""
        return [
            (rank, found["name"], f"{found['probability']:.6g}")
            for rank, found in enumerate(prediction["classes"], 1)
        ]

    def top_classes(self, logits, top):
        """Returns the most likely classes of each image.

        Args:
            logits: float `(images, classes)`.
            top: The number of classes to return. A multi-label model ignores it: it returns all
                classes with a probability of `PROBABILITY_THRESHOLD` or more, and at least one.

        Returns:
            For each image a list of dicts with `name` and `probability`, the most likely class
            first. Probabilities are in [0, 1], by softmax, or by sigmoid for a multi-label model.
        """
        return [self._top(row, top) for row in self.probabilities(logits)]

    def probabilities(self, logits):
        """Returns probabilities, float64 `(images, classes)`, for logits."""
        return _sigmoid(logits) if self.multi_label else metrics.softmax(logits)

    def _top(self, row, top):
        count = max(1, int((row >= PROBABILITY_THRESHOLD).sum())) if self.multi_label else top
        indices = np.argsort(-row, kind="stable")[:count]
        return [{"name": self.classes[i], "probability": float(row[i])} for i in indices]


def from_spec(spec, weights=None):
    """Returns the predictor of a pretrained classifier of the zoo.

    Args:
        spec: The spec of a name with a weights tag.
        weights: A file of weights, in place of the source of the tag.
    """
    model = zoo.build(spec.name, weights=weights)
    return ClassificationPredictor(
        model, zoo.class_names(spec.weights.classes), spec.weights.resize, spec.name
    )


def from_file(path, model, about):
    """Returns the predictor of a saved classifier.

    Args:
        path: The path of the file.
        model: The `keras.Model` of the file.
        about: The metadata of the file.

    Raises:
        UsageError: The model is not an image classifier.
    """
    found = saved_classifier.read(path, model, about)
    return ClassificationPredictor(
        found.model, found.classes, found.resize, str(path), found.multi_label
    )


def from_export(opened):
    """Returns the predictor of an exported classifier.

    Args:
        opened: its `exported_file.ExportedFile`.
    """
    about = opened.metadata
    multi_label = bool(about.get("multi_label", False))

    def logits(outputs):
        probabilities = np.clip(np.asarray(outputs["probabilities"], "float64"), 1e-30, 1.0)
        rest = np.maximum(1 - probabilities, 1e-16) if multi_label else 1.0
        return np.log(probabilities / rest)

    network = ExportedNetwork(opened, logits)
    classes = tuple(about["classes"])
    return ClassificationPredictor(network, classes, about["resize"], str(opened.path), multi_label)


def _sigmoid(logits):
    return 0.5 + 0.5 * np.tanh(np.asarray(logits, "float64") / 2)  # cannot overflow
