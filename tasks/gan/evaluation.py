"""Networks that judge painted images: one whose features are compared, one that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.data import batches
from tasks.data.decoding import Examples
from tasks.engine import resume
from tasks.gan import frechet, precision_recall
from tasks.report import confidence_intervals
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

lambda_layer = LazyModule("tasks.engine.lambda_layer")

DEFAULT_WEIGHTS = ".imagenet"  # weights that the name of a distance leaves out
CONFIDENCE_THRESHOLD = 0.9  # probability over which an image counts as recognised


def feature_extractor(name, weights, shape):
    """Returns a `keras.Model` from images to the features that a network of the zoo has of them.

    They are the averages of the maps of its last stage. Images are resized as it wants them,
    bilinearly and antialiased, and grey ones become RGB.

    Args:
        name: of the network.
        weights: a file in place of its own weights, or "".
        shape: `(height, width, channels)` of the images.

    Raises:
        UsageError: it knows nothing, or has no stages.
    """
    spec = check_feature_extractor(name, weights)
    backbone = zoo.backbone(name, weights=weights or None)
    image = keras.Input(shape)
    *_, maps = backbone(_resized(image, spec.input_shape)).values()
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(dtype="float32")(maps))


def check_feature_extractor(name, weights):
    """Returns the spec of a network for features; raises `UsageError` if it is none."""
    spec = zoo.spec(name)
    if spec.weights is None and not weights:
        known = ", ".join(zoo.names(f"{spec.architecture}.*")) or "resnet20.cifar10"
        raise UsageError(f"{name} has random weights, so its features mean little; try {known}")
    if not spec.stages:
        raise UsageError(f"{name} has no feature pyramid; see `zoo list` for models with stages")
    return spec


def extract_features(model, pixels, batch_size):
    """Returns what a network sees in images, uint8 `(count, height, width, channels)`."""
    return batches.predict(model, _examples(pixels), batch_size=batch_size)


def distance_name(name):
    """Returns what the Frechet distance in the features of a network is called.

    It is never `fid`, which is that of the Inception network and weights of Heusel et al. (2017):
    the `inception_v3` of the zoo has others.
    """
    return f"fd_{name.removesuffix(DEFAULT_WEIGHTS).replace('.', '_')}"


def validation_metrics(name, real, generated):
    """Returns the figures of a validation: features of real and of painted images compared."""
    precision, recall = precision_recall.precision_recall(real, generated)
    return {
        distance_name(name): frechet.frechet_distance(real, generated),
        "precision": precision,
        "recall": recall,
        "diversity": precision_recall.diversity(real, generated),
    }


def metrics_with_intervals(name, real, generated, *, seed):
    """Returns all figures of features of real and of painted images, with their intervals."""
    found = validation_metrics(name, real, generated)
    named = distance_name(name)
    parts = {named: frechet.frechet_distance_interval(real, generated, seed=seed)}
    parts["kid"] = frechet.kernel_inception_distance(real, generated, seed=seed)
    ends = {
        f"{key}{end}": value
        for key, values in parts.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }
    return {**ends, **{key: found[key] for key in ("precision", "recall", "diversity")}}


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier that names painted images.

    Attributes:
        model: from images to logits.
        classes: their names.
    """

    model: object
    classes: tuple[str, ...]

    def probabilities(self, pixels, batch_size):
        """Returns the probabilities `(count, classes)` of uint8 images."""
        shape = tuple(pixels.shape[1:])
        image = keras.Input(shape)
        logits = self.model(_resized(image, self.model.input_shape[1:]))
        answer = keras.layers.Softmax(dtype="float32")(logits)
        model = keras.Model(image, answer)
        return batches.predict(model, _examples(pixels), batch_size=batch_size)


def load_classifier(target, classes):
    """Returns the `Classifier` in a run's folder or a `.keras` file.

    Args:
        target: its path.
        classes: of the images that it is to name.

    Raises:
        UsageError: there is none, or it knows other classes.
    """
    path = Path(target)
    model, about = model_files.load(resume.model_path(path) if path.is_dir() else path)
    known = tuple(about.get("classes", ()))
    if about.get("task") != "classification" or about.get("multi_label"):
        raise UsageError(f"{target} is no classifier of one class for each image")
    if known != tuple(classes):
        raise UsageError(
            f"the classifier {target} knows other classes ({', '.join(known[:3])}, ...) than the "
            f"data set ({', '.join(classes[:3])}, ...)"
        )
    return Classifier(model, known)


def classifier_metrics(probabilities, real_probabilities, labels, requested_labels, *, seed):
    """Returns what a classifier says of painted images, as figures.

    Args:
        probabilities: of the painted images, `(count, classes)`.
        real_probabilities: of real ones.
        labels: the classes of the real ones.
        requested_labels: which class each was to show, or `None`.
        seed: of the interval.

    Returns:
        `recognised_share`, those named at over 0.9, with its interval, and the same of the real
        images; `class_balance`, 1 less half the sum of differences between the shares of classes
        that it names and those of the data; and `label_accuracy`, the share named as asked.
    """
    confident = probabilities.max(axis=1) > CONFIDENCE_THRESHOLD
    low, high = confidence_intervals.mean_interval(confident, seed=seed)
    classes = probabilities.shape[1]
    named = np.bincount(probabilities.argmax(axis=1), minlength=classes) / len(probabilities)
    # Those that the classifier names in real images, so that its own leanings do not count.
    real_shares = np.bincount(real_probabilities.argmax(axis=1), minlength=classes) / len(
        real_probabilities
    )
    found = {
        "recognised_share": float(confident.mean()),
        "recognised_share_low": low,
        "recognised_share_high": high,
        "real_recognised_share": float(
            (real_probabilities.max(axis=1) > CONFIDENCE_THRESHOLD).mean()
        ),
        "class_balance": 1 - float(np.abs(named - real_shares).sum()) / 2,
    }
    if requested_labels is not None:
        correct = probabilities.argmax(axis=1) == requested_labels
        low, high = confidence_intervals.mean_interval(correct, seed=seed)
        found |= {
            "label_accuracy": float(correct.mean()),
            "label_accuracy_low": low,
            "label_accuracy_high": high,
            "real_label_accuracy": float((real_probabilities.argmax(axis=1) == labels).mean()),
        }
    return found


def _examples(pixels):
    return Examples("painted", pixels, np.zeros(len(pixels), "int64"))


def _resized(image, shape):
    """Returns a symbolic image of the size and with the channels that a network takes."""
    height, width, channels = shape

    def resized(x):
        x = keras.ops.cast(x, "float32")
        if channels == 3 and x.shape[-1] == 1:
            x = keras.ops.repeat(x, 3, axis=-1)
        if channels == 1 and x.shape[-1] == 3:  # as Pillow makes grey of RGB
            x = keras.ops.matmul(x, keras.ops.convert_to_tensor([[0.299], [0.587], [0.114]]))
        if (height, width) in (x.shape[1:3], (None, None)):
            return x
        return keras.ops.image.resize(x, (height, width), antialias=True)

    return lambda_layer.LambdaLayer(resized, dtype="float32")(image)
