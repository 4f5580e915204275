"""Classification metrics against slow formulas and by hand; their format and axes in a report."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from tasks.classification import metrics
from tasks.report import axes, confusion_plot, formatting
from zoo.errors import UsageError

NAN = math.nan


@pytest.fixture
def examples():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 8, 300)
    logits = rng.normal(size=(300, 8)).round(1) + 1.5 * np.eye(8)[labels]  # rounded: there are ties
    return logits, labels


def order(row):
    return sorted(range(len(row)), key=lambda index: (-row[index], index))


def cross_entropy(row, label):
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def test_classification_metrics_agree_with_slow_formulas(examples):
    logits, labels = examples
    ranks = [order(row).index(label) for row, label in zip(logits, labels, strict=True)]
    losses = [cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    figures = metrics.classification_metrics(logits.astype(np.float64), labels)
    assert figures["accuracy"] == sum(rank == 0 for rank in ranks) / 300
    assert figures["top5_accuracy"] == sum(rank < 5 for rank in ranks) / 300
    assert figures["loss"] == pytest.approx(sum(losses) / 300, rel=1e-12)
    assert 0.3 < figures["accuracy"] < figures["top5_accuracy"] < 1
    assert all(type(value) is float for value in figures.values())


def test_classification_metrics_by_hand():
    figures = metrics.classification_metrics([[0.0, 0.0], [0.0, 0.0]], [0, 1])
    # A tie goes to class 0.
    assert figures == {
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": 1 / 3,
        "loss": pytest.approx(math.log(2)),
        "ece": 0.0,
    }
    assert metrics.classification_metrics([[1e4, 0.0]], [1]) == {
        **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.0),
        "loss": 1e4,
        "ece": 1.0,
    }
    assert "top5_accuracy" not in metrics.classification_metrics(np.zeros((1, 5)), [4])
    assert metrics.classification_metrics(np.zeros((2, 6)), [4, 5])["top5_accuracy"] == 0.5
    assert metrics.classification_metrics([[0.0, -math.inf]], [1])["loss"] == math.inf


def test_balanced_accuracy_is_the_mean_recall_over_classes_with_examples():
    labels, predicted = np.repeat([0, 0, 1, 1], [9, 1, 1, 1]), np.repeat([0, 1, 0, 1], [9, 1, 1, 1])
    found = metrics.classification_metrics(np.eye(3)[predicted], labels)
    assert found["balanced_accuracy"] == pytest.approx(0.7)
    found = metrics.classification_metrics(np.eye(2)[[0] * 5 + [1]], [0] * 5 + [1])
    assert found["balanced_accuracy"] == 1
    nothing = metrics.classification_metrics(np.full((1, 2), math.nan), [0])
    assert nothing["balanced_accuracy"] == 0


@pytest.mark.parametrize("missing", [(), (2,), (0, 4)])
def test_balanced_metrics_agree_with_scikit_learn(missing):
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    kept = [label for label in range(6) if label not in missing]
    labels = random.choice(kept, 400, p=np.arange(1, len(kept) + 1) / sum(range(len(kept) + 1)))
    logits = random.normal(size=(400, 6)) + 1.5 * np.eye(6)[labels]
    logits[:, 5] = -9.0  # a class with examples and without predictions
    predicted = logits.argmax(1)
    figures = metrics.classification_metrics(logits, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about predicted classes without examples
        expected = sklearn.balanced_accuracy_score(labels, predicted)
    assert figures["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    expected = sklearn.f1_score(labels, predicted, average="macro", zero_division=0)
    assert figures["macro_f1"] == pytest.approx(expected, abs=1e-12)


def test_balanced_metrics_come_first_if_classes_differ_threefold():
    for count, first in ((29, "accuracy"), (30, "balanced_accuracy")):
        labels = np.repeat([0, 1], [count, 10])
        figures = metrics.metrics_with_intervals(
            np.tile([1.0, 0.0], (len(labels), 1)), labels, seed=0
        )
        assert next(iter(figures)) == first
        assert figures["accuracy"] == figures["majority_share"] == count / (count + 10)
        assert figures["balanced_accuracy"] == 0.5


def test_accuracy_without_near_copies():
    logits, labels = np.eye(2)[[0, 0, 1, 1]], np.array([0, 1, 1, 0])
    assert metrics.deduplicated_metrics(logits, labels, []) == {}
    assert metrics.deduplicated_metrics(logits, labels, [0, 1, 2, 3]) == {}
    found = metrics.deduplicated_metrics(logits, labels, np.array([0]))
    assert found == {"deduplicated_accuracy": pytest.approx(1 / 3)}
    rows = np.eye(2)[labels]
    assert metrics.deduplicated_metrics(logits, rows, [1, 3]) == {"deduplicated_map": 1.0}


def test_nan_logits_are_wrong_and_make_the_loss_nan():
    logits = np.array([[NAN, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0]])
    figures = metrics.classification_metrics(logits, [0, 0])
    assert figures["accuracy"] == figures["top5_accuracy"] == 0.5
    assert math.isnan(figures["loss"])
    assert metrics.predictions(logits).tolist() == [-1, 0]
    assert metrics.confusion_matrix([0, 0], metrics.predictions(logits), 6).sum() == 1
    assert metrics.worst_mistakes(logits, [0, 3], 5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 3], "label 3, expected 0 to 2"),
        (np.zeros((2, 3)), [0, -1], "label -1"),
        (np.zeros((0, 3)), [], "empty"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "shape"),
    ],
)
def test_invalid_logits_and_labels_are_refused(logits, labels, message):
    with pytest.raises(UsageError, match=message):
        metrics.classification_metrics(logits, labels)


def test_softmax_by_its_formula(examples):
    row = examples[0][0]
    total = sum(math.exp(value) for value in row)
    expected = [math.exp(value) / total for value in row]
    np.testing.assert_allclose(metrics.softmax(row + 1e4), expected, rtol=1e-9)
    assert metrics.softmax([[1e4, 0.0]]).tolist() == [[1, 0]]


def test_confusion_and_per_class_agree_with_loops(examples):
    logits, labels = examples
    labels = np.where(labels == 3, 2, labels)  # class 3 has no examples
    logits = np.where(np.arange(8) == 5, -9, logits)  # class 5 is never predicted
    predicted = [order(row)[0] for row in logits]
    matrix = metrics.confusion_matrix(labels, metrics.predictions(logits), 8)
    pairs = list(zip(labels.tolist(), predicted, strict=True))
    assert matrix.tolist() == [[pairs.count((i, j)) for j in range(8)] for i in range(8)]
    assert matrix.dtype == np.int64
    for index, row in enumerate(metrics.per_class_metrics(matrix)):
        hits = pairs.count((index, index))
        support, guesses = labels.tolist().count(index), predicted.count(index)
        precision, recall = hits / guesses if guesses else 0, hits / support if support else 0
        f1 = 2 * precision * recall / (precision + recall) if hits else 0
        assert row == pytest.approx(
            {"precision": precision, "recall": recall, "f1": f1, "support": support}
        )
        assert type(row["support"]) is int
    with pytest.raises(UsageError, match="prediction 8"):
        metrics.confusion_matrix([0], [8], 8)


def test_worst_mistakes_are_sorted_by_descending_loss(examples):
    logits, labels = examples
    wrong = [i for i in range(300) if order(logits[i])[0] != labels[i]]
    wrong.sort(key=lambda i: -cross_entropy(logits[i], labels[i]))
    assert metrics.worst_mistakes(logits, labels, 10).tolist() == wrong[:10]
    assert len(metrics.worst_mistakes(logits, labels, 999)) == len(wrong)


def test_most_confused_by_hand():
    matrix = np.array([[9, 2, 0], [5, 9, 2], [0, 1, 99]])
    assert confusion_plot.most_confused(matrix, 3) == [(1, 0, 5), (0, 1, 2), (1, 2, 2)]
    # Cells without examples are not mistakes.
    assert len(confusion_plot.most_confused(matrix, 99)) == 4
    assert confusion_plot.most_confused(np.eye(3), 5) == []


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.91254, "91.25%"),
        ("val_top5_accuracy", np.float32(1), "100.00%"),
        ("accuracy", 1, "100.00%"),
        ("precision", "mixed_bfloat16", "mixed_bfloat16"),
        ("accuracy_low", 0.91254, "91.25%"),
        ("map", 0.5, "50.00%"),
        ("low", 0.5, "0.5"),
        ("loss", 0.5, "0.5000"),
        ("loss", 1e-7, "1e-07"),
        ("loss", NAN, "NaN"),
        ("loss", -math.inf, "-∞"),
        ("seconds", 0.417, "0.42 s"),
        ("seconds", 59.97, "1 min 00 s"),
        ("seconds", 75, "1 min 15 s"),
        ("seconds", 3599.7, "1 h 00 min"),
        ("images_per_second", 12345.6, "12,346"),
        ("images_per_second", 87.654, "87.65"),
        ("support", np.int64(12000), "12,000"),
        ("shuffle", True, "True"),
        ("note", None, "\N{EN DASH}"),
    ],
)
def test_values_are_formatted_by_the_name_of_the_metric(name, value, text):
    assert formatting.format_value(name, value) == text


def test_axes_contain_their_values():
    rng = np.random.default_rng(3)
    for _ in range(300):
        values = rng.normal(size=3) * 10.0 ** rng.integers(-8, 8) + rng.choice([0, 0, 5, -5000])
        axis = axes.nice_axis(values.tolist())
        assert all(-1e-4 <= axis.at(value) <= 1 + 1e-4 for value in values)
        assert 3 <= len(axis.ticks) <= 8
        texts = [text for _, text in axis.ticks]
        assert len(set(texts)) == len(texts)
        for value, text in axis.ticks:
            assert float(text) == pytest.approx(value, rel=0.006, abs=1e-12)


def test_axes_of_special_values():
    assert axes.nice_axis([1.0, 1.0], as_percent=True).ticks[-1] == (1, "100%")
    assert axes.nice_axis([0.0], as_percent=True).low == 0
    assert axes.nice_axis([0.0, 1.0], as_percent=True).ticks[1] == (pytest.approx(0.2), "20%")
    axis = axes.nice_axis([0.002, 3.0])
    assert [text for _, text in axis.ticks] == ["0.001", "0.01", "0.1", "1", "10"]
    assert axis.at(0.1) == pytest.approx(0.5)
    assert [text for _, text in axes.integer_axis(1, 3).ticks] == ["1", "2", "3"]
    assert axes.integer_axis(4, 4).at(4) == 0.5
