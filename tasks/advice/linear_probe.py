"""Linear probe: cross-validated accuracy of a ridge classifier on given features.

The targets are one-hot vectors, and the prediction is the class with the largest output (Rifkin et
al., 2003). Ridge regression has a closed form, and so have its leave-one-out predictions (Allen's
PRESS, 1974), which select the penalty within each training fold.
"""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.lazy import np

RIDGE_ALPHAS = tuple(10.0**power for power in range(-3, 5))  # times the number of examples
NUM_FOLDS = 5
CONSTANT_TOLERANCE = 1e-9  # standard deviation, relative to the mean, of a feature to drop


def cross_val_accuracy(features, labels, *, folds: int = NUM_FOLDS, seed: int = 0):
    """Returns the accuracy on each fold `(folds,)` of a probe that is fitted on the other folds.

    Args:
        features: `(examples, ..., features)`; the axes between, as of feature maps, are averaged.
        labels: Class indices `(examples,)`.
        folds: The number of folds, which are stratified by class.
        seed: The random seed of the folds.

    Raises:
        UsageError: If there are fewer than two examples per fold, only one class, or features
            that are not finite.
    """
    labels = np.asarray(labels)
    check_labels(labels, folds)
    features = np.asarray(features, np.float64)
    features = features.mean(axis=tuple(range(1, features.ndim - 1)))
    if not np.isfinite(features).all():
        raise UsageError("some features are not finite; the weights are damaged")
    fold_ids = _stratified_folds(labels, folds, seed)
    return np.array(
        [
            _fold_accuracy(
                features[fold_ids != part],
                labels[fold_ids != part],
                features[held_out],
                labels[held_out],
            )
            for part in range(folds)
            for held_out in [fold_ids == part]
        ]
    )


def check_labels(labels, folds: int = NUM_FOLDS):
    """Raises `UsageError` if there are too few labels or classes for so many folds."""
    classes = len(np.unique(labels))
    if folds < 2 or len(labels) < 2 * folds or classes < 2:
        raise UsageError(
            f"a linear probe needs at least 2 folds, 2 images per fold and 2 classes, not "
            f"{len(labels)} images of {classes} classes for {folds} folds"
        )


def _stratified_folds(labels, folds, seed):
    """Returns the fold of each example, stratified by class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_ids = np.empty(len(labels), np.int64)
    fold_ids[by_class] = np.arange(len(labels)) % folds
    return fold_ids


def fit_and_predict(x, labels, held_out):
    """Returns the outputs of a probe for images on which it was not fitted.

    Args:
        x: float64 `(examples, features)`.
        labels: Class indices `(examples,)`.
        held_out: float64 `(others, features)`.

    Returns:
        `(others, classes)`, with `labels.max() + 1` classes; about 1 for the class, 0 for others.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    used = spread > CONSTANT_TOLERANCE * (1 + np.abs(mean))
    x, held_out = ((each[:, used] - mean[used]) / spread[used] for each in (x, held_out))
    targets = np.eye(labels.max() + 1)[labels]
    centre = targets.mean(axis=0)
    return held_out @ _fit_ridge(x, targets - centre, labels, centre) + centre


def _fold_accuracy(x, labels, held_out, held_out_labels):
    outputs = fit_and_predict(x, labels, held_out)
    return float(np.mean(np.argmax(outputs, axis=1) == held_out_labels))


def _fit_ridge(x, targets, labels, centre):
    """Returns the weights `(features, classes)` with the best penalty by leave-one-out accuracy.

    Args:
        x: `(examples, features)`, of mean 0.
        targets: `(examples, classes)`, of mean 0.
        labels: `(examples,)`, the class of each.
        centre: `(classes,)`, the mean that was subtracted from the targets.
    """
    wide = x.shape[1] > len(x)
    eigenvalues, eigenvectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    rotated = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0)) if wide else x @ eigenvectors
    projected_targets = rotated.T @ targets

    def leave_one_out_accuracy(penalty):
        left_out = _leave_one_out_predictions(
            rotated, eigenvalues, projected_targets, targets, penalty * len(x)
        )
        return np.mean(np.argmax(left_out + centre, axis=1) == labels)

    penalty = max(RIDGE_ALPHAS, key=leave_one_out_accuracy) * len(
        x
    )  # the smallest one of equal accuracy
    if wide:
        return x.T @ (
            eigenvectors @ ((eigenvectors.T @ targets) / (eigenvalues + penalty)[:, None])
        )
    return eigenvectors @ (projected_targets / (eigenvalues + penalty)[:, None])


def _leave_one_out_predictions(rotated, eigenvalues, projected_targets, targets, penalty):
    """Returns the prediction for each example by weights and mean that were fitted without it.

    Args:
        rotated: examples in the eigenbasis of the covariance.
        eigenvalues: the sum of squares along each axis.
        projected_targets: `rotated.T @ targets`.
        targets: `(examples, classes)`, of mean 0.
        penalty: penalty added to the eigenvalues, the same without the example.
    """
    inverse = 1 / (eigenvalues + penalty)
    leverage = rotated**2 @ inverse + 1 / len(rotated)  # the second is that of the mean
    fitted = rotated @ (inverse[:, None] * projected_targets)
    return targets - (targets - fitted) / (1 - leverage)[:, None]
