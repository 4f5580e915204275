"""Evaluation of generated images: feature network, metrics, and an optional classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zoo
from tasks.data import batches, class_order
from tasks.data.decoding import Examples
from tasks.engine import resume
from tasks.gan import frechet, precision_recall
from tasks.report import confidence_intervals
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np

lambda_layer = LazyModule("tasks.inference.lambda_layer")

DEFAULT_WEIGHTS = ".imagenet"  # weights tag that is left out of the name of a distance
CONFIDENCE_THRESHOLD = 0.9  # an image counts as recognized above this probability


def feature_extractor(name, weights, shape):
    """Returns a `keras.Model` from images to features, which are globally pooled feature maps.

    The maps are those of the last stage of a model of the zoo. Images are resized to its input
    size, bilinearly with antialiasing; gray images are converted to RGB.

    Args:
        name: name of the model.
        weights: weights file in place of the model's own weights, or "".
        shape: `(height, width, channels)` of the images.

    Raises:
        UsageError: the model has no trained weights, or no stages.
    """
    spec = check_feature_extractor(name, weights)
    backbone = zoo.backbone(name, weights=weights or None)
    image = keras.Input(shape)
    *_, maps = backbone(_resized(image, spec.input_shape)).values()
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(dtype="float32")(maps))


def check_feature_extractor(name, weights):
    """Returns the spec of a feature network; raises `UsageError` if it cannot be used as one."""
    spec = zoo.spec(name)
    if spec.weights is None and not weights:
        known = ", ".join(zoo.names(f"{spec.architecture}.*")) or "resnet20.cifar10"
        raise UsageError(f"--feature-network {name} has random weights; try {known}")
    if not spec.stages:
        raise UsageError(
            f"--feature-network {name} has no stages; see `zoo list` for models that have"
        )
    return spec


def extract_features(model, pixels, batch_size):
    """Returns the features of uint8 images `(count, height, width, channels)`."""
    return batches.predict(model, _examples(pixels), batch_size=batch_size)


def distance_name(name):
    """Returns the name of the Frechet distance in the features of a network, `fd_NAME`.

    It is never `fid`, which requires the Inception network and weights of Heusel et al. (2017);
    the `inception_v3` of the zoo has other weights.
    """
    return f"fd_{name.removesuffix(DEFAULT_WEIGHTS).replace('.', '_')}"


def validation_metrics(name, real, generated):
    """Returns the validation metrics by name, from features of real and of generated images."""
    precision, recall = precision_recall.precision_recall(real, generated)
    return {
        distance_name(name): frechet.frechet_distance(real, generated),
        "precision": precision,
        "recall": recall,
        "diversity": precision_recall.diversity(real, generated),
    }


def metrics_with_intervals(name, real, generated, *, seed):
    """Returns the metrics of features of real and of generated images, with 95% intervals."""
    metrics = validation_metrics(name, real, generated)
    intervals = {
        distance_name(name): frechet.frechet_distance_interval(real, generated, seed=seed),
        "kid": frechet.kernel_inception_distance(real, generated, seed=seed),
    }
    distances = {
        f"{key}{end}": value
        for key, values in intervals.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }
    return {**distances, **{key: metrics[key] for key in ("precision", "recall", "diversity")}}


def metrics_of_images(task, data, pixels, labels):
    """Returns all metrics of generated images against the test split.

    Args:
        task: the `Gan`, for its flags.
        data: the `dataset.GanData`.
        pixels: generated images, uint8 `(count, height, width, channels)`.
        labels: the classes that they were generated for, or `None`.
    """
    metrics = metrics_with_intervals(
        task.feature_network, data.test_features, data.features(pixels), seed=task.seed
    )
    if task.classifier:
        classifier = load_classifier(task.classifier, data.source)
        probabilities = [
            classifier.probabilities(images, task.batch_size)
            for images in (pixels, data.test.pixels)
        ]
        metrics |= classifier_metrics(*probabilities, data.test.labels, labels, seed=task.seed)
    return {**metrics, "generated_images": len(pixels), "real_images": len(data.test)}


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier of generated images.

    Attributes:
        model: a `keras.Model` from images to logits.
        classes: the names of its classes.
    """

    model: object
    classes: tuple[str, ...]

    def probabilities(self, pixels, batch_size):
        """Returns the class probabilities `(count, classes)` of uint8 images."""
        shape = tuple(pixels.shape[1:])
        image = keras.Input(shape)
        logits = self.model(_resized(image, self.model.input_shape[1:]))
        model = keras.Model(image, keras.layers.Softmax(dtype="float32")(logits))
        return batches.predict(model, _examples(pixels), batch_size=batch_size)


def load_classifier(target, source):
    """Loads a `Classifier` from a run's folder or a `.keras` file.

    Args:
        target: path of the folder or file.
        source: the `dataset.Source` whose classes it must have.

    Raises:
        UsageError: there is no single-label classifier, or it has other classes.
    """
    path = Path(target)
    model, about = model_files.load(resume.model_path(path) if path.is_dir() else path)
    own_classes = tuple(about.get("classes", ()))
    if about.get("task") != "classification" or about.get("multi_label"):
        raise UsageError(f"--classifier {target} is not a single-label classifier")
    classes = class_order.named_as(source, own_classes).classes
    if own_classes != classes:
        raise UsageError(
            f"--classifier {target} has other classes ({', '.join(own_classes[:3])}, ...) than "
            f"the data set ({', '.join(classes[:3])}, ...)"
        )
    return Classifier(model, own_classes)


def classifier_metrics(probabilities, real_probabilities, labels, requested_labels, *, seed):
    """Returns the metrics of a classifier's predictions on generated images.

    Args:
        probabilities: of the generated images, `(count, classes)`.
        real_probabilities: of the real images, `(real count, classes)`.
        labels: ground truth of the real images, `(real count,)`.
        requested_labels: the classes that the images were generated for, `(count,)`, or `None`.
        seed: seed of the bootstrap intervals.

    Returns:
        A dict: `recognised_share`, the share of images whose largest probability is over 0.9, with
        its interval, and the same for real images; `class_balance`, 1 minus the total variation
        distance between the predicted classes of generated and of real images; and, with
        `requested_labels`, `label_accuracy`, the share of images predicted as requested.
    """
    predicted, real_predicted = probabilities.argmax(axis=1), real_probabilities.argmax(axis=1)
    confident = probabilities.max(axis=1) > CONFIDENCE_THRESHOLD
    low, high = confidence_intervals.mean_interval(confident, seed=seed)
    classes = probabilities.shape[1]
    # Compared with the predictions on real images, so that the classifier's own bias cancels out.
    shares, real_shares = (
        np.bincount(each, minlength=classes) / len(each) for each in (predicted, real_predicted)
    )
    metrics = {
        "recognised_share": float(confident.mean()),
        "recognised_share_low": low,
        "recognised_share_high": high,
        "real_recognised_share": float(
            (real_probabilities.max(axis=1) > CONFIDENCE_THRESHOLD).mean()
        ),
        "class_balance": 1 - float(np.abs(shares - real_shares).sum()) / 2,
    }
    if requested_labels is not None:
        correct = predicted == requested_labels
        low, high = confidence_intervals.mean_interval(correct, seed=seed)
        metrics |= {
            "label_accuracy": float(correct.mean()),
            "label_accuracy_low": low,
            "label_accuracy_high": high,
            "real_label_accuracy": float((real_predicted == labels).mean()),
        }
    return metrics


def _examples(pixels):
    return Examples("generated", pixels, np.zeros(len(pixels), "int64"))


def _resized(image, shape):
    """Returns a symbolic image that is resized and converted to the input shape of a network."""
    height, width, channels = shape

    def resized(x):
        x = keras.ops.cast(x, "float32")
        if channels == 3 and x.shape[-1] == 1:
            x = keras.ops.repeat(x, 3, axis=-1)
        if channels == 1 and x.shape[-1] == 3:  # luma as Pillow computes it
            x = keras.ops.matmul(x, keras.ops.convert_to_tensor([[0.299], [0.587], [0.114]]))
        if (height, width) in (x.shape[1:3], (None, None)):
            return x
        return keras.ops.image.resize(x, (height, width), antialias=True)

    return lambda_layer.LambdaLayer(resized, dtype="float32")(image)
