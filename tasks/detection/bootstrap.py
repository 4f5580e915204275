"""A bootstrap interval over images of COCO's average precision.

The matches of pycocotools are counted again for each resample, weighted by how often each image
was drawn; boxes are not matched again.
"""

from __future__ import annotations

from typing import NamedTuple

from tasks.report import confidence_intervals
from zoo.lazy import np

NUM_RECALL_LEVELS = 101  # at which COCO samples the precision-recall curve
MIN_RESAMPLES = 50
MAX_WORK = 5e7  # predictions counted in all resamples: a large test split has fewer resamples


class ClassMatches(NamedTuple):
    """The predictions of one class, highest score first, and its objects.

    Attributes:
        images: `(predictions,)`, the index of the image of each.
        true_positives, false_positives: bool `(thresholds, predictions)`; neither for a
            prediction that matches an ignored object.
        objects: `(images,)`, the number of objects in each image.
    """

    images: object
    true_positives: object
    false_positives: object
    objects: object


def confidence_interval(eval_images, num_images: int, num_classes: int, *, seed: int):
    """Returns the 95% interval `(low, high)` of COCO's average precision.

    Args:
        eval_images: `COCOeval.evalImgs` of an evaluation with one area range.
        num_images: the number of images.
        num_classes: the number of classes.
        seed: the seed of the resamples.
    """
    rows = [eval_images[n * num_images : (n + 1) * num_images] for n in range(num_classes)]
    classes = [one for one in map(class_matches, rows) if one is not None]
    work = sum(one.true_positives.size for one in classes) + 1
    resamples = int(min(confidence_intervals.NUM_RESAMPLES, max(MIN_RESAMPLES, MAX_WORK / work)))

    def measure(resample_counts):
        return average_precision(classes, resample_counts)

    options = {"seed": seed, "resamples": resamples, "bounds": confidence_intervals.UNIT_BOUNDS}
    return confidence_intervals.bootstrap_interval(measure, num_images, **options)


def average_precision(classes, resample_counts):
    """Returns COCO's average precision of each resample, NaN for one without an object.

    Args:
        classes: `ClassMatches` of each class that has an object.
        resample_counts: how often each image is drawn, `(resamples, images)`.
    """
    sums, counts = np.zeros(len(resample_counts)), np.zeros(len(resample_counts))
    for one in classes:
        totals = resample_counts @ one.objects
        weights = resample_counts[:, one.images]
        curves = zip(one.true_positives, one.false_positives, strict=True)
        parts = [
            _interpolated_precision(weights * true_positives, weights * false_positives, totals)
            for true_positives, false_positives in curves
        ]
        sums += np.where(totals > 0, np.mean(parts, axis=0), 0)
        counts += totals > 0
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def class_matches(rows):
    """Returns the `ClassMatches` of one class, or `None` for a class without an object.

    Args:
        rows: the `COCOeval.evalImgs` of the class, one per image.
    """
    objects = np.array([0 if row is None else int((row["gtIgnore"] == 0).sum()) for row in rows])
    if not objects.sum():
        return None
    evaluated = [(image, row) for image, row in enumerate(rows) if row is not None]
    scores = np.concatenate([row["dtScores"] for _, row in evaluated])
    order = np.argsort(-scores, kind="stable")
    images = np.concatenate([[image] * len(row["dtScores"]) for image, row in evaluated])
    matched = np.concatenate([row["dtMatches"] for _, row in evaluated], axis=1)[:, order] > 0
    counted = np.concatenate([row["dtIgnore"] for _, row in evaluated], axis=1)[:, order] == 0
    images = images[order].astype("int64")
    return ClassMatches(images, matched & counted, ~matched & counted, objects)


def _interpolated_precision(true_positives, false_positives, totals):
    """Returns the mean interpolated precision at `NUM_RECALL_LEVELS` recalls, `(resamples,)`.

    Args:
        true_positives, false_positives: counts `(resamples, predictions)`.
        totals: the number of objects in each resample.
    """
    hits, misses = np.cumsum(true_positives, axis=1), np.cumsum(false_positives, axis=1)
    precision = hits / np.maximum(hits + misses, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    unreached = np.zeros((len(precision), 1))
    precision = np.concatenate([precision, unreached], axis=1)
    recalls = hits / np.maximum(totals, 1)[:, None]
    levels = np.linspace(0, 1, NUM_RECALL_LEVELS)
    sampled = [row[r.searchsorted(levels)] for r, row in zip(recalls, precision, strict=True)]
    return np.mean(sampled, axis=1)
