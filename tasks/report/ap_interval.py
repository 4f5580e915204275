"""How far an average precision may be trusted: a bootstrap interval over images.

What pycocotools matched is counted anew for each resample, an image as often as it was drawn; no
box is matched again.
"""

from __future__ import annotations

from typing import NamedTuple

from tasks.report import intervals
from zoo.lazy import np

LEVELS = 101  # of recall, at which COCO reads a curve
FEWEST = 50  # resamples
WORK = 5e7  # answers counted in all: of a large test split fewer resamples are drawn


class Class(NamedTuple):
    """The answers of one class, best first, and its objects.

    Attributes:
        images: `(answers,)`, the image of each.
        right, wrong: bool `(thresholds, answers)`.
        objects: `(images,)`, how many each has.
    """

    images: object
    right: object
    wrong: object
    objects: object


def of(evaluated, images: int, num_classes: int, *, seed: int):
    """Returns the 95% interval `(low, high)` of COCO's average precision.

    Args:
        evaluated: the `evalImgs` of an evaluation of pycocotools with one range of areas.
        images: how many there are.
        num_classes: likewise.
        seed: of the resamples.
    """
    rows = [evaluated[n * images : (n + 1) * images] for n in range(num_classes)]
    classes = [one for one in map(found, rows) if one is not None]
    work = sum(one.right.size for one in classes) + 1
    resamples = int(min(intervals.RESAMPLES, max(FEWEST, WORK / work)))

    def measure(times):
        return precision(classes, times)

    options = {"seed": seed, "resamples": resamples, "bounds": intervals.SHARES}
    return intervals.bootstrap(measure, images, **options)


def precision(classes, times):
    """Returns COCO's average precision of each resample, NaN of one without an object.

    Args:
        classes: what `found` returned of each that has an object.
        times: how often each image is drawn, `(resamples, images)`.
    """
    sums, counts = np.zeros(len(times)), np.zeros(len(times))
    for one in classes:
        totals = times @ one.objects
        weights = times[:, one.images]
        curves = zip(one.right, one.wrong, strict=True)
        parts = [_average(weights * right, weights * wrong, totals) for right, wrong in curves]
        sums += np.where(totals > 0, np.mean(parts, axis=0), 0)
        counts += totals > 0
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def found(rows):
    """Returns the `Class` of what was evaluated, or `None` of one that has no object.

    Args:
        rows: the `evalImgs` of one class, of each image in turn.
    """
    objects = np.array([0 if row is None else int((row["gtIgnore"] == 0).sum()) for row in rows])
    if not objects.sum():
        return None
    kept = [(image, row) for image, row in enumerate(rows) if row is not None]
    scores = np.concatenate([row["dtScores"] for _, row in kept])
    order = np.argsort(-scores, kind="stable")
    images = np.concatenate([[image] * len(row["dtScores"]) for image, row in kept])
    matched = np.concatenate([row["dtMatches"] for _, row in kept], axis=1)[:, order] > 0
    counted = np.concatenate([row["dtIgnore"] for _, row in kept], axis=1)[:, order] == 0
    images = images[order].astype("int64")
    return Class(images, matched & counted, ~matched & counted, objects)


def _average(right, wrong, totals):
    """Returns the mean of each curve at `LEVELS` recalls: right, wrong `(resamples, answers)`."""
    hits, misses = np.cumsum(right, axis=1), np.cumsum(wrong, axis=1)
    heights = hits / np.maximum(hits + misses, 1)
    heights = np.maximum.accumulate(heights[:, ::-1], axis=1)[:, ::-1]
    heights = np.concatenate([heights, np.zeros((len(heights), 1))], axis=1)  # never reached
    recalls = hits / np.maximum(totals, 1)[:, None]
    levels = np.linspace(0, 1, LEVELS)
    read = [height[row.searchsorted(levels)] for row, height in zip(recalls, heights, strict=True)]
    return np.mean(read, axis=1)
