"""The closed forms of the linear probe match explicit fits and explicit leave-one-out."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.advice import linear_probe
from zoo.errors import UsageError


def clusters(classes, each, features, *, apart, seed=0):
    """Returns features around one random center per class, and the labels."""
    random = np.random.default_rng(seed)
    centres = apart * random.normal(size=(classes, features))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + random.normal(size=(len(labels), features)), labels


def fit(x, targets, penalty):
    """Returns weights and intercept of a ridge regression with an unpenalized intercept."""
    wide = np.c_[x, np.ones(len(x))]
    cost = penalty * np.diag([*np.ones(x.shape[1]), 0.0])
    return np.linalg.solve(wide.T @ wide + cost, wide.T @ targets)


def predict(weights, x):
    return np.c_[x, np.ones(len(x))] @ weights


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def slow_penalty(x, targets, labels):
    """Returns the penalty with the best accuracy by explicit leave-one-out."""
    best = {}
    for penalty in linear_probe.RIDGE_ALPHAS:
        outputs = [
            predict(fit(np.delete(x, i, 0), np.delete(targets, i, 0), penalty * len(x)), x[[i]])[0]
            for i in range(len(x))
        ]
        best[penalty] = np.mean(np.argmax(outputs, axis=1) == labels)
    return max(best, key=best.get)


@pytest.mark.parametrize("penalty", linear_probe.RIDGE_ALPHAS)
@pytest.mark.parametrize("features", [6, 60], ids=["tall", "wide"])
def test_leave_one_out_matches_fits_without_the_example(features, penalty):
    x, labels = clusters(3, 10, features, apart=1.0)
    x, targets = standardised(x), np.eye(3)[labels]
    centre, cost = targets.mean(axis=0), penalty * len(x)
    squares, axes = np.linalg.eigh(x.T @ x)
    turned = x @ axes
    inside = turned.T @ (targets - centre)
    found = (
        linear_probe._leave_one_out_predictions(turned, squares, inside, targets - centre, cost)
        + centre
    )
    for i in range(len(x)):
        rest, rest_targets = np.delete(x, i, 0), np.delete(targets, i, 0)
        # The intercept of the slow fit is its own, so it is centered on the others alone.
        np.testing.assert_allclose(
            found[i], predict(fit(rest, rest_targets, cost), x[[i]])[0], atol=1e-8
        )


@pytest.mark.parametrize("features", [5, 40], ids=["tall", "wide"])
def test_weights_have_the_best_penalty_by_leave_one_out(features):
    x, labels = clusters(4, 6, features, apart=0.7, seed=7)
    x, targets = standardised(x), np.eye(4)[labels]
    centre = targets.mean(axis=0)
    chosen = slow_penalty(x, targets, labels)
    assert chosen != linear_probe.RIDGE_ALPHAS[0]  # otherwise the choice is trivial
    found = linear_probe._fit_ridge(x, targets - centre, labels, centre)
    wanted = fit(x, targets, chosen * len(x))
    np.testing.assert_allclose(found, wanted[:-1], atol=1e-9)
    np.testing.assert_allclose(wanted[-1], centre, atol=1e-9)


def test_cross_validation_matches_a_slow_formula():
    x, labels = clusters(3, 14, 4, apart=1.0, seed=3)
    parts = linear_probe._stratified_folds(labels, 3, seed=7)
    wanted = []
    for part in range(3):
        train, test = parts != part, parts == part
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
        train_x, targets = (x[train] - mean) / spread, np.eye(3)[labels[train]]
        penalty = slow_penalty(train_x, targets, labels[train]) * len(train_x)
        outputs = predict(fit(train_x, targets, penalty), (x[test] - mean) / spread)
        wanted.append(np.mean(np.argmax(outputs, axis=1) == labels[test]))
    assert 0.4 < np.mean(wanted) < 1
    np.testing.assert_allclose(linear_probe.cross_val_accuracy(x, labels, folds=3, seed=7), wanted)


def test_separable_classes_are_classified():
    assert (
        linear_probe.cross_val_accuracy(*clusters(5, 12, 20, apart=5.0)).tolist()
        == [1.0] * linear_probe.NUM_FOLDS
    )


@pytest.mark.parametrize("features", [10, 250], ids=["tall", "wide"])
def test_random_labels_have_chance_accuracy(features):
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(200, features)), np.arange(200) % 4
    # 200 guesses at 0.25 have a standard error of 0.03.
    assert linear_probe.cross_val_accuracy(x, labels).mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_stratified(seed):
    labels = np.repeat([0, 1, 2, 5], [23, 7, 50, 11])
    parts = linear_probe._stratified_folds(labels, 5, seed)
    for label in np.unique(labels):
        counts = np.bincount(parts[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(parts)) <= 1


def test_folds_depend_on_the_seed():
    labels = np.arange(40) % 4
    assert (
        linear_probe._stratified_folds(labels, 5, 1) == linear_probe._stratified_folds(labels, 5, 1)
    ).all()
    assert (
        linear_probe._stratified_folds(labels, 5, 1) != linear_probe._stratified_folds(labels, 5, 2)
    ).any()


def test_feature_maps_are_averaged():
    maps, labels = clusters(3, 10, 4 * 5 * 6, apart=0.3)
    maps = maps.reshape(30, 4, 5, 6).astype("float16")
    means = maps.astype("float64").mean(axis=(1, 2))
    wanted = linear_probe.cross_val_accuracy(means, labels)
    np.testing.assert_array_equal(linear_probe.cross_val_accuracy(maps, labels), wanted)
    np.testing.assert_array_equal(
        linear_probe.cross_val_accuracy(maps.reshape(30, 20, 6), labels), wanted
    )


def test_constant_and_duplicate_features_are_harmless():
    x, labels = clusters(3, 20, 5, apart=1.0)
    still = np.c_[x, np.full(60, 1e6), np.zeros(60)]
    np.testing.assert_array_equal(
        linear_probe.cross_val_accuracy(still, labels), linear_probe.cross_val_accuracy(x, labels)
    )
    assert linear_probe.cross_val_accuracy(np.zeros((60, 3)), labels).mean() <= 0.5
    assert np.isfinite(linear_probe.cross_val_accuracy(np.c_[x, x], labels)).all()


def test_classes_of_one_image_and_gaps_between_labels_are_allowed():
    x, labels = clusters(2, 20, 5, apart=5.0)
    labels = np.where(labels, 7, 2)
    labels[0] = 9
    assert 0.9 < linear_probe.cross_val_accuracy(x, labels).mean() < 1


@pytest.mark.parametrize(
    ("labels", "folds"), [([0, 1] * 4, 5), ([0] * 50, 5), ([0, 1] * 20, 1), ([], 5)]
)
def test_too_few_images_or_classes_are_rejected(labels, folds):
    with pytest.raises(UsageError, match=f"not {len(labels)} images of .* for {folds}"):
        linear_probe.cross_val_accuracy(np.zeros((len(labels), 3)), labels, folds=folds)


def test_features_that_are_not_finite_are_rejected():
    x, labels = clusters(2, 10, 3, apart=1.0)
    x[3, 1] = np.nan
    with pytest.raises(UsageError, match="not finite"):
        linear_probe.cross_val_accuracy(x, labels)
