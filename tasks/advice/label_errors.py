"""Label errors by confident learning on out-of-fold predictions of linear probes.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021, arXiv:1911.00068, by the cleanlab library. Predictions are those of a ridge classifier on
cached features, which was fitted without the fold of the image; a temperature makes its outputs
probabilities. A second round fits without the suspects of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.advice import linear_probe
from tasks.report import cross_entropy
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

cleanlab_filter = LazyModule("cleanlab.filter")

EXTRA = "pip install 'keras-zoo[clean]'"
FILTER = "both"  # of cleanlab: suspects of both ways to prune
ROUNDS = 2
TEMPERATURES = tuple(10 ** (power / 20) for power in range(-40, 11))  # 0.01 to 3.2


@dataclass(frozen=True)
class LabelError:
    """An image whose label is probably wrong.

    Attributes:
        path: The path of the image, or its split and number.
        given: The name of its class.
        suggested: The name of the class with the highest probability.
        score: The probability of the given class, in [0, 1]; errors have a low one.
    """

    path: str
    given: str
    suggested: str
    score: float


def check_installed():
    """Raises `UsageError` if cleanlab is missing."""
    try:
        _ = cleanlab_filter.find_label_issues
    except ModuleNotFoundError as error:
        raise UsageError(f"the search for label errors needs cleanlab: {EXTRA}") from error


def suspects(features, labels, fold_ids):
    """Returns the suspected label errors, and the probabilities by which they were found.

    Args:
        features: A list of arrays `(images, features)`, of one network each; their probabilities
            are averaged.
        labels: Class indices `(images,)` from 0; each class occurs.
        fold_ids: The fold of each image.

    Returns:
        bool `(images,)`, and probabilities `(images, classes)`.
    """
    kept = np.ones(len(labels), bool)
    for _ in range(ROUNDS):
        found = [out_of_fold_probabilities(each, labels, fold_ids, kept) for each in features]
        probabilities = np.mean(found, axis=0)
        bad = cleanlab_filter.find_label_issues(labels, probabilities, filter_by=FILTER, n_jobs=1)
        kept = ~np.asarray(bad)
    return ~kept, probabilities


def out_of_fold_probabilities(features, labels, fold_ids, kept):
    """Returns the probabilities of each image by a probe that is fitted on the other folds.

    Args:
        features: `(images, features)`.
        labels, fold_ids: As in `suspects`.
        kept: bool `(images,)`, the images on which probes are fitted.

    Returns:
        Probabilities `(images, classes)`, whose rows sum to 1.
    """
    features = np.asarray(features, np.float64)
    outputs = np.zeros((len(labels), int(labels.max()) + 1))
    for fold in np.unique(fold_ids):
        train, held_out = (fold_ids != fold) & kept, fold_ids == fold
        found = linear_probe.fit_and_predict(features[train], labels[train], features[held_out])
        outputs[held_out, : found.shape[1]] = found

    def loss(temperature):
        return cross_entropy.softmax_cross_entropy(outputs / temperature, labels).mean()

    scaled = outputs / min(TEMPERATURES, key=loss)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def describe(bad, probabilities, labels, classes, paths):
    """Returns the suspects as a list of `LabelError`, the least probable label first."""
    best = probabilities.argmax(axis=1)
    found = [
        LabelError(
            paths[index],
            classes[labels[index]],
            classes[best[index]],
            round(float(probabilities[index, labels[index]]), 4),
        )
        for index in np.flatnonzero(bad)
    ]
    return sorted(found, key=lambda error: (error.score, error.path))
