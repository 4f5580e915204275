"""Average precision, against hand-computed cases and slow formulas; and pictures of boxes."""

from __future__ import annotations

import base64
import io
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tasks.detection import bootstrap, metrics, report
from zoo.errors import UsageError

pytest.importorskip("pycocotools.cocoeval", reason="needs pycocotools")

BOX = (10, 10, 20, 20)
WIDE = (10, 10, 30, 20)  # twice BOX
HALF = (10, 10, 20, 15)  # half of BOX: their overlap is .5
MOST = (10, 10, 20, 18)  # their overlap is .8
FAR = (60, 60, 80, 80)


def case(truths, answers, pixels=None):
    """Examples and answers from rows for each image.

    A truth is `(box, label)` or `(box, label, ignored)`, an answer `(box, class, score)`.
    """
    count, most = len(truths), max(1, *map(len, truths)) if truths else 1
    examples = SimpleNamespace(
        boxes=np.zeros((count, most, 4), "float32"),
        labels=np.full((count, most), -1, "int32"),
        ignored=np.zeros((count, most), bool),
        pixels=np.zeros((count, 64, 96, 3), "uint8") if pixels is None else pixels,
    )
    for image, rows in enumerate(truths):
        for place, (box, label, *ignored) in enumerate(rows):
            examples.boxes[image, place] = box
            examples.labels[image, place] = label
            examples.ignored[image, place] = bool(ignored and ignored[0])
    some = max(1, *map(len, answers)) if answers else 1
    found = {
        "boxes": np.zeros((count, some, 4), "float32"),
        "scores": np.zeros((count, some), "float32"),
        "classes": np.full((count, some), -1, "int32"),
    }
    for image, rows in enumerate(answers):
        for place, (box, label, score) in enumerate(rows):
            found["boxes"][image, place] = box
            found["classes"][image, place], found["scores"][image, place] = label, score
    return examples, found


def test_perfect_answers_score_one():
    examples, answers = case(
        [[(BOX, 0), (FAR, 1)], [(BOX, 1)]], [[(BOX, 0, 0.9), (FAR, 1, 0.2)], [(BOX, 1, 0.5)]]
    )
    figures = metrics.detection_metrics(examples, answers, 2)
    assert list(figures) == ["ap", "ap50", "ap75", "ar", "voc_map"]
    assert all(value == pytest.approx(1, abs=1e-12) for value in figures.values())


def test_no_answer_scores_nothing():
    examples, answers = case([[(BOX, 0)], []], [[], []])
    assert set(metrics.detection_metrics(examples, answers, 2).values()) == {0.0}


def test_overlap_decides_at_how_many_thresholds_an_answer_is_right():
    examples, answers = case([[(BOX, 0)]], [[(MOST, 0, 0.9)]])  # .8: right from .5 to .8
    figures = metrics.detection_metrics(examples, answers, 1)
    assert figures["ap"] == pytest.approx(0.7)
    assert figures["ar"] == pytest.approx(0.7)
    assert figures["ap50"] == figures["ap75"] == pytest.approx(1)
    examples, answers = case([[(BOX, 0)]], [[(WIDE, 0, 0.9)]])  # .5: right at .5 only
    figures = metrics.detection_metrics(examples, answers, 1)
    assert figures["ap"] == pytest.approx(0.1)
    assert (figures["ap50"], figures["ap75"]) == (pytest.approx(1), 0)
    assert figures["voc_map"] == 1


def test_a_false_answer_before_a_right_one_halves_the_precision():
    examples, answers = case([[(BOX, 0)]], [[(FAR, 0, 0.9), (BOX, 0, 0.8)]])
    assert metrics.detection_metrics(examples, answers, 1) == pytest.approx(
        {"ap": 0.5, "ap50": 0.5, "ap75": 0.5, "ar": 1, "voc_map": 0.5}
    )


def test_the_curve_of_three_objects_and_four_answers():
    # Right, false, right, false of three objects: recall 1/3, 1/3, 2/3, 2/3; precision 1, 1/2,
    # 2/3, 1/2. COCO reads 101 levels: 34 of them (0 to .33) at 1, 33 (.34 to .66) at 2/3.
    examples, answers = case(
        [[(BOX, 0), (FAR, 0)], [(BOX, 0)]],
        [[(BOX, 0, 0.9), (HALF, 0, 0.1)], [(BOX, 0, 0.7), (FAR, 0, 0.8)]],
    )
    figures = metrics.detection_metrics(examples, answers, 1)
    assert figures["ap50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert figures["ar"] == pytest.approx(2 / 3)
    assert figures["voc_map"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    # At 0, .1, .2, .3 it is 1, at .4, .5, .6 it is 2/3, beyond it is nothing.
    eleven = metrics.voc_map(examples, answers, 1, points=metrics.ELEVEN_POINTS)
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_a_second_answer_to_an_object_is_false():
    # COCO lets the second have another object; Pascal VOC asks which it overlaps most.
    near = (12, 10, 22, 20)  # overlaps BOX by 2/3
    examples, answers = case([[(BOX, 0)]], [[(BOX, 0, 0.9), (near, 0, 0.8)]])
    assert metrics.detection_metrics(examples, answers, 1)["ap50"] == pytest.approx(1)
    assert metrics.per_class_metrics(examples, answers, 1, score_threshold=0)[0]["precision"] == 0.5
    examples, answers = case([[(BOX, 0), (near, 0)]], [[(BOX, 0, 0.9), (BOX, 0, 0.8)]])
    figures = metrics.detection_metrics(examples, answers, 1)
    assert figures["ap50"] == pytest.approx(1)
    assert figures["voc_map"] == pytest.approx(0.5)


def test_the_average_of_a_curve_is_that_of_its_envelope():
    recall, precision = [0.2, 0.4, 0.4, 0.6], [1, 0.5, 0.4, 0.6]
    assert metrics.average_precision(recall, precision) == pytest.approx(0.2 * 1 + 0.4 * 0.6)
    # 0, .1, .2: 1; .3 to .6: .6
    assert metrics.average_precision(recall, precision, 11) == pytest.approx((3 + 4 * 0.6) / 11)
    assert metrics.average_precision([], []) == 0
    tenths = np.arange(1, 11) / 10  # 3/10 is reached, though it is less than .3 in binary
    assert metrics.average_precision(tenths, np.ones(10), 11) == 1


def test_what_is_ignored_is_neither_found_nor_missed():
    plain = case([[(BOX, 0)]], [[(BOX, 0, 0.5)]])
    crowd = case(
        [[(BOX, 0), (FAR, 0, True)]],
        [[(BOX, 0, 0.5), (FAR, 0, 0.9), (FAR, 0, 0.8), ((60, 60, 80, 78), 0, 0.7)]],
    )
    missed = case([[(BOX, 0), (FAR, 0, True)]], [[(BOX, 0, 0.5)]])
    for examples, answers in (crowd, missed):
        assert metrics.detection_metrics(examples, answers, 1) == metrics.detection_metrics(
            *plain, 1
        )
        assert metrics.per_class_metrics(examples, answers, 1, score_threshold=0)[0]["objects"] == 1
        assert report.match_predictions(examples, answers, 0, 0.0)[1:] == ([], [])
    examples, answers = case([[(BOX, 0, True)]], [[(BOX, 0, 0.5)]])
    assert np.isnan(list(metrics.detection_metrics(examples, answers, 1).values())).all()


def test_a_class_that_nobody_has_counts_for_nothing():
    examples, answers = case([[(BOX, 0)], []], [[(BOX, 0, 0.5)], [(BOX, 2, 0.9)]])
    figures = metrics.detection_metrics(examples, answers, 3)
    assert all(value == pytest.approx(1) for value in figures.values())
    rows = metrics.per_class_metrics(examples, answers, 3, score_threshold=0.5)
    assert rows[0] == pytest.approx(
        {"ap": 1, "ap50": 1, "ar": 1, "precision": 1, "recall": 1, "objects": 1}
    )
    assert rows[1] == dict.fromkeys(("ap", "ap50", "ar", "precision", "recall")) | {"objects": 0}


def test_answers_in_an_image_of_nothing_are_false():
    examples, answers = case([[(BOX, 0)], []], [[(BOX, 0, 0.5)], [(BOX, 0, 0.9)]])
    figures = metrics.detection_metrics(examples, answers, 1)
    assert figures["ap50"] == pytest.approx(0.5)
    assert figures["voc_map"] == pytest.approx(0.5)


def test_answers_that_are_no_numbers_are_none():
    examples, answers = case([[(BOX, 0)]], [[(BOX, 0, 0.5), (FAR, 0, np.nan)]])
    answers["boxes"] = np.concatenate([answers["boxes"], np.full((1, 1, 4), np.nan)], 1)
    answers["scores"] = np.concatenate([answers["scores"], np.full((1, 1), 0.9)], 1)
    answers["classes"] = np.concatenate([answers["classes"], np.zeros((1, 1), "int32")], 1)
    assert metrics.detection_metrics(examples, answers, 1)["ap"] == pytest.approx(1)


def noisy(count=40, seed=0):
    """Examples of up to 4 objects of 3 classes, and answers that are often about right."""
    random = np.random.default_rng(seed)
    truths, answers = [], []
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
        answers.append(moved + extra)
    return case(truths, answers)


def slow_voc(examples, answers, label):
    """Average precision of Pascal VOC as its toolkit computes it, image by image in plain loops."""
    said, count = [], 0
    for image in range(len(examples.labels)):
        count += int(((examples.labels[image] == label) & ~examples.ignored[image]).sum())
        for box, score, kind in zip(*(answers[n][image] for n in answers), strict=True):
            if kind == label:
                said.append((score, image, box))
    said.sort(key=lambda row: -row[0])
    taken, hits, misses, curve = set(), 0, 0, [(0.0, 1.0)]
    for _, image, box in said:
        best, at = -1.0, None
        for place, (truth, kind) in enumerate(
            zip(examples.boxes[image], examples.labels[image], strict=True)
        ):
            if kind != label:
                continue
            wide = min(box[2], truth[2]) - max(box[0], truth[0])
            tall = min(box[3], truth[3]) - max(box[1], truth[1])
            if wide > 0 and tall > 0:
                area = (box[2] - box[0]) * (box[3] - box[1])
                other = (truth[2] - truth[0]) * (truth[3] - truth[1])
                shared = wide * tall / (area + other - wide * tall)
                if shared > best:
                    best, at = shared, place
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
def test_pascal_voc_against_plain_loops(seed):
    examples, answers = noisy(seed=seed)
    slow = [slow_voc(examples, answers, label) for label in range(3)]
    assert metrics.voc_map(examples, answers, 3) == pytest.approx(np.mean(slow), abs=1e-9)
    assert 0.1 < np.mean(slow) < 0.9


def test_the_order_of_images_and_answers_makes_no_difference():
    examples, answers = noisy()
    want = metrics.detection_metrics(examples, answers, 3)
    random = np.random.default_rng(1)
    rows = random.permutation(len(examples.labels))
    places = random.permutation(answers["scores"].shape[1])
    for name in ("boxes", "labels", "ignored"):
        setattr(examples, name, getattr(examples, name)[rows])
    answers = {name: values[rows][:, places] for name, values in answers.items()}
    assert metrics.detection_metrics(examples, answers, 3) == pytest.approx(want)


def test_a_hundred_answers_to_an_image_count():
    false = [(FAR, 0, 0.9)] * metrics.MAX_DETECTIONS
    examples, answers = case([[(BOX, 0)]], [[*false, (BOX, 0, 0.1)]])
    assert metrics.detection_metrics(examples, answers, 1)["ar"] == 0
    examples, answers = case([[(BOX, 0)]], [[*false[1:], (BOX, 0, 0.1)]])
    assert metrics.detection_metrics(examples, answers, 1)["ar"] == 1


def test_overlaps_against_a_formula():
    random = np.random.default_rng(0)
    start = random.uniform(0, 50, (6, 2))
    some = np.concatenate([start, start + random.uniform(1, 40, (6, 2))], 1)
    for n, one in enumerate(some):
        for m, other in enumerate(some):
            sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            both = np.prod(sides.clip(0))
            areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
            assert metrics.pairwise_iou(some, some)[n, m] == pytest.approx(
                both / (sum(areas) - both)
            )
            crowd = metrics.pairwise_iou(some, some, crowd=True)
            assert crowd[n, m] == pytest.approx(both / areas[0])


# How far to trust it


def test_resampled_precision_is_that_of_the_resample():
    examples, answers = noisy(12)
    evaluated = metrics.coco_evaluation(examples, answers, 3).evalImgs
    classes = [bootstrap.class_matches(evaluated[n * 12 : n * 12 + 12]) for n in range(3)]
    drawn = np.random.default_rng(3).integers(0, 12, (3, 12))
    times = np.stack([np.bincount(row, minlength=12) for row in drawn])
    for row, want in zip(drawn, bootstrap.average_precision(classes, times), strict=True):
        part = SimpleNamespace(
            **{n: getattr(examples, n)[row] for n in ("boxes", "labels", "ignored")}
        )
        said = {name: values[row] for name, values in answers.items()}
        assert metrics.detection_metrics(part, said, 3)["ap"] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("count", [1, 3])
def test_all_found_in_a_few_images_is_not_certainty(count):
    figures = metrics.metrics_with_interval(
        *case([[(BOX, 0)]] * count, [[(BOX, 0, 0.9)]] * count), 1, seed=0
    )
    assert (figures["ap"], figures["ap_high"]) == pytest.approx((1, 1))
    assert figures["ap_low"] == pytest.approx(0.025 ** (1 / count))


def test_the_interval_holds_the_figure_and_is_repeated():
    examples, answers = noisy()
    figures = metrics.metrics_with_interval(examples, answers, 3, seed=0)
    assert list(figures)[:3] == ["ap", "ap_low", "ap_high"]
    assert figures["ap_low"] < figures["ap"] < figures["ap_high"]
    assert figures == metrics.metrics_with_interval(examples, answers, 3, seed=0)
    assert figures != metrics.metrics_with_interval(examples, answers, 3, seed=1)


def test_the_score_of_the_best_f1():
    # From the highest score on: 1 of 2, F1 2/3; 2 of 2, 1; 2 right and 1 false, 4/5.
    examples, answers = case(
        [[(BOX, 0), (FAR, 1)]], [[(BOX, 0, 0.9), (FAR, 1, 0.6), (BOX, 1, 0.3)]]
    )
    assert metrics.best_score_threshold(examples, answers, 2) == pytest.approx(0.6)
    # Equal scores count together: one right and one false of one.
    examples, answers = case([[(BOX, 0)]], [[(BOX, 0, 0.5), (FAR, 0, 0.5)]])
    assert metrics.best_score_threshold(examples, answers, 1) == 0.5
    examples, answers = case([[(BOX, 0)]], [[(FAR, 0, 0.5)]])
    assert metrics.best_score_threshold(examples, answers, 1) == 1
    examples, answers = case([[(BOX, 0)]], [[]])
    assert metrics.best_score_threshold(examples, answers, 1) == 1


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(metrics.importlib, "import_module", broken)
    with pytest.raises(UsageError, match=r"pip install 'keras-zoo\[detection\]'"):
        metrics.detection_metrics(*case([[(BOX, 0)]], [[]]), 1)


# Pictures


def test_a_box_is_drawn_round_its_pixels():
    image = np.zeros((128, 128, 3), "uint8")
    drawn = report.draw_boxes(image, [report.DrawnBox((10, 20, 40, 50), "", (0, 255, 0))])
    assert drawn.shape == (256, 256, 3)
    rows, columns = np.nonzero(drawn.any(-1))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [20, 40, 80, 100]
    assert not drawn[60, 60].any()  # it is hollow
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
def test_no_box_is_too_strange_to_draw(box):
    image = np.zeros((64, 96, 3), "uint8")
    for dashed in (False, True):
        mark = report.DrawnBox(box, "a class", (200, 0, 0), dashed)
        assert report.draw_boxes(image, [mark]).dtype == np.uint8


def test_classes_keep_their_colours():
    marks = report.boxes_of_classes([BOX, FAR], [0.9, 0.5], [2, 0], ("ground", "b", "c"))
    assert [mark.text for mark in marks] == ["ground 50%", "c 90%"]  # the best on top
    assert marks[0].colour != marks[1].colour
    assert sum(marks[0].colour) > 0


def test_answers_are_told_apart():
    examples, answers = case(
        [[(BOX, 0), (FAR, 1), (WIDE, 1)]],
        [[(FAR, 1, 0.5), (MOST, 0, 0.9), (BOX, 0, 0.8), (FAR, 0, 0.7), (WIDE, 1, 0.1)]],
    )
    # Best first: MOST of 0 is right, BOX of 0 comes too late, FAR is none of 0, FAR of 1 is right.
    assert report.match_predictions(examples, answers, 0, 0.2) == ([0, 3], [1, 2], [2])


def test_the_sections_of_a_report():
    examples, answers = case(
        [[(BOX, 0)], [(FAR, 1)], []],
        [[(BOX, 0, 0.9)], [(BOX, 1, 0.95)], []],
    )
    sections = dict(report.sections(examples, ("cat", "<dog>", "emu"), answers))
    assert list(sections) == ["Classes", "Worst images", "Best images"]
    assert "&lt;dog&gt;" in sections["Classes"]
    assert "score of 0.90 or more" in sections["Classes"]
    assert "image 1\n0 right, 1 false, 1 missed" in sections["Worst images"]
    assert "image 0\n1 right, 0 false, 0 missed" in sections["Best images"]
    [data] = re.findall('base64,([^"]+)"', sections["Best images"])
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert (seen == report.CORRECT_COLOUR).all(-1).any()
    examples.title = "cats/{}.jpg".format
    assert (
        "cats/1.jpg\n0 right"
        in dict(report.sections(examples, ("cat", "dog", "emu"), answers))["Worst images"]
    )
    examples.pixels = np.zeros((3, 64, 96, 5), "uint8")
    shown = dict(report.sections(examples, ("a", "b", "c"), answers))  # the first channels
    assert list(shown) == ["Classes", "Worst images", "Best images"]


def test_a_model_that_finds_nothing_is_reported_too():
    examples, answers = case([[(BOX, 0)], [(FAR, 1)]], [[], []])
    sections = dict(report.sections(examples, ("cat", "dog"), answers))
    assert list(sections) == ["Classes", "Worst images"]
    figures = metrics.metrics_with_interval(examples, answers, 2, seed=0)
    text = report.lead("m", "set", figures, num_test=1, num_train=2000)
    assert "1 test image of set with an average precision (AP) of 0.00%" in text
    assert "never saw it while learning from 2,000 others" in text
