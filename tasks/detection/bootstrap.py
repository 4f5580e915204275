"""How far an average precision may be trusted: a bootstrap interval over images.

What pycocotools matched is counted anew for each resample, an image as often as it was drawn; no
box is matched again.
"""

from __future__ import annotations

from typing import NamedTuple

from tasks.report import confidence_intervals
from zoo.lazy import np

RECALL_LEVELS = 101  # of recall, at which COCO reads a curve
MIN_RESAMPLES = 50  # resamples
MAX_WORK = 5e7  # answers counted in all: of a large test split fewer resamples are drawn


class ClassMatches(NamedTuple):
    """The answers of one class, best first, and its objects.

    Attributes:
        images: `(answers,)`, the image of each.
        right, wrong: bool `(thresholds, answers)`.
        objects: `(images,)`, how many each has.
    """

    images: object
    true_positives: object
    false_positives: object
    objects: object


def confidence_interval(eval_images, images: int, num_classes: int, *, seed: int):
    """Returns the 95% interval `(low, high)` of COCO's average precision.

    Args:
        eval_images: the `evalImgs` of an evaluation of pycocotools with one range of areas.
        images: how many there are.
        num_classes: likewise.
        seed: of the resamples.
    """
    rows = [eval_images[n * images : (n + 1) * images] for n in range(num_classes)]
    classes = [one for one in map(class_matches, rows) if one is not None]
    work = sum(one.true_positives.size for one in classes) + 1
    resamples = int(min(confidence_intervals.NUM_RESAMPLES, max(MIN_RESAMPLES, MAX_WORK / work)))

    def measure(resample_counts):
        return average_precision(classes, resample_counts)

    options = {"seed": seed, "resamples": resamples, "bounds": confidence_intervals.UNIT_BOUNDS}
    return confidence_intervals.bootstrap_interval(measure, images, **options)


def average_precision(classes, resample_counts):
    """Returns COCO's average precision of each resample, NaN of one without an object.

    Args:
        classes: what `found` returned of each that has an object.
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
    """Returns the `Class` of what was evaluated, or `None` of one that has no object.

    Args:
        rows: the `evalImgs` of one class, of each image in turn.
    """
    objects = np.array([0 if row is None else int((row["gtIgnore"] == 0).sum()) for row in rows])
    if not objects.sum():
        return None
    evaluated_images = [(image, row) for image, row in enumerate(rows) if row is not None]
    scores = np.concatenate([row["dtScores"] for _, row in evaluated_images])
    order = np.argsort(-scores, kind="stable")
    images = np.concatenate([[image] * len(row["dtScores"]) for image, row in evaluated_images])
    matched = (
        np.concatenate([row["dtMatches"] for _, row in evaluated_images], axis=1)[:, order] > 0
    )
    counted = (
        np.concatenate([row["dtIgnore"] for _, row in evaluated_images], axis=1)[:, order] == 0
    )
    images = images[order].astype("int64")
    return ClassMatches(images, matched & counted, ~matched & counted, objects)


def _interpolated_precision(true_positives, false_positives, totals):
    """Returns the mean of each curve at `LEVELS` recalls: right, wrong `(resamples, answers)`."""
    hits, misses = np.cumsum(true_positives, axis=1), np.cumsum(false_positives, axis=1)
    heights = hits / np.maximum(hits + misses, 1)
    heights = np.maximum.accumulate(heights[:, ::-1], axis=1)[:, ::-1]
    heights = np.concatenate([heights, np.zeros((len(heights), 1))], axis=1)  # never reached
    recalls = hits / np.maximum(totals, 1)[:, None]
    levels = np.linspace(0, 1, RECALL_LEVELS)
    read = [height[row.searchsorted(levels)] for row, height in zip(recalls, heights, strict=True)]
    return np.mean(read, axis=1)
