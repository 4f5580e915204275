"""Segmentation metrics against slow formulas, and the sections of the report."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tasks.report import palette
from tasks.report.evaluation_report import EvaluatedModel
from tasks.segmentation import metrics, report
from tasks.segmentation.metrics import IGNORE_LABEL
from zoo.errors import UsageError


def random_masks(count=7, classes=5, size=(6, 9), ignored=0.2, seed=0):
    """Returns random labels, some of them ignored, and predictions that are often correct."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, (count, *size))
    predictions = np.where(
        random.random(labels.shape) < 0.6, labels, random.integers(0, classes, labels.shape)
    )
    labels[random.random(labels.shape) < ignored] = IGNORE_LABEL
    return labels.astype("uint8"), predictions


def slow_matrix(labels, predictions, classes):
    """Returns the confusion matrix, counted pixel by pixel."""
    matrix = np.zeros((classes, classes), int)
    for own, other in zip(labels.ravel(), predictions.ravel(), strict=True):
        if own != IGNORE_LABEL:
            matrix[own, other] += 1
    return matrix


def slow_iou(labels, predictions, label):
    """Returns the IoU of a class by sets of pixels, or `None` for an absent class."""
    true = {i for i, own in enumerate(labels.ravel()) if own == label}
    ignored = {i for i, own in enumerate(labels.ravel()) if own == IGNORE_LABEL}
    found = {i for i, other in enumerate(predictions.ravel()) if other == label} - ignored
    return len(true & found) / len(true | found) if true | found else None


def slow_metrics(labels, predictions, classes):
    """Returns all metrics by sets of pixels."""
    pairs = [
        (a, b)
        for a, b in zip(labels.ravel(), predictions.ravel(), strict=True)
        if a != IGNORE_LABEL
    ]
    ious = {label: slow_iou(labels, predictions, label) for label in range(classes)}
    sizes = {label: sum(a == label for a, _ in pairs) for label in range(classes)}
    hits = {label: sum(a == b == label for a, b in pairs) for label in range(classes)}
    valid = [iou for iou in ious.values() if iou is not None]
    present = [label for label in sizes if sizes[label]]
    return {
        "miou": sum(valid) / len(valid),
        "pixel_accuracy": sum(hits.values()) / len(pairs),
        "mean_accuracy": sum(hits[label] / sizes[label] for label in present) / len(present),
        "fwiou": sum(sizes[label] * ious[label] for label in present) / len(pairs),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("classes", "used"), [(2, 2), (5, 5), (9, 4)])
def test_metrics_agree_with_slow_formulas(seed, classes, used):
    labels, predictions = random_masks(classes=used, seed=seed)
    matrix = metrics.confusion_matrix(labels, predictions, classes)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == slow_matrix(labels, predictions, classes).tolist()
    assert metrics.segmentation_metrics(matrix) == pytest.approx(
        slow_metrics(labels, predictions, classes), abs=1e-12
    )
    rows = metrics.per_class_metrics(matrix)
    for label, row in enumerate(rows):
        assert row["iou"] == slow_iou(labels, predictions, label)
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_metrics_by_hand():
    labels = np.array([[[0, 0, 1, 1], [0, 0, 1, IGNORE_LABEL]]], "uint8")
    predictions = np.array([[[0, 0, 1, 0], [0, 2, 1, 1]]])
    matrix = metrics.confusion_matrix(labels, predictions, 4)
    assert matrix.tolist() == [[3, 0, 1, 0], [1, 2, 0, 0], [0] * 4, [0] * 4]
    # IoU: 3/5 and 2/3; class 2 is in predictions only, class 3 is absent.
    assert metrics.segmentation_metrics(matrix) == pytest.approx(
        {
            "miou": (3 / 5 + 2 / 3 + 0) / 3,
            "pixel_accuracy": 5 / 7,
            "mean_accuracy": (3 / 4 + 2 / 3) / 2,
            "fwiou": (4 * 3 / 5 + 3 * 2 / 3) / 7,
        }
    )
    false_positive, absent = metrics.per_class_metrics(matrix)[2:]
    assert false_positive == {"iou": 0, "accuracy": None, "precision": 0, "share": 0}
    assert absent == {"iou": None, "accuracy": None, "precision": None, "share": 0}


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_batches_of_any_size_give_the_same_counts(batch):
    labels, predictions = random_masks(count=10)
    counter = metrics.ConfusionCounter(5)
    for start in range(0, 10, batch):
        counter.add(labels[start : start + batch], predictions[start : start + batch])
    assert counter.matrix.tolist() == slow_matrix(labels, predictions, 5).tolist()
    assert counter.counts_per_image.shape == (10, 3, 5)
    assert metrics.segmentation_metrics(counter.matrix) == metrics.segmentation_metrics(
        metrics.confusion_matrix(labels, predictions, 5)
    )
    scores = metrics.miou_per_image(counter.counts_per_image)
    for index in range(10):
        expected = slow_metrics(labels[index], predictions[index], 5)["miou"]
        assert scores[index] == pytest.approx(expected, abs=1e-12)


def test_counts_are_exact_where_float32_is_not():
    counter = metrics.ConfusionCounter(2)
    large = np.array([[[2**24, 1], [0, 2**40]]])
    counter.add_matrices(large)
    counter.add_matrices(np.array([[[1, 0], [0, 1]]]))
    assert counter.matrix.tolist() == [[2**24 + 1, 1], [0, 2**40 + 1]]


def test_metrics_without_any_pixel_are_nan():
    labels = np.full((2, 3, 3), IGNORE_LABEL, "uint8")
    counter = metrics.ConfusionCounter(3)
    counter.add(labels, np.zeros((2, 3, 3), int))
    assert all(np.isnan(value) for value in metrics.segmentation_metrics(counter.matrix).values())
    assert np.isnan(metrics.miou_per_image(counter.counts_per_image)).all()
    assert np.isnan(metrics.miou_interval(counter.counts_per_image, seed=0)).all()


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[[0, 7]]], [[[0, 1]]], "got the label 7 in a mask, expected 0 to 2, or 255"),
        ([[[0, 1]]], [[[0, 3]]], "got the prediction 3 in a mask, expected 0 to 2"),
        ([[[0, 1]]], [[[0, -1]]], "got the prediction -1"),
        ([[[0, 1]]], [[0, 1]], "got masks of shape (1, 1, 2) and predictions of shape (1, 2)"),
    ],
)
def test_invalid_labels_and_predictions_are_refused(labels, predictions, message):
    with pytest.raises(UsageError) as caught:
        metrics.confusion_matrices(labels, predictions, 3)
    assert message in str(caught.value)


def test_near_duplicates_are_left_out_of_a_second_miou():
    labels, predictions = random_masks(count=6, seed=3)
    predictions[[1, 4]] = np.where(labels[[1, 4]] == IGNORE_LABEL, 0, labels[[1, 4]])  # perfect
    counter = metrics.ConfusionCounter(5)
    counter.add(labels, predictions)
    kept = [0, 2, 3, 5]
    expected = slow_metrics(labels[kept], predictions[kept], 5)["miou"]
    found = metrics.deduplicated_miou(counter.counts_per_image, np.array([1, 4]))
    assert found == {"deduplicated_miou": pytest.approx(expected)}
    assert expected < metrics.segmentation_metrics(counter.matrix)["miou"]
    assert metrics.deduplicated_miou(counter.counts_per_image, []) == {}
    assert metrics.deduplicated_miou(counter.counts_per_image, np.arange(6)) == {}


def test_the_interval_of_one_image_is_wide():
    """Up to 39 of 40 images may have any mIoU in [0, 1]."""
    counter = metrics.ConfusionCounter(2)
    counter.add([[[0, 0, 1, 1]]], [[[0, 0, 1, 0]]])
    figures = metrics.metrics_with_intervals(counter.matrix, counter.counts_per_image, seed=0)
    assert figures["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["miou_low"] == pytest.approx(0.025 * figures["miou"])
    assert figures["miou_high"] == pytest.approx(0.025 * figures["miou"] + 0.975)


def test_the_interval_is_a_bootstrap_over_images():
    labels, predictions = random_masks(count=40, seed=2)
    counter = metrics.ConfusionCounter(5)
    counter.add(labels, predictions)
    figures = metrics.metrics_with_intervals(counter.matrix, counter.counts_per_image, seed=0)
    assert list(figures)[:3] == ["miou", "miou_low", "miou_high"]
    assert figures["miou_low"] < figures["miou"] < figures["miou_high"]
    random, resampled = np.random.default_rng(1), []
    for _ in range(300):
        rows = random.integers(0, 40, 40)
        resampled.append(
            metrics.segmentation_metrics(
                metrics.confusion_matrix(labels[rows], predictions[rows], 5)
            )["miou"]
        )
    low, high = np.quantile(resampled, (0.025, 0.975))
    assert figures["miou_low"] == pytest.approx(low, abs=0.006)
    assert figures["miou_high"] == pytest.approx(high, abs=0.006)


# Report


def test_colours_are_distinct_and_the_background_is_black():
    names = ["ground", *map(str, range(60))]
    colours = palette.class_colours(names)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 61
    assert palette.class_colours(["a", *names[1:]])[5].tolist() == colours[5].tolist()


def test_a_saved_mask_stores_the_labels_as_indices():
    labels = np.array([[0, 1, 2], [2, 1, IGNORE_LABEL]], "uint8")
    file = io.BytesIO()
    report.indexed_mask(labels, ["ground", "cat", "dog"]).save(file, "PNG")
    image = Image.open(io.BytesIO(file.getvalue()))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels)
    colours = palette.class_colours(["ground", "cat", "dog"])
    assert np.asarray(image.convert("RGB"))[0].tolist() == colours.tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_overlay_covers_all_but_the_background(channels):
    image = np.full((8, 8, channels), 100, "uint8")
    labels = np.zeros((8, 8), int)
    labels[2:6, 2:6] = 1
    overlay = report.overlay(image, labels, ["ground", "cat"])
    assert overlay.shape == (8, 8, 3)
    assert overlay.dtype == np.uint8
    assert (overlay[labels == 0] == 100).all()
    colour = palette.class_colours(["ground", "cat"])[1]
    assert overlay[3, 3].tolist() == np.rint(0.45 * 100 + 0.55 * colour).astype(int).tolist()
    assert overlay[5, 5].tolist() == colour.tolist()  # the border


def make_sections(count=20, channels=3):
    labels, predictions = random_masks(count=count, classes=3, size=(16, 16), ignored=0)
    predictions[4] = labels[4]
    labels[5] = IGNORE_LABEL
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, channels), "uint8")
    counter = metrics.ConfusionCounter(4)
    counter.add(labels, predictions)
    calls = []

    def predict(indices):
        calls.append(list(indices))
        return predictions[indices]

    classes = ["ground", "cat", "<dog>", "nobody"]
    examples = SimpleNamespace(pixels=pixels, labels=labels, title="images/{}.png".format)
    return dict(report.sections(examples, classes, counter, predict)), calls, counter


def test_sections_show_classes_and_the_worst_and_best_images():
    sections, calls, counter = make_sections()
    assert list(sections) == [
        "Classes",
        "Confusion matrix of pixels",
        "Worst images",
        "Best images",
    ]
    assert "&lt;dog&gt;" in sections["Classes"]
    assert sections["Classes"].count("\N{EN DASH}") == 3  # of the class without pixels
    worst, best = calls
    scores = metrics.miou_per_image(counter.counts_per_image)
    assert worst == sorted(range(20), key=lambda i: (np.isnan(scores[i]), scores[i]))[:8]
    assert best[0] == 4
    assert 5 not in worst + best  # all of its pixels are ignored
    assert f"images/{worst[0]}.png\nground truth" in sections["Worst images"]
    for title, images in (("Worst images", 16), ("Best images", 8)):
        page = ET.fromstring(f"<div>{sections[title]}</div>")
        assert len(page.findall(".//img")) == images


def test_an_image_is_either_among_the_worst_or_the_best():
    _, calls, _ = make_sections(count=6)
    assert [len(indices) for indices in calls] == [1, 4]


@pytest.mark.parametrize("channels", [2, 5])
def test_sections_show_images_with_other_numbers_of_channels(channels):
    assert list(make_sections(channels=channels)[0])[2:] == ["Worst images", "Best images"]


def test_the_lead_contains_the_metrics():
    figures = {"miou": 0.9512, "pixel_accuracy": 0.991}
    lead = report.lead(EvaluatedModel("unet", "shapes", 256, 2048), figures, 7)
    assert lead == (
        "unet segments 256 test images of shapes with a mean IoU of 95.12% over 7 classes and a "
        "pixel accuracy of 99.10%; it was trained on 2,048 other images."
    )
    evaluated = EvaluatedModel("unet", "shapes", 256, 2048, num_duplicates=12)
    lead = report.lead(evaluated, {**figures, "deduplicated_miou": 0.875}, 7)
    assert lead.endswith(
        "12 of them are near duplicates of the 2,048 training images, and without these the mean "
        "IoU is 87.50%."
    )
