"""Says where a model is no better than an answer that looks at no image."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report import masks
from tasks.report.words import number
from zoo.lazy import np

HARDLY = 0.01  # average precision below which a detector finds next to nothing


def classification(figures, labels, classes: Sequence[str]) -> list[str]:
    """Compares a classifier with the answer that is the most frequent class of the test images.

    Where an image has several labels, mean average precision is compared with that of a ranking
    by chance, which is the mean share of the images that have a label.

    Args:
        figures: those of `metrics.judged`.
        labels: of the test images, `(count,)`, or multi-hot `(count, classes)`.
        classes: their names.

    Returns:
        At most one line.
    """
    labels = np.asarray(labels)
    if "map" in figures:
        shares = labels.mean(axis=0)
        chance = float(shares[shares > 0].mean()) if (shares > 0).any() else 0.0
        answer = f"a ranking by chance ({number('map', chance)})"
        return _compared("map", "mean average precision", figures, chance, answer)
    counts = np.bincount(labels, minlength=len(classes))
    share = float(counts.max() / counts.sum())
    answer = f"always answering {classes[counts.argmax()]} ({number('accuracy', share)})"
    return _compared("accuracy", "accuracy", figures, share, answer)


def segmentation(figures, matrix, classes: Sequence[str]) -> list[str]:
    """Compares a segmenter with the answer that is the most frequent class of all pixels.

    Args:
        figures: those of `masks.judged`.
        matrix: pixels, `(classes, classes)`: a row is a true class, a column a prediction.
        classes: their names.

    Returns:
        At most one line.
    """
    there = np.asarray(matrix).sum(axis=1)
    constant = np.zeros_like(matrix)
    constant[:, there.argmax()] = there
    best = masks.figures(constant)["miou"]
    answer = f"{classes[there.argmax()]} for every pixel ({number('miou', best)})"
    return _compared("miou", "mean IoU", figures, best, answer)


def detection(figures) -> list[str]:
    """Says, in at most one line, where a detector finds next to nothing."""
    if figures["ap"] >= HARDLY:
        return []
    return [
        f"the model finds next to nothing: its average precision is {number('ap', figures['ap'])}; "
        "it needs more epochs, more images, or another learning rate"
    ]


def captioning(sentences: Sequence[str]) -> list[str]:
    """Says, in at most one line, where a model has one sentence for all of several images."""
    if len(sentences) < 2 or len(set(sentences)) > 1:
        return []
    return [f"the model describes each of {len(sentences):,} images alike: {sentences[0]!r}"]


def _compared(name, words, figures, baseline, answer):
    """Returns a line if a figure, or the low end of its interval, is no better than a baseline."""
    if figures[name] <= baseline:
        how = "no better than"
    elif figures.get(f"{name}_low", figures[name]) <= baseline:
        how = "not reliably better than"
    else:
        return []
    return [f"the {words} of {number(name, figures[name])} is {how} {answer}"]
