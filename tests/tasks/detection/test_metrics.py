"""Average precision against hand-computed cases and slow formulas, and the sections of a report."""

from __future__ import annotations

import base64
import io
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tasks.detection import bootstrap, coco_metrics, metrics, report
from tasks.report.evaluation_report import EvaluatedModel
from zoo.errors import UsageError

pytest.importorskip("pycocotools.cocoeval", reason="needs pycocotools")

BOX = (10, 10, 20, 20)
WIDE = (10, 10, 30, 20)  # twice BOX: their IoU is .5
HALF = (10, 10, 20, 15)  # half of BOX: their IoU is .5
MOST = (10, 10, 20, 18)  # IoU with BOX: .8
FAR = (60, 60, 80, 80)


def make_case(truths, predictions, pixels=None):
    """Returns examples and predictions from lists of rows per image.

    A row of ground truth is `(box, label)` or `(box, label, ignored)`, that of a prediction
    `(box, class, score)`.
    """
    count, most = len(truths), max(1, *map(len, truths)) if truths else 1
    examples = SimpleNamespace(
        boxes=np.zeros((count, most, 4), "float32"),
        labels=np.full((count, most), -1, "int32"),
        ignored=np.zeros((count, most), bool),
        pixels=np.zeros((count, 64, 96, 3), "uint8") if pixels is None else pixels,
    )
    for image, rows in enumerate(truths):
        for n, (box, label, *ignored) in enumerate(rows):
            examples.boxes[image, n] = box
            examples.labels[image, n] = label
            examples.ignored[image, n] = bool(ignored and ignored[0])
    some = max(1, *map(len, predictions)) if predictions else 1
    found = {
        "boxes": np.zeros((count, some, 4), "float32"),
        "scores": np.zeros((count, some), "float32"),
        "classes": np.full((count, some), -1, "int32"),
    }
    for image, rows in enumerate(predictions):
        for n, (box, label, score) in enumerate(rows):
            found["boxes"][image, n] = box
            found["classes"][image, n], found["scores"][image, n] = label, score
    return examples, found


def test_perfect_predictions_score_one():
    examples, predictions = make_case(
        [[(BOX, 0), (FAR, 1)], [(BOX, 1)]], [[(BOX, 0, 0.9), (FAR, 1, 0.2)], [(BOX, 1, 0.5)]]
    )
    figures = metrics.detection_metrics(examples, predictions, 2)
    assert list(figures) == ["ap", "ap50", "ap75", "ar", "voc_map"]
    assert all(value == pytest.approx(1, abs=1e-12) for value in figures.values())


def test_no_predictions_score_zero():
    examples, predictions = make_case([[(BOX, 0)], []], [[], []])
    assert set(metrics.detection_metrics(examples, predictions, 2).values()) == {0.0}


def test_iou_decides_at_how_many_thresholds_a_prediction_is_correct():
    examples, predictions = make_case([[(BOX, 0)]], [[(MOST, 0, 0.9)]])  # .8: correct from .5 to .8
    figures = metrics.detection_metrics(examples, predictions, 1)
    assert figures["ap"] == pytest.approx(0.7)
    assert figures["ar"] == pytest.approx(0.7)
    assert figures["ap50"] == figures["ap75"] == pytest.approx(1)
    examples, predictions = make_case([[(BOX, 0)]], [[(WIDE, 0, 0.9)]])  # .5: correct at .5 only
    figures = metrics.detection_metrics(examples, predictions, 1)
    assert figures["ap"] == pytest.approx(0.1)
    assert (figures["ap50"], figures["ap75"]) == (pytest.approx(1), 0)
    assert figures["voc_map"] == 1


def test_a_false_positive_of_higher_score_halves_the_precision():
    examples, predictions = make_case([[(BOX, 0)]], [[(FAR, 0, 0.9), (BOX, 0, 0.8)]])
    assert metrics.detection_metrics(examples, predictions, 1) == pytest.approx(
        {"ap": 0.5, "ap50": 0.5, "ap75": 0.5, "ar": 1, "voc_map": 0.5}
    )


def test_the_curve_of_three_objects_and_four_predictions():
    # True, false, true, false positive, three objects: recall 1/3, 1/3, 2/3, 2/3; precision 1, 1/2,
    # 2/3, 1/2. COCO reads 101 levels: 34 of them (0 to .33) at 1, 33 (.34 to .66) at 2/3.
    examples, predictions = make_case(
        [[(BOX, 0), (FAR, 0)], [(BOX, 0)]],
        [[(BOX, 0, 0.9), (HALF, 0, 0.1)], [(BOX, 0, 0.7), (FAR, 0, 0.8)]],
    )
    figures = metrics.detection_metrics(examples, predictions, 1)
    assert figures["ap50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert figures["ar"] == pytest.approx(2 / 3)
    assert figures["voc_map"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    # At 0, .1, .2, .3 it is 1, at .4, .5, .6 it is 2/3, beyond it is 0.
    eleven = metrics.voc_map(examples, predictions, 1, points=metrics.ELEVEN_POINTS)
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_a_second_prediction_of_an_object_is_a_false_positive():
    # COCO matches the second with another object; Pascal VOC with the one of the highest IoU.
    near = (12, 10, 22, 20)  # IoU with BOX: 2/3
    examples, predictions = make_case([[(BOX, 0)]], [[(BOX, 0, 0.9), (near, 0, 0.8)]])
    assert metrics.detection_metrics(examples, predictions, 1)["ap50"] == pytest.approx(1)
    assert (
        metrics.per_class_metrics(examples, predictions, 1, score_threshold=0)[0]["precision"]
        == 0.5
    )
    examples, predictions = make_case([[(BOX, 0), (near, 0)]], [[(BOX, 0, 0.9), (BOX, 0, 0.8)]])
    figures = metrics.detection_metrics(examples, predictions, 1)
    assert figures["ap50"] == pytest.approx(1)
    assert figures["voc_map"] == pytest.approx(0.5)


def test_average_precision_interpolates_the_curve():
    recall, precision = [0.2, 0.4, 0.4, 0.6], [1, 0.5, 0.4, 0.6]
    assert metrics.average_precision(recall, precision) == pytest.approx(0.2 * 1 + 0.4 * 0.6)
    # 0, .1, .2: 1; .3 to .6: .6
    assert metrics.average_precision(recall, precision, 11) == pytest.approx((3 + 4 * 0.6) / 11)
    assert metrics.average_precision([], []) == 0
    tenths = np.arange(1, 11) / 10  # 3/10 is reached, though it is less than .3 in binary
    assert metrics.average_precision(tenths, np.ones(10), 11) == 1


def test_ignored_objects_count_neither_as_found_nor_as_missed():
    plain = make_case([[(BOX, 0)]], [[(BOX, 0, 0.5)]])
    crowd = make_case(
        [[(BOX, 0), (FAR, 0, True)]],
        [[(BOX, 0, 0.5), (FAR, 0, 0.9), (FAR, 0, 0.8), ((60, 60, 80, 78), 0, 0.7)]],
    )
    missed = make_case([[(BOX, 0), (FAR, 0, True)]], [[(BOX, 0, 0.5)]])
    for examples, predictions in (crowd, missed):
        assert metrics.detection_metrics(examples, predictions, 1) == metrics.detection_metrics(
            *plain, 1
        )
        assert (
            metrics.per_class_metrics(examples, predictions, 1, score_threshold=0)[0]["objects"]
            == 1
        )
        assert report.match_predictions(examples, predictions, 0, 0.0)[1:] == ([], [])
    examples, predictions = make_case([[(BOX, 0, True)]], [[(BOX, 0, 0.5)]])
    assert np.isnan(list(metrics.detection_metrics(examples, predictions, 1).values())).all()


def test_a_class_without_objects_is_left_out():
    examples, predictions = make_case([[(BOX, 0)], []], [[(BOX, 0, 0.5)], [(BOX, 2, 0.9)]])
    figures = metrics.detection_metrics(examples, predictions, 3)
    assert all(value == pytest.approx(1) for value in figures.values())
    rows = metrics.per_class_metrics(examples, predictions, 3, score_threshold=0.5)
    assert rows[0] == pytest.approx(
        {"ap": 1, "ap50": 1, "ar": 1, "precision": 1, "recall": 1, "objects": 1}
    )
    assert rows[1] == dict.fromkeys(("ap", "ap50", "ar", "precision", "recall")) | {"objects": 0}


def test_predictions_in_an_image_without_objects_are_false_positives():
    examples, predictions = make_case([[(BOX, 0)], []], [[(BOX, 0, 0.5)], [(BOX, 0, 0.9)]])
    figures = metrics.detection_metrics(examples, predictions, 1)
    assert figures["ap50"] == pytest.approx(0.5)
    assert figures["voc_map"] == pytest.approx(0.5)


def test_predictions_that_are_not_finite_are_left_out():
    examples, predictions = make_case([[(BOX, 0)]], [[(BOX, 0, 0.5), (FAR, 0, np.nan)]])
    predictions["boxes"] = np.concatenate([predictions["boxes"], np.full((1, 1, 4), np.nan)], 1)
    predictions["scores"] = np.concatenate([predictions["scores"], np.full((1, 1), 0.9)], 1)
    predictions["classes"] = np.concatenate([predictions["classes"], np.zeros((1, 1), "int32")], 1)
    assert metrics.detection_metrics(examples, predictions, 1)["ap"] == pytest.approx(1)


def noisy_case(count=40, seed=0):
    """Returns examples of up to 4 objects of 3 classes, and roughly correct predictions."""
    random = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(count):
        rows = []
        for _ in range(random.integers(0, 5)):
            start, sides = random.uniform(0, 60, 2), random.uniform(8, 36, 2)
            rows.append(
                ((*start, *(start + sides)), int(random.integers(3)), random.random() < 0.1)
            )
        truths.append(rows)
        moved = [
            (np.array(box) + random.normal(0, 3, 4), label, random.random())
            for box, label, _ in rows * 2
            if random.random() < 0.7
        ]
        extra = [((*p, *(p + 20)), 1, random.random()) for p in random.uniform(0, 60, (2, 2))]
        predictions.append(moved + extra)
    return make_case(truths, predictions)


def slow_voc(examples, predictions, label):
    """Returns the average precision of Pascal VOC as its toolkit does, in plain loops."""
    rows, count = [], 0
    for image in range(len(examples.labels)):
        count += int(((examples.labels[image] == label) & ~examples.ignored[image]).sum())
        for box, score, kind in zip(*(predictions[n][image] for n in predictions), strict=True):
            if kind == label:
                rows.append((score, image, box))
    rows.sort(key=lambda row: -row[0])
    taken, hits, misses, curve = set(), 0, 0, [(0.0, 1.0)]
    for _, image, box in rows:
        best, at = -1.0, None
        for n, (truth, kind) in enumerate(
            zip(examples.boxes[image], examples.labels[image], strict=True)
        ):
            if kind != label:
                continue
            width = min(box[2], truth[2]) - max(box[0], truth[0])
            height = min(box[3], truth[3]) - max(box[1], truth[1])
            if width > 0 and height > 0:
                area = (box[2] - box[0]) * (box[3] - box[1])
                other = (truth[2] - truth[0]) * (truth[3] - truth[1])
                iou = width * height / (area + other - width * height)
                if iou > best:
                    best, at = iou, n
        if best >= 0.5 and examples.ignored[image, at]:
            continue
        if best >= 0.5 and (image, at) not in taken:
            hits += 1
            taken.add((image, at))
        else:
            misses += 1
        curve.append((hits / count, hits / (hits + misses)))
    total = 0.0
    for (before, _), (after, _) in itertools.pairwise(curve):
        total += (after - before) * max(p for r, p in curve[1:] if r >= after)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_voc_map_matches_plain_loops(seed):
    examples, predictions = noisy_case(seed=seed)
    slow = [slow_voc(examples, predictions, label) for label in range(3)]
    assert metrics.voc_map(examples, predictions, 3) == pytest.approx(np.mean(slow), abs=1e-9)
    assert 0.1 < np.mean(slow) < 0.9


def test_metrics_do_not_depend_on_the_order_of_images_and_predictions():
    examples, predictions = noisy_case()
    want = metrics.detection_metrics(examples, predictions, 3)
    random = np.random.default_rng(1)
    rows = random.permutation(len(examples.labels))
    places = random.permutation(predictions["scores"].shape[1])
    for name in ("boxes", "labels", "ignored"):
        setattr(examples, name, getattr(examples, name)[rows])
    predictions = {name: values[rows][:, places] for name, values in predictions.items()}
    assert metrics.detection_metrics(examples, predictions, 3) == pytest.approx(want)


def test_a_hundred_predictions_per_image_count():
    false = [(FAR, 0, 0.9)] * coco_metrics.MAX_DETECTIONS
    examples, predictions = make_case([[(BOX, 0)]], [[*false, (BOX, 0, 0.1)]])
    assert metrics.detection_metrics(examples, predictions, 1)["ar"] == 0
    examples, predictions = make_case([[(BOX, 0)]], [[*false[1:], (BOX, 0, 0.1)]])
    assert metrics.detection_metrics(examples, predictions, 1)["ar"] == 1


def test_pairwise_iou_matches_a_formula():
    random = np.random.default_rng(0)
    start = random.uniform(0, 50, (6, 2))
    some = np.concatenate([start, start + random.uniform(1, 40, (6, 2))], 1)
    for n, one in enumerate(some):
        for m, other in enumerate(some):
            sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            both = np.prod(sides.clip(0))
            areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
            assert coco_metrics.pairwise_iou(some, some)[n, m] == pytest.approx(
                both / (sum(areas) - both)
            )
            crowd = coco_metrics.pairwise_iou(some, some, crowd=True)
            assert crowd[n, m] == pytest.approx(both / areas[0])


# Bootstrap intervals


def test_resampled_precision_equals_that_of_the_resampled_images():
    examples, predictions = noisy_case(12)
    evaluated = coco_metrics.evaluate(examples, predictions, 3).evalImgs
    classes = [bootstrap.class_matches(evaluated[n * 12 : n * 12 + 12]) for n in range(3)]
    drawn = np.random.default_rng(3).integers(0, 12, (3, 12))
    times = np.stack([np.bincount(row, minlength=12) for row in drawn])
    for row, want in zip(drawn, bootstrap.average_precision(classes, times), strict=True):
        part = SimpleNamespace(
            **{n: getattr(examples, n)[row] for n in ("boxes", "labels", "ignored")}
        )
        own = {name: values[row] for name, values in predictions.items()}
        assert metrics.detection_metrics(part, own, 3)["ap"] == pytest.approx(want, abs=1e-9)


def test_near_duplicates_are_left_out_of_a_second_ap():
    objects = [[(BOX, 0)]] * 4
    found = [[(BOX, 0, 0.9)], [(BOX, 0, 0.9)], [], []]  # of the objects of two images
    case = make_case(objects, found)
    assert metrics.detection_metrics(*case, 1)["ap"] == pytest.approx(51 / 101)
    for copies, ap in (([1], 34 / 101), ([0, 1], 0.0), ([2, 3], 1.0)):
        without = metrics.deduplicated_ap(*case, 1, np.array(copies))
        assert without == {"deduplicated_ap": pytest.approx(ap)}
    assert metrics.deduplicated_ap(*case, 1, ()) == {}
    text = report.lead(EvaluatedModel("m", "set", 4, 9, 1), {"ap": 0.5, "ap50": 0.5, **without})
    assert text.endswith(
        "1 of them is a near duplicate of the 9 training images, and without it the AP is 100.00%."
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_interval_of_a_perfect_score_in_few_images_has_a_width(count):
    figures = metrics.metrics_with_interval(
        *make_case([[(BOX, 0)]] * count, [[(BOX, 0, 0.9)]] * count), 1, seed=0
    )
    assert (figures["ap"], figures["ap_high"]) == pytest.approx((1, 1))
    assert figures["ap_low"] == pytest.approx(0.025 ** (1 / count))


def test_the_interval_contains_the_metric_and_depends_on_the_seed():
    examples, predictions = noisy_case()
    figures = metrics.metrics_with_interval(examples, predictions, 3, seed=0)
    assert list(figures)[:3] == ["ap", "ap_low", "ap_high"]
    assert figures["ap_low"] < figures["ap"] < figures["ap_high"]
    assert figures == metrics.metrics_with_interval(examples, predictions, 3, seed=0)
    assert figures != metrics.metrics_with_interval(examples, predictions, 3, seed=1)


def test_the_best_score_threshold_is_that_of_the_best_f1():
    # From the highest score on: 1 of 2, F1 2/3; 2 of 2, 1; 2 true and 1 false positive, 4/5.
    examples, predictions = make_case(
        [[(BOX, 0), (FAR, 1)]], [[(BOX, 0, 0.9), (FAR, 1, 0.6), (BOX, 1, 0.3)]]
    )
    assert metrics.best_score_threshold(examples, predictions, 2) == pytest.approx(0.6)
    # Ties are counted together: one true and one false positive.
    examples, predictions = make_case([[(BOX, 0)]], [[(BOX, 0, 0.5), (FAR, 0, 0.5)]])
    assert metrics.best_score_threshold(examples, predictions, 1) == 0.5
    examples, predictions = make_case([[(BOX, 0)]], [[(FAR, 0, 0.5)]])
    assert metrics.best_score_threshold(examples, predictions, 1) == 1
    examples, predictions = make_case([[(BOX, 0)]], [[]])
    assert metrics.best_score_threshold(examples, predictions, 1) == 1


def test_a_missing_package_is_named_with_its_installation(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(coco_metrics.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"pip install 'keras-zoo\[detection\]'"):
        metrics.detection_metrics(*make_case([[(BOX, 0)]], [[]]), 1)


# Report


def test_a_box_is_drawn_around_its_pixels():
    image = np.zeros((128, 128, 3), "uint8")
    drawn = report.draw_boxes(image, [report.DrawnBox((10, 20, 40, 50), "", (0, 255, 0))])
    assert drawn.shape == (256, 256, 3)
    rows, columns = np.nonzero(drawn.any(-1))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [20, 40, 80, 100]
    assert not drawn[60, 60].any()  # not filled
    assert not image.any()
    large = np.zeros((300, 500, 1), "uint8")
    assert report.draw_boxes(large, []).shape == (300, 500, 3)


def test_a_dashed_box_has_gaps():
    image = np.zeros((256, 256, 3), "uint8")
    solid, dashed = (
        report.draw_boxes(image, [report.DrawnBox((10, 10, 90, 90), "", (9, 9, 9), dashed)])
        for dashed in (False, True)
    )
    share = dashed.any(-1).sum() / solid.any(-1).sum()
    assert 0.4 < share < 0.65
    assert not dashed[~solid.any(-1)].any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 500, 500), (90, 90, 10, 10), (1e30, 0, 2e30, 9), (5, 5, 5, 5), (0, 0, 1, 1)]
)
def test_boxes_with_extreme_coordinates_are_drawn(box):
    image = np.zeros((64, 96, 3), "uint8")
    for dashed in (False, True):
        drawn_box = report.DrawnBox(box, "a class", (200, 0, 0), dashed)
        assert report.draw_boxes(image, [drawn_box]).dtype == np.uint8


def test_each_class_has_a_colour():
    drawn = report.boxes_of_classes([BOX, FAR], [0.9, 0.5], [2, 0], ("ground", "b", "c"))
    assert [each.text for each in drawn] == ["ground 50%", "c 90%"]  # the best on top
    assert drawn[0].colour != drawn[1].colour
    assert sum(drawn[0].colour) > 0


def test_predictions_are_matched_with_objects():
    examples, predictions = make_case(
        [[(BOX, 0), (FAR, 1), (WIDE, 1)]],
        [[(FAR, 1, 0.5), (MOST, 0, 0.9), (BOX, 0, 0.8), (FAR, 0, 0.7), (WIDE, 1, 0.1)]],
    )
    # By score: MOST of 0 is correct, BOX of 0 is a duplicate, FAR of 0 is false, FAR of 1 correct.
    assert report.match_predictions(examples, predictions, 0, 0.2) == ([0, 3], [1, 2], [2])


def test_the_sections_of_a_report():
    examples, predictions = make_case(
        [[(BOX, 0)], [(FAR, 1)], []],
        [[(BOX, 0, 0.9)], [(BOX, 1, 0.95)], []],
    )
    sections = dict(report.sections(examples, ("cat", "<dog>", "emu"), predictions))
    assert list(sections) == ["Classes", "Worst images", "Best images"]
    assert "&lt;dog&gt;" in sections["Classes"]
    assert "score of 0.90 or more" in sections["Classes"]
    assert "image 1\n0 correct, 1 false, 1 missed" in sections["Worst images"]
    assert "image 0\n1 correct, 0 false, 0 missed" in sections["Best images"]
    [data] = re.findall('base64,([^"]+)"', sections["Best images"])
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert (seen == report.CORRECT_COLOUR).all(-1).any()
    examples.title = "cats/{}.jpg".format
    assert (
        "cats/1.jpg\n0 correct"
        in dict(report.sections(examples, ("cat", "dog", "emu"), predictions))["Worst images"]
    )
    examples.pixels = np.zeros((3, 64, 96, 5), "uint8")
    shown = dict(report.sections(examples, ("a", "b", "c"), predictions))  # the first channels
    assert list(shown) == ["Classes", "Worst images", "Best images"]


def test_a_model_without_predictions_is_reported_too():
    examples, predictions = make_case([[(BOX, 0)], [(FAR, 1)]], [[], []])
    sections = dict(report.sections(examples, ("cat", "dog"), predictions))
    assert list(sections) == ["Classes", "Worst images"]
    figures = metrics.metrics_with_interval(examples, predictions, 2, seed=0)
    text = report.lead(EvaluatedModel("m", "set", 1, 2000), figures)
    assert "1 test image of set with an average precision (AP) of 0.00%" in text
    assert "it was trained on 2,000 other images" in text
