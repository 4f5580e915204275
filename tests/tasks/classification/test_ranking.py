"""Agreement beyond chance, ranking metrics and thresholds against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.classification import agreement, ranking, threshold
from tasks.data import balanced_order
from zoo.errors import UsageError

sklearn = pytest.importorskip("sklearn.metrics")


@pytest.fixture
def examples():
    random = np.random.default_rng(3)
    labels = random.choice(4, 200, p=(0.5, 0.3, 0.15, 0.05))
    logits = random.normal(size=(200, 4)).round(1) + 1.2 * np.eye(4)[labels]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_agreement_is_that_of_scikit_learn(examples):
    probabilities, labels = examples
    predicted = probabilities.argmax(axis=1)
    found = agreement.agreement_metrics(predicted, labels, 4, seed=0)
    expected = sklearn.matthews_corrcoef(labels, predicted)
    assert found["mcc"] == pytest.approx(expected, abs=1e-12)
    assert found["kappa"] == pytest.approx(sklearn.cohen_kappa_score(labels, predicted), abs=1e-12)
    for name in ("mcc", "kappa"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_missing_predictions_are_a_class_of_their_own():
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, -1, 1, 1, 0])
    found = agreement.agreement_metrics(predicted, labels, 2, seed=0)
    named = np.where(predicted < 0, 2, predicted)
    assert found["mcc"] == pytest.approx(sklearn.matthews_corrcoef(labels, named))
    assert found["kappa"] == pytest.approx(sklearn.cohen_kappa_score(labels, named))


def test_a_constant_prediction_agrees_by_chance_alone():
    found = agreement.agreement_metrics(np.zeros(9, int), np.arange(9) % 2, 2, seed=0)
    assert (found["mcc"], found["kappa"]) == (0, 0)


def test_ranking_metrics_are_those_of_scikit_learn(examples):
    probabilities, labels = examples
    found = ranking.ranking_metrics(probabilities, labels, seed=0)
    expected = sklearn.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert found["auroc"] == pytest.approx(expected, abs=1e-12)
    each = [sklearn.average_precision_score(labels == k, probabilities[:, k]) for k in range(4)]
    assert found["average_precision"] == pytest.approx(np.mean(each), abs=1e-12)
    for name in ("auroc", "average_precision"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_ranking_of_two_classes_is_that_of_the_second():
    random = np.random.default_rng(0)
    score, labels = random.random(50).round(1), random.integers(0, 2, 50)
    found = ranking.ranking_metrics(np.stack([1 - score, score], 1), labels, seed=0)
    assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(labels, score))
    expected = sklearn.average_precision_score(labels, score)
    assert found["average_precision"] == pytest.approx(expected)


def test_weighted_metrics_are_those_of_repeated_examples():
    random = np.random.default_rng(1)
    scores, positive = random.random(30).round(1), random.random(30) < 0.4
    counts = random.integers(0, 4, (5, 30))
    for row, roc, average in zip(
        counts,
        ranking.weighted_auroc(scores, positive, counts),
        ranking.weighted_precision(scores, positive, counts),
        strict=True,
    ):
        some = np.repeat(np.arange(30), row)
        assert roc == pytest.approx(sklearn.roc_auc_score(positive[some], scores[some]))
        expected = sklearn.average_precision_score(positive[some], scores[some])
        assert average == pytest.approx(expected)


def test_curve_is_that_of_scikit_learn(examples):
    probabilities, labels = examples
    recall, precision = ranking.curve(probabilities[:, 0], labels == 0)
    expected = sklearn.precision_recall_curve(labels == 0, probabilities[:, 0])
    np.testing.assert_allclose(recall[::-1], expected[1][:-1])
    np.testing.assert_allclose(precision[::-1], expected[0][:-1])


def test_figure_names_the_classes(examples):
    html = ranking.curves_figure(*examples, ["a<b", "c", "d", "e"])
    assert "a&lt;b" in html
    assert html.count('<path class="line run') == 8
    assert ranking.curves_figure(examples[0], np.zeros(200, int), ["a", "b", "c", "d"]) == ""


def test_one_class_has_no_ranking():
    assert ranking.ranking_metrics(np.full((4, 2), 0.5), np.zeros(4, int), seed=0) == {}


@pytest.mark.parametrize("costs", [(1, 1), (1, 5), (5, 1), (1, 1e6)])
def test_no_threshold_costs_less(costs):
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, 80)
    margins = random.normal(size=80) + labels
    logits = np.stack([np.zeros(80), margins], 1)
    shift = threshold.best_shift(logits, labels, costs)
    found = threshold.mean_cost(margins - shift, labels, costs)
    every = [*margins, *(margins - 1e-9), margins.max() + 1]
    assert found <= min(threshold.mean_cost(margins - x, labels, costs) for x in every) + 1e-12


def test_threshold_of_separated_classes_is_the_optimum_of_calibrated_probabilities():
    logits = [[4.0, -4.0], [3.0, -3.0], [-3.0, 3.0]]
    assert threshold.best_shift(logits, [0, 0, 1], (1, 5)) == pytest.approx(np.log(1 / 5))


@pytest.mark.parametrize("text", ["5", "1:0", "-1:2", "1:2:3", "a:b", "1:inf"])
def test_costs_that_are_no_pair_are_refused(text):
    with pytest.raises(UsageError, match="such as 1:5"):
        threshold.parse_costs(text)


def test_balanced_order_draws_as_many_of_each_class():
    labels = np.repeat([0, 1, 2], [70, 25, 5])
    found = balanced_order.balanced_indices(labels, 10, 0, 3)
    assert found.shape == (10, 10)
    assert sorted(np.bincount(labels[found.ravel()])) == [33, 33, 34]
    small = np.bincount(found.ravel(), minlength=100)[95:]
    assert small.max() - small.min() <= 1  # all, before one is drawn again
    assert np.bincount(found.ravel(), minlength=100)[:70].max() == 1
    np.testing.assert_array_equal(found, balanced_order.balanced_indices(labels, 10, 0, 3))
    assert (found != balanced_order.balanced_indices(labels, 10, 0, 4)).any()
