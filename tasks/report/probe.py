"""How well a linear classifier tells classes by given features: ridge regression, cross-validated.

The classes are one-hot targets, and the class with the highest value is the answer (Rifkin et al.,
2003). It has a closed form, so that a thousand images take a second, and the penalty is chosen
inside each training part by its leave-one-out error, which has one too (Allen's PRESS, 1974).
"""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np

PENALTIES = tuple(10.0**power for power in range(-3, 5))  # times the number of examples
FOLDS = 5


def accuracies(features, labels, *, folds: int = FOLDS, seed: int = 0):
    """Returns the accuracy on each fold `(folds,)` of a probe that learns from the others.

    Args:
        features: `(examples, features)`; maps `(examples, height, width, channels)` are averaged.
        labels: Class numbers `(examples,)`.
        folds: Parts that the examples are cut into, each with its share of every class.
        seed: Of the cut.

    Raises:
        UsageError: If there are fewer examples than folds, or of one class only.
    """
    labels = np.asarray(labels)
    features = np.asarray(features, np.float64)
    if features.ndim > 2:
        features = features.mean(axis=tuple(range(1, features.ndim - 1)))
    if len(labels) < 2 * folds or len(np.unique(labels)) < 2:
        raise UsageError(
            f"{len(labels)} images of {len(np.unique(labels))} classes are too few for {folds} "
            "folds"
        )
    parts = _parts(labels, folds, seed)
    return np.array(
        [
            _accuracy(features[parts != part], labels[parts != part], features[held], labels[held])
            for part in range(folds)
            for held in [parts == part]
        ]
    )


def _parts(labels, folds, seed):
    """Returns the fold of each example: the classes are dealt out one after the other."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    parts = np.empty(len(labels), np.int64)
    parts[by_class] = np.arange(len(labels)) % folds
    return parts


def _accuracy(x, labels, held, truth):
    mean, spread = x.mean(axis=0), x.std(axis=0)
    used = spread > 1e-9 * (1 + np.abs(mean))
    x, held = ((each[:, used] - mean[used]) / spread[used] for each in (x, held))
    targets = np.eye(labels.max() + 1)[labels]
    centre = targets.mean(axis=0)
    weights = _ridge(x, targets - centre, labels, centre)
    return float(np.mean(np.argmax(held @ weights + centre, axis=1) == truth))


def _ridge(x, targets, labels, centre):
    """Returns the weights `(features, classes)` of the penalty with the best leave-one-out."""
    left, values, right = np.linalg.svd(x, full_matrices=False)
    inside = left.T @ targets
    best, chosen = -1.0, None
    for penalty in PENALTIES:
        shrink = values**2 / (values**2 + penalty * len(x))
        fitted = left @ (shrink[:, None] * inside)
        leverage = np.minimum((left**2) @ shrink + 1 / len(x), 1 - 1e-9)  # and that of the mean
        left_out = targets - (targets - fitted) / (1 - leverage)[:, None]
        accuracy = np.mean(np.argmax(left_out + centre, axis=1) == labels)
        if accuracy > best:
            best, chosen = accuracy, penalty
    return right.T @ ((values / (values**2 + chosen * len(x)))[:, None] * inside)
