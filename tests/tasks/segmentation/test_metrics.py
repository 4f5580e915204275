"""What is measured of segmentation, against slow formulas, and how it is shown."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tasks.segmentation import metrics, report
from tasks.segmentation.metrics import IGNORE_LABEL
from zoo.errors import UsageError


def drawn(count=7, classes=5, size=(6, 9), ignored=0.2, seed=0):
    """Random masks, of which some pixels are ignored, and predictions that are often right."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (count, *size))
    said = np.where(
        random.random(truth.shape) < 0.6, truth, random.integers(0, classes, truth.shape)
    )
    truth[random.random(truth.shape) < ignored] = IGNORE_LABEL
    return truth.astype("uint8"), said


def slow_matrix(truth, said, classes):
    """Counts pixel by pixel."""
    matrix = np.zeros((classes, classes), int)
    for own, other in zip(truth.ravel(), said.ravel(), strict=True):
        if own != IGNORE_LABEL:
            matrix[own, other] += 1
    return matrix


def slow_iou(truth, said, label):
    """The IoU of a class by sets of pixels, or `None` if neither has it."""
    there = {i for i, own in enumerate(truth.ravel()) if own == label}
    ignored = {i for i, own in enumerate(truth.ravel()) if own == IGNORE_LABEL}
    found = {i for i, other in enumerate(said.ravel()) if other == label} - ignored
    return len(there & found) / len(there | found) if there | found else None


def slow_figures(truth, said, classes):
    """All figures by sets of pixels."""
    pairs = [(a, b) for a, b in zip(truth.ravel(), said.ravel(), strict=True) if a != IGNORE_LABEL]
    ious = {label: slow_iou(truth, said, label) for label in range(classes)}
    sizes = {label: sum(a == label for a, _ in pairs) for label in range(classes)}
    right = {label: sum(a == b == label for a, b in pairs) for label in range(classes)}
    known = [iou for iou in ious.values() if iou is not None]
    there = [label for label in sizes if sizes[label]]
    return {
        "miou": sum(known) / len(known),
        "pixel_accuracy": sum(right.values()) / len(pairs),
        "mean_accuracy": sum(right[label] / sizes[label] for label in there) / len(there),
        "fwiou": sum(sizes[label] * ious[label] for label in there) / len(pairs),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("classes", "used"), [(2, 2), (5, 5), (9, 4)])
def test_figures_are_those_of_the_slow_formulas(seed, classes, used):
    truth, said = drawn(classes=used, seed=seed)
    matrix = metrics.confusion_matrix(truth, said, classes)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == slow_matrix(truth, said, classes).tolist()
    assert metrics.segmentation_metrics(matrix) == pytest.approx(
        slow_figures(truth, said, classes), abs=1e-12
    )
    rows = metrics.per_class_metrics(matrix)
    for label, row in enumerate(rows):
        assert row["iou"] == slow_iou(truth, said, label)
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_by_hand():
    truth = np.array([[[0, 0, 1, 1], [0, 0, 1, IGNORE_LABEL]]], "uint8")
    said = np.array([[[0, 0, 1, 0], [0, 2, 1, 1]]])
    matrix = metrics.confusion_matrix(truth, said, 4)
    assert matrix.tolist() == [[3, 0, 1, 0], [1, 2, 0, 0], [0] * 4, [0] * 4]
    # IoU: 3/5 and 2/3; class 2 is made up, and class 3 is nowhere.
    assert metrics.segmentation_metrics(matrix) == pytest.approx(
        {
            "miou": (3 / 5 + 2 / 3 + 0) / 3,
            "pixel_accuracy": 5 / 7,
            "mean_accuracy": (3 / 4 + 2 / 3) / 2,
            "fwiou": (4 * 3 / 5 + 3 * 2 / 3) / 7,
        }
    )
    made_up, nowhere = metrics.per_class_metrics(matrix)[2:]
    assert made_up == {"iou": 0, "accuracy": None, "precision": 0, "share": 0}
    assert nowhere == {"iou": None, "accuracy": None, "precision": None, "share": 0}


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_batches_of_any_size_give_the_same_counts(batch):
    truth, said = drawn(count=10)
    count = metrics.ConfusionCounter(5)
    for start in range(0, 10, batch):
        count.add(truth[start : start + batch], said[start : start + batch])
    assert count.matrix.tolist() == slow_matrix(truth, said, 5).tolist()
    assert count.counts_per_image.shape == (10, 3, 5)
    assert metrics.segmentation_metrics(count.matrix) == metrics.segmentation_metrics(
        metrics.confusion_matrix(truth, said, 5)
    )
    alone = metrics.miou_per_image(count.counts_per_image)
    for index in range(10):
        expected = slow_figures(truth[index], said[index], 5)["miou"]
        assert alone[index] == pytest.approx(expected, abs=1e-12)


def test_counts_are_exact_where_float32_is_not():
    count = metrics.ConfusionCounter(2)
    large = np.array([[[2**24, 1], [0, 2**40]]])
    count.add_matrices(large)
    count.add_matrices(np.array([[[1, 0], [0, 1]]]))
    assert count.matrix.tolist() == [[2**24 + 1, 1], [0, 2**40 + 1]]


def test_what_is_ignored_altogether_has_no_figures():
    truth = np.full((2, 3, 3), IGNORE_LABEL, "uint8")
    count = metrics.ConfusionCounter(3)
    count.add(truth, np.zeros((2, 3, 3), int))
    assert all(np.isnan(value) for value in metrics.segmentation_metrics(count.matrix).values())
    assert np.isnan(metrics.miou_per_image(count.counts_per_image)).all()
    assert np.isnan(metrics.miou_interval(count.counts_per_image, seed=0)).all()


@pytest.mark.parametrize(
    ("truth", "said", "message"),
    [
        ([[[0, 7]]], [[[0, 1]]], "got the label 7 in a mask, needed 0 to 2, or 255"),
        ([[[0, 1]]], [[[0, 3]]], "got the prediction 3 in a mask, needed 0 to 2"),
        ([[[0, 1]]], [[[0, -1]]], "got the prediction -1"),
        ([[[0, 1]]], [[0, 1]], "got masks of shape (1, 1, 2) and predictions of shape (1, 2)"),
    ],
)
def test_what_is_no_class_is_refused(truth, said, message):
    with pytest.raises(UsageError) as caught:
        metrics.confusion_matrices(truth, said, 3)
    assert message in str(caught.value)


def test_one_image_leaves_the_interval_wide():
    """Of 39 in 40 images more than the one that was seen nothing is known."""
    count = metrics.ConfusionCounter(2)
    count.add([[[0, 0, 1, 1]]], [[[0, 0, 1, 0]]])
    figures = metrics.metrics_with_intervals(count.matrix, count.counts_per_image, seed=0)
    assert figures["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["miou_low"] == pytest.approx(0.025 * figures["miou"])
    assert figures["miou_high"] == pytest.approx(0.025 * figures["miou"] + 0.975)


def test_the_interval_is_a_bootstrap_over_images():
    truth, said = drawn(count=40, seed=2)
    count = metrics.ConfusionCounter(5)
    count.add(truth, said)
    figures = metrics.metrics_with_intervals(count.matrix, count.counts_per_image, seed=0)
    assert list(figures)[:3] == ["miou", "miou_low", "miou_high"]
    assert figures["miou_low"] < figures["miou"] < figures["miou_high"]
    random, resampled = np.random.default_rng(1), []
    for _ in range(300):
        rows = random.integers(0, 40, 40)
        resampled.append(
            metrics.segmentation_metrics(metrics.confusion_matrix(truth[rows], said[rows], 5))[
                "miou"
            ]
        )
    low, high = np.quantile(resampled, (0.025, 0.975))
    assert figures["miou_low"] == pytest.approx(low, abs=0.006)
    assert figures["miou_high"] == pytest.approx(high, abs=0.006)


# Pictures


def test_colours_are_distinct_and_the_ground_is_black():
    names = ["ground", *map(str, range(60))]
    tones = report.class_colours(names)
    assert tones[0].tolist() == [0, 0, 0]
    assert len({tuple(tone) for tone in tones.tolist()}) == 61
    assert report.class_colours(["a", *names[1:]])[5].tolist() == tones[5].tolist()


def test_a_saved_mask_has_the_labels_as_its_indices():
    labels = np.array([[0, 1, 2], [2, 1, IGNORE_LABEL]], "uint8")
    file = io.BytesIO()
    report.indexed_mask(labels, ["ground", "cat", "dog"]).save(file, "PNG")
    picture = Image.open(io.BytesIO(file.getvalue()))
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    tones = report.class_colours(["ground", "cat", "dog"])
    assert np.asarray(picture.convert("RGB"))[0].tolist() == tones.tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_overlay_tints_what_is_no_ground(channels):
    image = np.full((8, 8, channels), 100, "uint8")
    labels = np.zeros((8, 8), int)
    labels[2:6, 2:6] = 1
    shown = report.overlay(image, labels, ["ground", "cat"])
    assert shown.shape == (8, 8, 3)
    assert shown.dtype == np.uint8
    assert (shown[labels == 0] == 100).all()
    tone = report.class_colours(["ground", "cat"])[1]
    assert shown[3, 3].tolist() == np.rint(0.45 * 100 + 0.55 * tone).astype(int).tolist()
    assert shown[5, 5].tolist() == tone.tolist()  # the border


def shown(count=20, channels=3):
    truth, said = drawn(count=count, classes=3, size=(16, 16), ignored=0)
    said[4] = truth[4]
    truth[5] = IGNORE_LABEL
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, channels), "uint8")
    counted = metrics.ConfusionCounter(4)
    counted.add(truth, said)
    asked = []

    def predict(indices):
        asked.append(list(indices))
        return said[indices]

    classes = ["ground", "cat", "<dog>", "nobody"]
    examples = SimpleNamespace(pixels=pixels, labels=truth, title="images/{}.png".format)
    return dict(report.sections(examples, classes, counted, predict)), asked, counted


def test_sections_show_classes_and_the_worst_and_best_images():
    sections, asked, counted = shown()
    assert list(sections) == ["Classes", "Confusion of pixels", "Worst images", "Best images"]
    assert "&lt;dog&gt;" in sections["Classes"]
    assert sections["Classes"].count("\N{EN DASH}") == 3  # of what nobody has
    worst, best = asked
    scores = metrics.miou_per_image(counted.counts_per_image)
    assert worst == sorted(range(20), key=lambda i: (np.isnan(scores[i]), scores[i]))[:8]
    assert best[0] == 4
    assert 5 not in worst + best  # all of it is ignored
    assert f"images/{worst[0]}.png\ntruth" in sections["Worst images"]
    for title, images in (("Worst images", 16), ("Best images", 8)):
        page = ET.fromstring(f"<div>{sections[title]}</div>")
        assert len(page.findall(".//img")) == images


def test_few_images_are_shown_once():
    _, asked, _ = shown(count=6)
    assert [len(indices) for indices in asked] == [1, 4]


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_other_channels_are_shown_too(channels):
    assert list(shown(channels=channels)[0])[2:] == ["Worst images", "Best images"]


def test_the_lead_says_what_came_out():
    figures = {"miou": 0.9512, "pixel_accuracy": 0.991}
    said = report.lead("unet", "shapes", figures, num_test=256, num_train=2048, classes=7)
    assert said == (
        "unet finds what is where in 256 test images of shapes with a mean IoU of 95.12% over 7 "
        "classes, and names 99.10% of the pixels right; it never saw them while learning from "
        "2,048 others."
    )
