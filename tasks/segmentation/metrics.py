"""Segmentation metrics: mean IoU, pixel accuracy, mean accuracy, frequency-weighted IoU.

Labels and predictions are integers `(images, height, width)`. Pixels labeled `IGNORE_LABEL` are
ignored. Counts are integers per image and are summed, so the metrics of a split do not depend on
the batch size or the number of replicas. They are those of Long, Shelhamer and Darrell, 2015
(arXiv:1411.4038), section 5, over all pixels of a split.
"""

from __future__ import annotations

from tasks.data.geometry import IGNORE_LABEL
from tasks.report import confidence_intervals
from tasks.report.evaluation_report import deduplicated_metric
from zoo.errors import UsageError
from zoo.lazy import np


class ConfusionCounter:
    """Accumulates the confusion matrix of pixels and the counts per image over batches.

    Args:
        num_classes: The number of classes.

    Attributes:
        matrix: int64 `(classes, classes)`, the number of pixels: rows are true classes, columns
            predicted classes.
    """

    def __init__(self, num_classes: int):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self._counts_per_image = [np.zeros((0, 3, num_classes), np.int64)]

    def add(self, labels, predictions) -> None:
        """Adds labels and predictions, `(images, height, width)`."""
        self.add_matrices(confusion_matrices(labels, predictions, len(self.matrix)))

    def add_matrices(self, matrices) -> None:
        """Adds the confusion matrices of images, `(images, classes, classes)`."""
        matrices = np.asarray(matrices).astype(np.int64)
        self.matrix += matrices.sum(axis=0)
        self._counts_per_image.append(iou_counts(matrices))

    @property
    def counts_per_image(self):
        """The `iou_counts` of each image so far, int64 `(images, 3, classes)`."""
        self._counts_per_image = [np.concatenate(self._counts_per_image)]
        return self._counts_per_image[0]


def confusion_matrices(labels, predictions, num_classes: int):
    """Returns the confusion matrix of the pixels of each image.

    Args:
        labels: `(images, height, width)`, 0 to `num_classes - 1` or `IGNORE_LABEL`.
        predictions: Of the same shape, 0 to `num_classes - 1`.
        num_classes: The number of classes.

    Returns:
        int64 `(images, num_classes, num_classes)`: rows are true classes, columns predicted
        classes.

    Raises:
        UsageError: Shapes differ, or a label or a prediction is out of range.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 3:
        raise UsageError(
            f"got masks of shape {labels.shape} and predictions of shape {predictions.shape}; "
            "expected (images, height, width) for both"
        )
    valid = labels != IGNORE_LABEL
    _check_range("label", labels[valid], num_classes)
    _check_range("prediction", predictions, num_classes)
    offsets = np.arange(len(labels))[:, None, None] * num_classes**2
    cells = offsets + labels.astype(np.int64) * num_classes + predictions
    size = len(labels) * num_classes**2
    counts = np.bincount(cells[valid], minlength=size)
    return counts.reshape(-1, num_classes, num_classes).astype(np.int64)


def confusion_matrix(labels, predictions, num_classes: int):
    """Returns the confusion matrix over the pixels of all images.

    Args:
        labels, predictions, num_classes: As in `confusion_matrices`.

    Returns:
        int64 `(num_classes, num_classes)`, the sum of the `confusion_matrices` of all images.
    """
    return confusion_matrices(labels, predictions, num_classes).sum(axis=0)


def iou_counts(matrices):
    """Returns the counts from which IoU is computed.

    Args:
        matrices: `(..., classes, classes)`, from `confusion_matrices`.

    Returns:
        int64 `(..., 3, classes)`: the number of pixels of each class that are true positives, that
        have the class in the ground truth, and that are predicted as it.
    """
    matrices = np.asarray(matrices)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.stack([hits, matrices.sum(axis=-1), matrices.sum(axis=-2)], axis=-2)


def segmentation_metrics(matrix) -> dict[str, float]:
    """Computes the metrics of a confusion matrix of pixels.

    Args:
        matrix: `(classes, classes)`: rows are true classes, columns predicted classes.

    Returns:
        Values in [0, 1], NaN without any pixel. `miou`: the mean over classes of the intersection
        over union; a class in neither ground truth nor predictions is excluded, a class in
        predictions only counts as 0. `pixel_accuracy`: the share of pixels that are correct.
        `mean_accuracy`: the mean over classes in the ground truth of the share of their pixels
        that are correct. `fwiou`: the mean IoU weighted by the number of pixels of each class.
    """
    hits, support, _ = counts = iou_counts(matrix)
    iou = _iou(counts)
    total = support.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "miou": _mean(iou),
            "pixel_accuracy": float(hits.sum() / np.float64(total)),
            "mean_accuracy": _mean(hits / np.where(support, support, np.nan)),
            "fwiou": float(np.where(support, support * iou, 0).sum() / np.float64(total)),
        }


def metrics_with_intervals(matrix, counts_per_image, *, seed: int) -> dict[str, float]:
    """Computes the metrics of a report: `segmentation_metrics` and an interval for mIoU.

    Args:
        matrix: The confusion matrix over all images, `(classes, classes)`.
        counts_per_image: The `iou_counts` of each image, `(images, 3, classes)`.
        seed: The seed of the bootstrap.

    Returns:
        The metrics, with `miou_low` and `miou_high`, the ends of a 95% bootstrap interval over the
        images.
    """
    figures = segmentation_metrics(matrix)
    ends = miou_interval(counts_per_image, seed=seed)
    return {**confidence_intervals.with_interval("miou", figures.pop("miou"), ends), **figures}


def miou_interval(counts_per_image, *, seed: int):
    """Returns the 95% bootstrap interval `(low, high)` of mIoU over the images.

    Args:
        counts_per_image: The `iou_counts` of each image, `(images, 3, classes)`.
        seed: The seed of the bootstrap.
    """
    num_images, _, classes = np.shape(counts_per_image)
    flat = np.reshape(counts_per_image, (num_images, -1)).astype(np.float64)

    def mious(times):
        sums = (times @ flat).reshape(-1, 3, classes)
        return _means(_iou(np.moveaxis(sums, 1, 0)))

    return confidence_intervals.bootstrap_interval(
        mious, num_images, seed=seed, bounds=confidence_intervals.UNIT_BOUNDS
    )


def deduplicated_miou(counts_per_image, copies) -> dict[str, float]:
    """Returns `deduplicated_miou`: mIoU without near duplicates of training images.

    Args:
        counts_per_image: The `iou_counts` of each image, `(images, 3, classes)`.
        copies: The indices of the near duplicates; without any, the dict is empty.
    """
    counts = np.asarray(counts_per_image)

    def measure(kept):
        return _mean(_iou(counts[kept].sum(axis=0)))

    return deduplicated_metric("miou", len(counts), copies, measure)


def class_iou_intervals(counts_per_image, *, seed: int):
    """Returns the 95% bootstrap interval `(low, high)` of the IoU of each class over the images.

    The ends are NaN for a class in neither labels nor predictions.

    Args:
        counts_per_image: The `iou_counts` of each image, `(images, 3, classes)`.
        seed: The seed of the bootstrap.
    """
    options = {"seed": seed, "bounds": confidence_intervals.UNIT_BOUNDS}
    return [
        confidence_intervals.bootstrap_interval(
            lambda times, own=own: _iou((times @ own).T), len(own), **options
        )
        for own in np.moveaxis(np.asarray(counts_per_image, np.float64), 2, 0)
    ]


def pixel_accuracy_per_image(counts_per_image):
    """Returns the share of correct pixels of each image `(images,)`.

    It is NaN for an image whose pixels are all ignored.
    """
    hits, support, _ = np.moveaxis(np.asarray(counts_per_image), 1, 0).sum(axis=-1)
    return np.where(support > 0, hits / np.maximum(support, 1), np.nan)


def miou_per_image(counts_per_image):
    """Returns the mIoU of each image `(images,)`, over the classes in its labels or predictions.

    It is NaN for an image whose pixels are all ignored.
    """
    return _means(_iou(np.moveaxis(np.asarray(counts_per_image), 1, 0)))


def per_class_metrics(matrix) -> list[dict]:
    """Computes the metrics of each class from a confusion matrix of pixels.

    Args:
        matrix: `(classes, classes)`: rows are true classes, columns predicted classes.

    Returns:
        One dict per class: `iou`; `accuracy`, the recall of its pixels; `precision`; all in [0, 1],
        `None` where undefined; and `share`, its share of all pixels.
    """
    hits, support, predicted = iou_counts(matrix)
    total = max(int(support.sum()), 1)
    return [
        {
            "iou": _ratio(hit, true + guessed - hit),
            "accuracy": _ratio(hit, true),
            "precision": _ratio(hit, guessed),
            "share": float(true / total),
        }
        for hit, true, guessed in zip(hits, support, predicted, strict=True)
    ]


def _iou(counts):
    """Returns the IoU of each class, NaN without any pixel in labels and predictions."""
    hits, support, predicted = counts
    union = support + predicted - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def _means(values):
    """Returns the mean of each row, ignoring NaN; NaN for a row of NaN only."""
    valid = ~np.isnan(values)
    total = np.where(valid, values, 0).sum(axis=-1)
    return np.where(valid.any(axis=-1), total / np.maximum(valid.sum(axis=-1), 1), np.nan)


def _mean(values):
    return float(_means(values))


def _ratio(part, whole):
    return float(part / whole) if whole else None


def _check_range(name, values, num_classes):
    wrong = values[(values < 0) | (values >= num_classes)]
    if len(wrong):
        raise UsageError(
            f"got the {name} {wrong[0]} in a mask, expected 0 to {num_classes - 1}, or "
            f"{IGNORE_LABEL} for ignored pixels"
        )
