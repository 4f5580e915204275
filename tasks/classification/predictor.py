"""A classifier with all that is needed to use it: it names what is in an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import zoo
from tasks.classification import metrics
from tasks.inference.predictor import Predictor, describe_channels
from zoo.errors import UsageError
from zoo.lazy import keras, np

PROBABILITY_THRESHOLD = 0.5  # probability from which a class of several that may be true is named


@dataclass(frozen=True)
class ClassificationPredictor(Predictor):
    """A model that names what is in an image.

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

    columns: ClassVar = ("path", "rank", "class", "probability", "error")

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images that the model takes."""
        return self.model.input_shape[1:]

    @property
    def protocol(self):
        """How an image is prepared, in words."""
        height, width, channels = self.image_shape
        how = f"{self.resize} to {height} x {width}, bilinear with antialiasing"
        return f"{how}, {describe_channels(channels)}"

    def predict(self, images, run, options):
        """Returns for each image `classes`, as `named` has them."""
        rows = self.top_classes(run(np.stack([image.pixels for image in images])), options.top)
        return [{"classes": guesses} for guesses in rows]

    def text_lines(self, prediction):
        """Returns a line for each class that is named."""
        return [f"{guess['probability']:6.1%}  {guess['name']}" for guess in prediction["classes"]]

    def csv_rows(self, prediction):
        """Returns rank, name and probability of each class that is named."""
        return [
            (rank, guess["name"], f"{guess['probability']:.6g}")
            for rank, guess in enumerate(prediction["classes"], 1)
        ]

    def top_classes(self, logits, top):
        """Returns the classes of each image, the most likely first.

        Args:
            logits: float `(images, classes)`.
            top: how many classes to give. A model whose images may be of several classes names
                all that have a probability of `TRUE_FROM` or more, and one at least.

        Returns:
            For each image a list of `{"name", "probability"}`. Probabilities are in [0, 1]:
            softmax, or of a multi-label model sigmoids.
        """
        rows = _sigmoid(logits) if self.multi_label else metrics.softmax(logits)
        return [self._best(row, top) for row in rows]

    def _best(self, row, top):
        count = max(1, int((row >= PROBABILITY_THRESHOLD).sum())) if self.multi_label else top
        best = np.argsort(-row, kind="stable")[:count]
        return [{"name": self.classes[i], "probability": float(row[i])} for i in best]


def from_spec(spec, weights=None):
    """Returns the classifier that a zoo name with a tag means."""
    model = zoo.build(spec.name, weights=weights)
    return ClassificationPredictor(
        model, zoo.class_names(spec.weights.classes), spec.weights.resize, spec.name
    )


def from_file(path, model, about):
    """Returns the classifier of a file: its model and what it tells about itself.

    Raises:
        UsageError: it is no classifier of images.
    """
    shape = model.input_shape
    if not (isinstance(shape, tuple) and len(shape) == 4 and len(model.output_shape) == 2):
        raise UsageError(
            f"{path} is no classifier of images: it maps {shape} to {model.output_shape}"
        )
    numbers = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    return ClassificationPredictor(
        model,
        tuple(about.get("classes", numbers)),
        about.get("resize", "stretch"),
        str(path),
        bool(about.get("multi_label", False)),
    )


def _sigmoid(logits):
    return 0.5 + 0.5 * np.tanh(np.asarray(logits, "float64") / 2)  # overflows nowhere
