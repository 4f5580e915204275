"""What is measured of segmentation: pixels of each class that are found, missed and made up.

Labels and predictions are integers `(images, height, width)`. Pixels labelled `IGNORE_LABEL` are
left out. Counts are integers per image and are summed, so the metrics of a split do not depend on
the batch size or the number of replicas. They are those of Long, Shelhamer and Darrell, 2015
(arXiv:1411.4038), section 5, over all pixels of a split.
"""

from __future__ import annotations

from tasks.data.geometry import IGNORE_LABEL
from tasks.report import confidence_intervals
from zoo.errors import UsageError
from zoo.lazy import np


class ConfusionCounter:
    """Counts that grow with each batch.

    Attributes:
        matrix: int64 `(classes, classes)`, pixels: a row is a true class, a column a prediction.

    Args:
        num_classes: how many there are.
    """

    def __init__(self, num_classes: int):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self._counts_per_image = [np.zeros((0, 3, num_classes), np.int64)]

    def add(self, labels, predictions) -> None:
        """Counts some images, `(images, height, width)`."""
        self.add_matrices(confusion_matrices(labels, predictions, len(self.matrix)))

    def add_matrices(self, matrices) -> None:
        """Counts some images by their confusion matrices, `(images, classes, classes)`."""
        matrices = np.asarray(matrices).astype(np.int64)
        self.matrix += matrices.sum(axis=0)
        self._counts_per_image.append(iou_counts(matrices))

    @property
    def counts_per_image(self):
        """What `tally` says of each image so far, int64 `(images, 3, classes)`."""
        self._counts_per_image = [np.concatenate(self._counts_per_image)]
        return self._counts_per_image[0]


def confusion_matrices(labels, predictions, num_classes: int):
    """Counts, for each image, which pixels were taken for which.

    Args:
        labels: `(images, height, width)`, 0 to `num_classes - 1` or `IGNORE_LABEL`.
        predictions: of the same shape, 0 to `num_classes - 1`.
        num_classes: how many there are.

    Returns:
        Counts as int64 `(images, num_classes, num_classes)`: a row is a true class, a column a
        prediction.

    Raises:
        UsageError: If shapes differ, or a label or a prediction is no class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 3:
        raise UsageError(
            f"got masks of shape {labels.shape} and predictions of shape {predictions.shape}; "
            "needed (images, height, width) of both"
        )
    present = labels != IGNORE_LABEL
    _check_range("label", labels[present], num_classes)
    _check_range("prediction", predictions, num_classes)
    images = np.arange(len(labels))[:, None, None] * num_classes**2
    cells = images + labels.astype(np.int64) * num_classes + predictions
    size = len(labels) * num_classes**2
    counts = np.bincount(cells[present], minlength=size)
    return counts.reshape(-1, num_classes, num_classes).astype(np.int64)


def confusion_matrix(labels, predictions, num_classes: int):
    """Counts which pixels were taken for which, in all images together.

    Returns:
        Counts as int64 `(num_classes, num_classes)`, as `confusions` of each image, added up.
    """
    return confusion_matrices(labels, predictions, num_classes).sum(axis=0)


def iou_counts(matrices):
    """Returns what IoU is made of, int64 `(..., 3, classes)`: pixels of each class that are found,
    that are there, and that are predicted.

    Args:
        matrices: `(..., classes, classes)`, as from `confusions`.
    """
    matrices = np.asarray(matrices)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.stack([hits, matrices.sum(axis=-1), matrices.sum(axis=-2)], axis=-2)


def segmentation_metrics(matrix) -> dict[str, float]:
    """Measures a confusion matrix of pixels.

    Returns:
        Shares in [0, 1], NaN where there is no pixel at all. `miou`: the mean over classes of the
        intersection of truth and prediction by their union; a class that neither has is left out,
        one that only the prediction has counts as 0. `pixel_accuracy`: of all pixels that are
        right. `mean_accuracy`: the mean, over classes that are there, of their pixels that are
        right. `fwiou`: the mean of IoU weighted by how many pixels each class has.
    """
    hits, present, _ = counts_per_image = iou_counts(matrix)
    iou = _iou(counts_per_image)
    total = present.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "miou": _mean(iou),
            "pixel_accuracy": float(hits.sum() / np.float64(total)),
            "mean_accuracy": _mean(hits / np.where(present, present, np.nan)),
            "fwiou": float(np.where(present, present * iou, 0).sum() / np.float64(total)),
        }


def metrics_with_intervals(matrix, counts_per_image, *, seed: int) -> dict[str, float]:
    """Measures a split for its report: `figures`, and how far to trust the first.

    Args:
        matrix: of all images together.
        counts_per_image: of each image, `(images, 3, classes)`.
        seed: of the resamples.

    Returns:
        The figures, and with them `miou_low` and `miou_high`, the ends of a bootstrap interval
        over the images, at 95%.
    """
    own = segmentation_metrics(matrix)
    ends = miou_interval(counts_per_image, seed=seed)
    return {**confidence_intervals.with_interval("miou", own.pop("miou"), ends), **own}


def miou_interval(counts_per_image, *, seed: int):
    """Returns the interval `(low, high)` of mIoU when images are drawn anew."""
    count, _, classes = np.shape(counts_per_image)
    flat = np.reshape(counts_per_image, (count, -1)).astype(np.float64)

    def measure(times):
        drawn = (times @ flat).reshape(-1, 3, classes)
        return _means(_iou(np.moveaxis(drawn, 1, 0)))

    return confidence_intervals.bootstrap_interval(
        measure, count, seed=seed, bounds=confidence_intervals.UNIT_BOUNDS
    )


def miou_per_image(counts_per_image):
    """Returns the mIoU of each image alone `(images,)`, over the classes that are in its truth or
    its prediction; NaN for one that is ignored altogether."""
    return _means(_iou(np.moveaxis(np.asarray(counts_per_image), 1, 0)))


def per_class_metrics(matrix) -> list[dict]:
    """Measures each class of a confusion matrix of pixels.

    Returns:
        A dict for each class: `iou`; `accuracy`, the share of its pixels that are right;
        `precision`, the share of its predictions that are; all in [0, 1] or `None` where that is
        undefined; and `share`, that of its pixels among all.
    """
    hits, present, predicted_pixels = iou_counts(matrix)
    total = max(int(present.sum()), 1)
    return [
        {
            "iou": _ratio(hit, own + predicted - hit),
            "accuracy": _ratio(hit, own),
            "precision": _ratio(hit, predicted),
            "share": float(own / total),
        }
        for hit, own, predicted in zip(hits, present, predicted_pixels, strict=True)
    ]


def _iou(counts_per_image):
    """Returns the IoU of each class, NaN for one that is nowhere."""
    hits, present, predicted_pixels = counts_per_image
    union = present + predicted_pixels - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def _means(values):
    """Returns the mean of each row, but for what is NaN; NaN for a row of nothing else."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


def _mean(values):
    return float(_means(values))


def _ratio(part, whole):
    return float(part / whole) if whole else None


def _check_range(what, values, num_classes):
    wrong = values[(values < 0) | (values >= num_classes)]
    if len(wrong):
        raise UsageError(
            f"got the {what} {wrong[0]} in a mask, needed 0 to {num_classes - 1}, or "
            f"{IGNORE_LABEL} for what is ignored"
        )
