"""What is measured of segmentation: pixels of each class that are found, missed and made up.

Labels and predictions are whole numbers `(images, height, width)`. Pixels whose label is `IGNORED`
are not there. Everything is counted in whole numbers, image by image, and added up: the figures
of a split do not depend on the size of batches, nor on how many replicas there were. They are those
of Long, Shelhamer and Darrell, 2015 (arXiv:1411.4038), section 5, over all pixels of a split.
"""

from __future__ import annotations

from tasks.report import intervals
from zoo.errors import UsageError
from zoo.lazy import np

IGNORED = 255


class Count:
    """Counts that grow with each batch.

    Attributes:
        matrix: int64 `(classes, classes)`, pixels: a row is a true class, a column a prediction.

    Args:
        num_classes: how many there are.
    """

    def __init__(self, num_classes: int):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self._tallies = [np.zeros((0, 3, num_classes), np.int64)]

    def add(self, labels, predictions) -> None:
        """Counts some images, `(images, height, width)`."""
        self.add_matrices(confusions(labels, predictions, len(self.matrix)))

    def add_matrices(self, matrices) -> None:
        """Counts some images by their confusion matrices, `(images, classes, classes)`."""
        matrices = np.asarray(matrices).astype(np.int64)
        self.matrix += matrices.sum(axis=0)
        self._tallies.append(tally(matrices))

    @property
    def tallies(self):
        """What `tally` says of each image so far, int64 `(images, 3, classes)`."""
        self._tallies = [np.concatenate(self._tallies)]
        return self._tallies[0]


def confusions(labels, predictions, num_classes: int):
    """Counts, for each image, which pixels were taken for which.

    Args:
        labels: `(images, height, width)`, 0 to `num_classes - 1` or `IGNORED`.
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
    there = labels != IGNORED
    _check_range("label", labels[there], num_classes)
    _check_range("prediction", predictions, num_classes)
    images = np.arange(len(labels))[:, None, None] * num_classes**2
    cells = images + labels.astype(np.int64) * num_classes + predictions
    size = len(labels) * num_classes**2
    counts = np.bincount(cells[there], minlength=size)
    return counts.reshape(-1, num_classes, num_classes).astype(np.int64)


def confusion(labels, predictions, num_classes: int):
    """Counts which pixels were taken for which, in all images together.

    Returns:
        Counts as int64 `(num_classes, num_classes)`, as `confusions` of each image, added up.
    """
    return confusions(labels, predictions, num_classes).sum(axis=0)


def tally(matrices):
    """Returns what IoU is made of, int64 `(..., 3, classes)`: pixels of each class that are found,
    that are there, and that are predicted.

    Args:
        matrices: `(..., classes, classes)`, as from `confusions`.
    """
    matrices = np.asarray(matrices)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.stack([hits, matrices.sum(axis=-1), matrices.sum(axis=-2)], axis=-2)


def figures(matrix) -> dict[str, float]:
    """Measures a confusion matrix of pixels.

    Returns:
        Shares in [0, 1], NaN where there is no pixel at all. `miou`: the mean over classes of the
        intersection of truth and prediction by their union; a class that neither has is left out,
        one that only the prediction has counts as 0. `pixel_accuracy`: of all pixels that are
        right. `mean_accuracy`: the mean, over classes that are there, of their pixels that are
        right. `fwiou`: the mean of IoU weighted by how many pixels each class has.
    """
    hits, there, _ = tallies = tally(matrix)
    iou = _iou(tallies)
    total = there.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "miou": _mean(iou),
            "pixel_accuracy": float(hits.sum() / np.float64(total)),
            "mean_accuracy": _mean(hits / np.where(there, there, np.nan)),
            "fwiou": float(np.where(there, there * iou, 0).sum() / np.float64(total)),
        }


def judged(matrix, tallies, *, seed: int) -> dict[str, float]:
    """Measures a split for its report: `figures`, and how far to trust the first.

    Args:
        matrix: of all images together.
        tallies: of each image, `(images, 3, classes)`.
        seed: of the resamples.

    Returns:
        The figures, and with them `miou_low` and `miou_high`, the ends of a bootstrap interval
        over the images, at 95%.
    """
    own = figures(matrix)
    ends = interval(tallies, seed=seed)
    return {**intervals.named("miou", own.pop("miou"), ends), **own}


def interval(tallies, *, seed: int):
    """Returns the interval `(low, high)` of mIoU when images are drawn anew."""
    count, _, classes = np.shape(tallies)
    flat = np.reshape(tallies, (count, -1)).astype(np.float64)

    def measure(times):
        drawn = (times @ flat).reshape(-1, 3, classes)
        return _means(_iou(np.moveaxis(drawn, 1, 0)))

    return intervals.bootstrap(measure, count, seed=seed, bounds=intervals.SHARES)


def of_images(tallies):
    """Returns the mIoU of each image alone `(images,)`, over the classes that are in its truth or
    its prediction; NaN for one that is ignored altogether."""
    return _means(_iou(np.moveaxis(np.asarray(tallies), 1, 0)))


def per_class(matrix) -> list[dict]:
    """Measures each class of a confusion matrix of pixels.

    Returns:
        A dict for each class: `iou`; `accuracy`, the share of its pixels that are right;
        `precision`, the share of its predictions that are; all in [0, 1] or `None` where that is
        undefined; and `share`, that of its pixels among all.
    """
    hits, there, said = tally(matrix)
    total = max(int(there.sum()), 1)
    return [
        {
            "iou": _ratio(hit, own + predicted - hit),
            "accuracy": _ratio(hit, own),
            "precision": _ratio(hit, predicted),
            "share": float(own / total),
        }
        for hit, own, predicted in zip(hits, there, said, strict=True)
    ]


def _iou(tallies):
    """Returns the IoU of each class, NaN for one that is nowhere."""
    hits, there, said = tallies
    union = there + said - hits
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
            f"got the {what} {wrong[0]} in a mask, needed 0 to {num_classes - 1}, or {IGNORED} for "
            "what is ignored"
        )
