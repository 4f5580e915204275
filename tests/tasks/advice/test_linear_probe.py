"""The probe's closed forms are what really fitting and really leaving out give."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.advice import linear_probe
from zoo.errors import UsageError


def clusters(classes, each, features, *, apart, seed=0):
    """Features around one random centre per class, and the classes."""
    random = np.random.default_rng(seed)
    centres = apart * random.normal(size=(classes, features))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + random.normal(size=(len(labels), features)), labels


def fit(x, targets, penalty):
    """Weights and intercept of a ridge regression whose intercept costs nothing, solved at once."""
    wide = np.c_[x, np.ones(len(x))]
    cost = penalty * np.diag([*np.ones(x.shape[1]), 0.0])
    return np.linalg.solve(wide.T @ wide + cost, wide.T @ targets)


def said(weights, x):
    return np.c_[x, np.ones(len(x))] @ weights


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def slow_penalty(x, targets, labels):
    """The penalty under which most are right when each is really left out of the fit."""
    best = {}
    for penalty in linear_probe.RIDGE_ALPHAS:
        answers = [
            said(fit(np.delete(x, i, 0), np.delete(targets, i, 0), penalty * len(x)), x[[i]])[0]
            for i in range(len(x))
        ]
        best[penalty] = np.mean(np.argmax(answers, axis=1) == labels)
    return max(best, key=best.get)


@pytest.mark.parametrize("penalty", linear_probe.RIDGE_ALPHAS)
@pytest.mark.parametrize("features", [6, 60], ids=["tall", "wide"])
def test_left_out_is_a_fit_without_the_example_and_without_it_in_the_mean(features, penalty):
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
        rest, taught = np.delete(x, i, 0), np.delete(targets, i, 0)
        # The intercept of the slow fit is its own, so it is centred on the others alone.
        np.testing.assert_allclose(found[i], said(fit(rest, taught, cost), x[[i]])[0], atol=1e-8)


@pytest.mark.parametrize("features", [5, 40], ids=["tall", "wide"])
def test_weights_are_those_of_the_penalty_that_is_best_when_one_is_left_out(features):
    x, labels = clusters(4, 6, features, apart=0.7, seed=7)
    x, targets = standardised(x), np.eye(4)[labels]
    centre = targets.mean(axis=0)
    chosen = slow_penalty(x, targets, labels)
    assert chosen != linear_probe.RIDGE_ALPHAS[0]  # or nothing has been chosen
    found = linear_probe._fit_ridge(x, targets - centre, labels, centre)
    wanted = fit(x, targets, chosen * len(x))
    np.testing.assert_allclose(found, wanted[:-1], atol=1e-9)
    np.testing.assert_allclose(wanted[-1], centre, atol=1e-9)


def test_accuracies_are_those_of_the_slow_formula():
    x, labels = clusters(3, 14, 4, apart=1.0, seed=3)
    parts = linear_probe._stratified_folds(labels, 3, seed=7)
    wanted = []
    for part in range(3):
        learn, held = parts != part, parts == part
        mean, spread = x[learn].mean(axis=0), x[learn].std(axis=0)
        taught, targets = (x[learn] - mean) / spread, np.eye(3)[labels[learn]]
        penalty = slow_penalty(taught, targets, labels[learn]) * len(taught)
        answers = said(fit(taught, targets, penalty), (x[held] - mean) / spread)
        wanted.append(np.mean(np.argmax(answers, axis=1) == labels[held]))
    assert 0.4 < np.mean(wanted) < 1
    np.testing.assert_allclose(linear_probe.cross_val_accuracy(x, labels, folds=3, seed=7), wanted)


def test_classes_that_lie_apart_are_told_apart():
    assert (
        linear_probe.cross_val_accuracy(*clusters(5, 12, 20, apart=5.0)).tolist()
        == [1.0] * linear_probe.NUM_FOLDS
    )


@pytest.mark.parametrize("features", [10, 500], ids=["tall", "wide"])
def test_labels_that_mean_nothing_are_guessed(features):
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(200, features)), np.arange(200) % 4
    # 200 guesses at 0.25 have a standard error of 0.03.
    assert linear_probe.cross_val_accuracy(x, labels).mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_each_fold_has_its_share_of_every_class(seed):
    labels = np.repeat([0, 1, 2, 5], [23, 7, 50, 11])
    parts = linear_probe._stratified_folds(labels, 5, seed)
    for label in np.unique(labels):
        counts = np.bincount(parts[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(parts)) <= 1


def test_folds_change_with_the_seed_alone():
    labels = np.arange(40) % 4
    assert (
        linear_probe._stratified_folds(labels, 5, 1) == linear_probe._stratified_folds(labels, 5, 1)
    ).all()
    assert (
        linear_probe._stratified_folds(labels, 5, 1) != linear_probe._stratified_folds(labels, 5, 2)
    ).any()


def test_what_lies_between_example_and_feature_is_averaged():
    maps, labels = clusters(3, 10, 4 * 5 * 6, apart=0.3)
    maps = maps.reshape(30, 4, 5, 6).astype("float16")
    means = maps.astype("float64").mean(axis=(1, 2))
    wanted = linear_probe.cross_val_accuracy(means, labels)
    np.testing.assert_array_equal(linear_probe.cross_val_accuracy(maps, labels), wanted)
    np.testing.assert_array_equal(
        linear_probe.cross_val_accuracy(maps.reshape(30, 20, 6), labels), wanted
    )


def test_features_that_never_change_or_repeat_others_do_no_harm():
    x, labels = clusters(3, 20, 5, apart=1.0)
    still = np.c_[x, np.full(60, 1e6), np.zeros(60)]
    np.testing.assert_array_equal(
        linear_probe.cross_val_accuracy(still, labels), linear_probe.cross_val_accuracy(x, labels)
    )
    assert linear_probe.cross_val_accuracy(np.zeros((60, 3)), labels).mean() <= 0.5
    assert np.isfinite(linear_probe.cross_val_accuracy(np.c_[x, x], labels)).all()


def test_a_class_of_one_image_and_gaps_between_classes_are_allowed():
    x, labels = clusters(2, 20, 5, apart=5.0)
    labels = np.where(labels, 7, 2)
    labels[0] = 9
    assert 0.9 < linear_probe.cross_val_accuracy(x, labels).mean() < 1


@pytest.mark.parametrize(
    ("labels", "folds"), [([0, 1] * 4, 5), ([0] * 50, 5), ([0, 1] * 20, 1), ([], 5)]
)
def test_too_few_images_or_classes_are_refused(labels, folds):
    with pytest.raises(UsageError, match=f"not {len(labels)} images of .* for {folds}"):
        linear_probe.cross_val_accuracy(np.zeros((len(labels), 3)), labels, folds=folds)


def test_features_that_are_no_numbers_are_refused():
    x, labels = clusters(2, 10, 3, apart=1.0)
    x[3, 1] = np.nan
    with pytest.raises(UsageError, match="not finite"):
        linear_probe.cross_val_accuracy(x, labels)
