"""Intervals, calibration and multi-label metrics: slow formulas, other libraries, by hand."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from tasks.classification import calibration, metrics, multilabel
from tasks.report import confidence_intervals
from zoo.errors import UsageError

NAN = math.nan


def slow_bootstrap(values, seed, resamples=4000):
    """Returns the 95% interval of the means of resamples, drawn one by one."""
    random = np.random.default_rng(seed)
    means = [random.choice(values, len(values)).mean() for _ in range(resamples)]
    return np.percentile(means, [2.5, 97.5])


@pytest.mark.parametrize("kind", ["hits", "losses"])
def test_the_interval_of_a_mean_agrees_with_a_slow_bootstrap_and_the_normal_distribution(kind):
    random = np.random.default_rng(1)
    values = {"hits": random.random(400) < 0.8, "losses": random.exponential(2, 400)}[kind]
    found = confidence_intervals.mean_interval(values, seed=3, resamples=4000)
    width = values.std() / math.sqrt(400)
    np.testing.assert_allclose(found, slow_bootstrap(values, 7), atol=0.15 * width)
    normal = values.mean() + 1.96 * width * np.array([-1, 1])
    np.testing.assert_allclose(found, normal, atol=0.25 * width)
    assert found == confidence_intervals.mean_interval(values, seed=3, resamples=4000)
    assert found != confidence_intervals.mean_interval(values, seed=4, resamples=4000)
    low, high = confidence_intervals.mean_interval(values, seed=3, level=0.5)
    assert found[0] < low < values.mean() < high < found[1]


def test_resamples_have_the_size_of_the_sample():
    sizes = []

    def largest_count(times):
        sizes.append(len(times))
        assert times.sum(axis=1).tolist() == [3000] * len(times)
        return np.full(len(times), NAN) if len(sizes) == 1 else times.max(axis=1).astype(float)

    low, high = confidence_intervals.bootstrap_interval(largest_count, 3000, seed=0, resamples=1000)
    assert sum(sizes) == 1000
    assert len(sizes) > 1  # in blocks, to limit memory
    assert 4 <= low <= high <= 12  # the most frequent of 3,000; NaN is ignored


def test_the_interval_has_its_nominal_coverage():
    random = np.random.default_rng(5)
    ends = [
        confidence_intervals.mean_interval(random.random(200) < 0.7, seed=i, resamples=400)
        for i in range(400)
    ]
    coverage = np.mean([low <= 0.7 <= high for low, high in ends])
    assert 0.91 < coverage < 0.98


def test_the_interval_of_a_perfect_accuracy_is_not_empty():
    low, high = confidence_intervals.mean_interval(np.ones(24), seed=0)
    assert high == 1
    assert low**24 == pytest.approx(0.025)  # with this accuracy, all are correct once in 40 times
    assert confidence_intervals.mean_interval(np.zeros(24), seed=0) == (0, pytest.approx(1 - low))


@pytest.mark.parametrize("count", [1, 3, 24])
def test_the_interval_of_equal_values_depends_on_the_bounds_of_a_value(count):
    """Other values may be as frequent as allows a sample without any of them once in 40 times.

    The mean is lowest if all of them are at the lower bound, and highest at the upper bound.
    """
    values = np.full(count, 0.7)
    same = 0.025 ** (1 / count)
    low, high = confidence_intervals.mean_interval(
        values, seed=0, bounds=confidence_intervals.UNIT_BOUNDS
    )
    assert low == pytest.approx(0.7 * same)
    assert high == pytest.approx(0.7 * same + 1 - same)
    low, high = confidence_intervals.bootstrap_interval(
        lambda times: np.full(len(times), 4.0), count, seed=0, bounds=(0, 10)
    )
    assert low == pytest.approx(4 * same)
    assert high == pytest.approx(4 * same + 10 * (1 - same))


def test_equal_values_without_bounds_have_no_interval():
    assert np.isnan(confidence_intervals.mean_interval([9.0], seed=0)).all()
    assert np.isnan(confidence_intervals.mean_interval([0.1] * 7, seed=0)).all()
    assert confidence_intervals.with_interval("mean_return", 9.0, (np.nan, np.nan)) == {
        "mean_return": 9.0
    }
    assert list(confidence_intervals.with_interval("ap", 0.5, (0.25, 0.75))) == [
        "ap",
        "ap_low",
        "ap_high",
    ]


def test_metrics_with_intervals_add_the_interval_of_the_first_metric():
    random = np.random.default_rng(0)
    labels = random.integers(0, 7, 500)
    logits = random.normal(size=(500, 7)) + 2 * np.eye(7)[labels]
    figures = metrics.metrics_with_intervals(logits, labels, seed=0)
    ends = ["accuracy", "accuracy_low", "accuracy_high"]
    balanced = ["majority_share", "balanced_accuracy", "macro_f1"]
    names = ("mcc", "kappa", "auroc", "average_precision")
    others = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    assert list(figures) == [*ends, *balanced, "top5_accuracy", "loss", "ece", *others]
    assert figures["majority_share"] == np.bincount(labels).max() / 500
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    added = (*ends[1:], "majority_share", *others)
    assert {k: v for k, v in figures.items() if k not in added} == metrics.summary(logits, labels)
    hits = metrics.predictions(logits) == labels
    assert (
        figures["accuracy_low"],
        figures["accuracy_high"],
    ) == confidence_intervals.mean_interval(hits, seed=0)


def slow_error(probabilities, labels):
    """Returns the expected calibration error by the formula of Guo et al., bin by bin."""
    total = 0.0
    for index in range(15):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if index / 15 < row.max() <= (index + 1) / 15
        ]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


def test_the_calibration_error_agrees_with_a_slow_loop():
    random = np.random.default_rng(2)
    labels = random.integers(0, 4, 700)
    logits = 3 * random.normal(size=(700, 4)) + 2 * np.eye(4)[labels]
    found = metrics.classification_metrics(logits, labels)["ece"]
    assert found == pytest.approx(slow_error(metrics.softmax(logits), labels))
    assert found > 0.05
    assert calibration.expected_calibration_error([1.0, 1.0, 0.5, 0.5], [1, 0, 1, 0]) == 0.25
    assert calibration.expected_calibration_error([1 / 15, 1.1 / 15], [0, 1]) == pytest.approx(
        (1 / 15 + 13.9 / 15) / 2
    )
    assert math.isnan(metrics.classification_metrics([[NAN, 0.0], [1.0, 0.0]], [0, 0])["ece"])


def sample_labels(logits, random):
    """Samples a label from the softmax of each row, so that the logits are calibrated."""
    levels = metrics.softmax(logits).cumsum(axis=1)
    return (random.random((len(logits), 1)) > levels).sum(axis=1).clip(max=logits.shape[1] - 1)


def test_calibrated_predictions_have_no_error_and_need_no_temperature():
    random = np.random.default_rng(3)
    logits = 2 * random.normal(size=(40_000, 5))
    labels = sample_labels(logits, random)
    assert metrics.classification_metrics(logits, labels)["ece"] < 0.01
    assert calibration.fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)
    assert metrics.classification_metrics(3 * logits, labels)["ece"] > 0.1


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_temperature_follows_the_scale_and_never_increases_the_loss(multi_label):
    random = np.random.default_rng(4)
    logits = random.normal(size=(300, 6))
    likely = random.random((300, 6)) < 1 / (1 + np.exp(-logits))
    labels = likely if multi_label else sample_labels(logits, random)
    logits[7] = NAN  # ignored
    temperature = calibration.fit_temperature(logits, labels)
    assert calibration.fit_temperature(3 * logits, labels) == pytest.approx(
        3 * temperature, rel=1e-5
    )
    valid = np.arange(300) != 7
    logits, labels = logits[valid], labels[valid]
    best = metrics.summary(logits / temperature, labels)["loss"]
    for factor in np.geomspace(0.05, 20, 50):
        scaled = calibration.fit_temperature(factor * logits, labels)
        after = metrics.summary(factor * logits / scaled, labels)["loss"]
        assert after <= metrics.summary(factor * logits, labels)["loss"] + 1e-12
        assert after == pytest.approx(best, rel=1e-8)
        assert best <= metrics.summary(factor * logits, labels)["loss"] + 1e-12


def test_the_temperature_has_a_gradient_of_zero():
    """With equal logits of which a share p is correct, the softmax is p at log(p / (1 - p))."""
    logits = np.tile([1.0, 0.0], (100, 1))
    labels = (np.arange(100) < 20).astype(int)  # 80 of 100 correct
    assert 1 / calibration.fit_temperature(logits, labels) == pytest.approx(math.log(4), rel=1e-6)


def test_the_temperature_is_one_if_it_cannot_be_fitted():
    assert calibration.fit_temperature([[3.0, 0.0], [0.0, 2.0]], [0, 1]) == 1  # all correct
    assert calibration.fit_temperature([[NAN, 0.0]], [0]) == 1
    assert calibration.fit_temperature([[2.0, 2.0], [2.0, 2.0]], [0, 1]) == 1
    assert 1 < calibration.fit_temperature([[9.0, 0.0]], [1]) <= 100  # all wrong


def test_the_reliability_diagram_has_bars_of_accuracy_and_counts():
    confidences = np.array([0.95, 0.99, 0.97, 0.29, NAN])
    figure = calibration.reliability_diagram(confidences, np.array([1, 1, 0, 0, 1]))
    tree = ElementTree.fromstring(figure.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    bars = [bar for bar in tree.iter("rect") if bar.get("class") == "bar"]
    low, high = bars[:2], bars[2:]  # each an accuracy and a count
    assert low[0].find("title").text == "1 prediction, mean confidence 29.0%, accuracy 0.0%"
    assert high[0].find("title").text == "3 predictions, mean confidence 97.0%, accuracy 66.7%"
    heights = {
        text.text: float(text.get("y")) for text in tree.iter("text") if text.get("x") == "48.0"
    }
    top, bottom = heights["100%"] - 4, heights["0%"] - 4
    assert float(low[0].get("height")) == 0
    assert float(high[0].get("height")) == pytest.approx(2 / 3 * (bottom - top), abs=0.01)
    assert float(high[1].get("height")) == pytest.approx(3 * float(low[1].get("height")), abs=0.02)
    assert "30.0% above accuracy" in "".join(tree.itertext())
    calibration.reliability_diagram(np.array([NAN]), np.array([0]))  # an empty diagram


def slow_average_precision(scores, positive):
    """Returns the average precision by its definition, threshold by threshold."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        predicted = scores >= threshold
        hits = (predicted & positive).sum()
        total += (hits / positive.sum() - recall) * hits / predicted.sum()
        recall = hits / positive.sum()
    return total


@pytest.fixture
def multi_label():
    random = np.random.default_rng(6)
    labels = random.random((150, 6)) < [0.5, 0.3, 0.1, 0.02, 0.9, 0]
    labels[0] = [1, 0, 0, 1, 1, 0]  # the last class has no positive example
    return (2 * labels - 1 + 1.5 * random.normal(size=(150, 6))).round(1), labels  # with ties


def f1(predicted, positive):
    hits = (predicted & positive).sum()
    precision, recall = hits / max(predicted.sum(), 1), hits / max(positive.sum(), 1)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def test_multi_label_metrics_agree_with_slow_formulas(multi_label):
    logits, labels = multi_label
    probabilities = 1 / (1 + np.exp(-logits))
    predicted = probabilities > 0.5
    figures = metrics.multilabel_metrics(logits, labels.astype(np.float32))
    precisions = [slow_average_precision(logits[:, c], labels[:, c]) for c in range(5)]
    assert figures == pytest.approx(
        {
            "map": np.mean(precisions),
            "micro_f1": f1(predicted.ravel(), labels.ravel()),
            "macro_f1": np.mean([f1(predicted[:, c], labels[:, c]) for c in range(5)]),
            "exact_match": np.mean(
                [list(a) == list(b) for a, b in zip(predicted, labels, strict=True)]
            ),
            "loss": -np.mean(np.log(np.where(labels, probabilities, 1 - probabilities))),
        }
    )
    rows = multilabel.per_class_metrics(logits, labels)
    assert [row["ap"] for row in rows] == [*map(pytest.approx, precisions), None]
    assert [row["f1"] for row in rows] == pytest.approx(
        [f1(predicted[:, c], labels[:, c]) for c in range(6)]
    )
    assert [row["support"] for row in rows] == labels.sum(axis=0).tolist()


def test_multi_label_metrics_agree_with_scikit_learn(multi_label):
    sklearn = pytest.importorskip("sklearn.metrics")
    logits, labels = (part[:, :5] for part in multi_label)
    figures, predicted = metrics.multilabel_metrics(logits, labels), logits > 0
    assert figures["map"] == pytest.approx(sklearn.average_precision_score(labels, logits))
    for mean in ("micro", "macro"):
        assert figures[f"{mean}_f1"] == pytest.approx(
            sklearn.f1_score(labels, predicted, average=mean)
        )
    assert figures["exact_match"] == pytest.approx(sklearn.accuracy_score(labels, predicted))


def test_multi_label_metrics_by_hand():
    logits, labels = [[3.0, -1.0], [2.0, 1.0], [-1.0, 2.0]], [[1, 0], [0, 1], [1, 1]]
    figures = metrics.multilabel_metrics(logits, labels)
    assert figures["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert figures["exact_match"] == pytest.approx(1 / 3)
    assert figures["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert metrics.summary(logits, labels) == figures
    assert multilabel.worst_mistakes(logits, labels, 5).tolist() == [1, 2]
    assert metrics.multilabel_metrics([[1e4, -1e4]], [[1, 0]])["loss"] == 0


def test_a_nan_predicts_nothing():
    logits, labels = [[NAN, 1.0], [-5.0, -1.0]], [[1, 1], [0, 1]]
    figures = metrics.multilabel_metrics(logits, labels)
    assert figures["map"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["exact_match"] == 0
    assert math.isnan(figures["loss"])
    assert multilabel.worst_mistakes(logits, labels, 5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 3), np.zeros((2, 3)), "no example of the split has a label"),
        ((2, 3), np.ones((2, 2)), "shape"),
    ],
)
def test_invalid_multi_label_inputs_are_refused(shape, labels, message):
    with pytest.raises(UsageError, match=message):
        metrics.multilabel_metrics(np.zeros(shape), labels)


def test_the_interval_of_the_mean_average_precision_agrees_with_a_slow_bootstrap(multi_label):
    logits, labels = multi_label
    random, slow = np.random.default_rng(8), []
    for _ in range(200):
        chosen = random.integers(0, 150, 150)
        slow.append(metrics.multilabel_metrics(logits[chosen], labels[chosen])["map"])
    figures = metrics.metrics_with_intervals(logits, labels, seed=0)
    found = figures["map_low"], figures["map_high"]
    np.testing.assert_allclose(found, np.percentile(slow, [2.5, 97.5]), atol=0.35 * np.std(slow))
    assert found[0] < figures["map"] < found[1]
    assert list(figures)[:3] == ["map", "map_low", "map_high"]
