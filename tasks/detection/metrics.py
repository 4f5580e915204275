"""What is measured of a detector: average precision as COCO and as Pascal VOC define it.

Boxes are `x0, y0, x1, y1` in pixels of the image that the model saw; x1 and y1 are exclusive.
Both sides are held to the same image, so that how it was resized makes no difference, except for
what `crop` cuts away. What is to be ignored (a crowd, a difficult object) is neither found nor
missed: an answer that fits it counts for nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import io

from tasks.detection import bootstrap
from tasks.report import confidence_intervals
from zoo.errors import UsageError
from zoo.lazy import np

IOU_THRESHOLDS = tuple(n / 100 for n in range(50, 100, 5))  # of overlap, which COCO averages over
MAX_DETECTIONS = 100  # answers to an image that count, those with the highest scores, as in COCO
ALL_POINTS, ELEVEN_POINTS = None, 11  # how Pascal VOC adds up since 2010, and until 2009
VOC_IOU_THRESHOLD = 0.5
_RECALL_TOLERANCE = 1e-9  # by which a recall may miss a level that it reaches but for rounding


def detection_metrics(examples, predictions, num_classes: int) -> dict[str, float]:
    """Measures a detector.

    Args:
        examples: what has `boxes` `(count, most, 4)`, `labels` `(count, most)`, -1 where there is
            no object, and `ignored` `(count, most)`.
        predictions: `boxes` `(count, some, 4)`, `scores` `(count, some)` and `classes`
            `(count, some)`, -1 where there is no more.
        num_classes: how many there are. One of which there is no object counts for nothing.

    Returns:
        `ap`, COCO's average precision over overlaps of .5 to .95 and all classes; `ap50` and
        `ap75`, at one overlap; `ar`, its average recall with 100 answers to an image; `voc_map`,
        the mean average precision of Pascal VOC since 2010. All are in [0, 1], and NaN where
        there is no object at all.

    Raises:
        UsageError: pycocotools is not installed.
    """
    return _summarize(
        coco_evaluation(examples, predictions, num_classes), examples, predictions, num_classes
    )


def metrics_with_interval(
    examples, predictions, num_classes: int, *, seed: int
) -> dict[str, float]:
    """Measures a detector for its report: `figures`, and how far to trust the first of them.

    Returns:
        The figures, and with them `ap_low` and `ap_high`: the ends of a bootstrap interval over
        the images, at 95%.
    """
    coco_eval = coco_evaluation(examples, predictions, num_classes)
    found = _summarize(coco_eval, examples, predictions, num_classes)
    ends = bootstrap.confidence_interval(
        coco_eval.evalImgs, len(examples.labels), num_classes, seed=seed
    )
    return {**confidence_intervals.with_interval("ap", found.pop("ap"), ends), **found}


def per_class_metrics(
    examples, predictions, num_classes: int, *, score_threshold: float
) -> list[dict]:
    """Measures each class.

    Args:
        examples, predictions, num_classes: as `figures` has them.
        score_threshold: score of an answer that `precision` and `recall` count, at an overlap of
            .5.

    Returns:
        A dict for each: `ap`, `ap50` and `ar` as in `figures`, `precision` and `recall`, `None`
        where there is no object of the class; and `objects`, how many there are.
    """
    precision, recall = _pr_curves(coco_evaluation(examples, predictions, num_classes))
    rows = []
    for label in range(num_classes):
        scores, true_positives, false_positives, count = _match_class(
            examples, predictions, label, VOC_IOU_THRESHOLD
        )
        hits = int(true_positives[scores >= score_threshold].sum())
        detections = hits + int(false_positives[scores >= score_threshold].sum())
        values = {
            "ap": _valid_mean(precision[..., label]),
            "ap50": _valid_mean(precision[0, ..., label]),
            "ar": _valid_mean(recall[..., label]),
            "precision": hits / max(detections, 1),
            "recall": hits / max(count, 1),
        }
        values = values if count else dict.fromkeys(values)
        rows.append({**values, "objects": count})
    return rows


def best_score_threshold(examples, predictions, num_classes: int) -> float:
    """Returns the least score of the answers which, all classes together, have the best F1 at an
    overlap of .5; 1 where nothing is right."""
    parts = [_match_class(examples, predictions, n, VOC_IOU_THRESHOLD) for n in range(num_classes)]
    scores, true_positives, false_positives = (
        np.concatenate([part[n] for part in parts]) for n in range(3)
    )
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(true_positives[order])
    if not len(hits) or not hits[-1]:
        return 1.0
    f1 = 2 * hits / (hits + np.cumsum(false_positives[order]) + sum(part[3] for part in parts))
    last = np.append(scores[1:] < scores[:-1], True)  # of equal scores all count or none
    return float(scores[np.where(last, f1, -1).argmax()])


def voc_map(
    examples,
    predictions,
    num_classes: int,
    *,
    points=ALL_POINTS,
    iou_threshold: float = VOC_IOU_THRESHOLD,
) -> float:
    """Returns the mean average precision of Pascal VOC over the classes that have an object.

    An answer belongs to the object that it overlaps most; of several answers to one object
    the first is right and the others are wrong.

    Args:
        examples, predictions, num_classes: as `figures` has them.
        points: `ALL_POINTS`, the area below the curve; or `ELEVEN`, its mean at 0, .1, ... 1.
        iou_threshold: least intersection over union of an answer that is right.
    """
    values = []
    for label in range(num_classes):
        _, true_positives, false_positives, count = _match_class(
            examples, predictions, label, iou_threshold
        )
        if count:
            hits, misses = np.cumsum(true_positives), np.cumsum(false_positives)
            values.append(average_precision(hits / count, hits / (hits + misses).clip(1), points))
    return float(np.mean(values)) if values else float("nan")


def average_precision(recall, precision, points=ALL_POINTS) -> float:
    """Returns the average of a curve, whose precision counts as the best at that recall or more.

    Args:
        recall: of the first answers, one more each time.
        precision: likewise.
        points: as `voc_map` has it.
    """
    recall, precision = np.asarray(recall, "float64"), np.asarray(precision, "float64")
    if points is not ALL_POINTS:
        levels = np.linspace(0, 1, points)
        best = [precision[recall >= level - _RECALL_TOLERANCE].max(initial=0) for level in levels]
        return float(np.mean(best))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))


def coco_evaluation(examples, predictions, num_classes):
    """Returns the evaluation of pycocotools, a `COCOeval` that has been accumulated.

    Args:
        examples, predictions, num_classes: as `figures` has them.
    """
    annotations, detections = [], []
    for image in range(len(examples.labels)):
        for place in np.flatnonzero(examples.labels[image] >= 0):
            thing = (image, examples.labels[image, place], examples.boxes[image, place])
            annotations.append(
                _coco_annotation(*thing) | {"iscrowd": int(examples.ignored[image, place])}
            )
        for box, score, label in zip(*image_predictions(predictions, image), strict=True):
            detections.append(
                _coco_annotation(image, label, box) | {"score": float(score), "iscrowd": 0}
            )
    sizes = (len(examples.labels), num_classes)
    tool = _import_pycocotools("cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every step
        coco_eval = tool.COCOeval(
            _coco_index(annotations, *sizes), _coco_index(detections, *sizes), "bbox"
        )
        coco_eval.params.areaRng, coco_eval.params.areaRngLbl = [[0, float("inf")]], ["all"]
        coco_eval.params.maxDets = [MAX_DETECTIONS]
        coco_eval.params.iouThrs = np.array(IOU_THRESHOLDS)
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def pairwise_iou(boxes, others, crowd=False):
    """Returns the intersection over union of boxes, float64 `(boxes, others)`, by pycocotools.

    Args:
        boxes, others: `(boxes, 4)` and `(others, 4)`.
        crowd: whether to divide by the area of the first box alone.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    sides = [_to_xywh(np.asarray(part, "float64")) for part in (boxes, others)]
    return _import_pycocotools("mask").iou(*sides, [int(crowd)] * len(others))


def image_predictions(predictions, index):
    """Returns the boxes, scores and classes of the answers to one image, the best first.

    What is no answer is left out, and so is one with a number that is none.
    """
    boxes, scores, classes = (
        np.asarray(predictions[name][index]) for name in ("boxes", "scores", "classes")
    )
    some = (classes >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(-1)
    order = np.flatnonzero(some)
    order = order[np.argsort(-scores[order], kind="stable")]
    return boxes[order].astype("float64"), scores[order].astype("float64"), classes[order]


def _summarize(coco_eval, examples, predictions, num_classes):
    precision, recall = _pr_curves(coco_eval)
    at = IOU_THRESHOLDS.index
    return {
        "ap": _valid_mean(precision),
        "ap50": _valid_mean(precision[at(0.5)]),
        "ap75": _valid_mean(precision[at(0.75)]),
        "ar": _valid_mean(recall),
        "voc_map": voc_map(examples, predictions, num_classes),
    }


def _match_class(examples, predictions, label, iou_threshold):
    """Returns the scores of a class, falling, which are right, which wrong; and its objects."""
    rows, count = [], 0
    for index in range(len(examples.labels)):
        of_label = examples.labels[index] == label
        true_boxes, ignored = examples.boxes[index][of_label], examples.ignored[index][of_label]
        count += int((~ignored).sum())
        boxes, scores, classes = image_predictions(predictions, index)
        of_class = classes == label
        ious, matched = pairwise_iou(boxes[of_class], true_boxes), set()
        for score, row in zip(scores[of_class], ious, strict=True):
            best = int(row.argmax()) if len(row) else -1
            fits = best >= 0 and row[best] >= iou_threshold
            true_positives = fits and not ignored[best] and best not in matched
            false_positives = not true_positives and not (fits and ignored[best])
            matched.update([best] if fits else [])
            rows.append((score, true_positives, false_positives))
    rows.sort(key=lambda row: -row[0])
    scores, true_positives, false_positives = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(scores), np.array(true_positives, bool), np.array(false_positives, bool), count


def _pr_curves(coco_eval):
    """Returns precision `(thresholds, recalls, classes)` and recall `(thresholds, classes)`."""
    found = coco_eval.eval
    return found["precision"][..., 0, 0], found["recall"][..., 0, 0]


def _coco_annotation(image, label, box):
    box = np.asarray(box, "float64")
    sides = (box[2:] - box[:2]).clip(0)
    return {
        "image_id": image,
        "category_id": int(label),
        "bbox": [*box[:2].tolist(), *sides.tolist()],
        "area": float(sides.prod()),
    }


def _coco_index(rows, images, classes):
    """Returns rows as what pycocotools reads; it takes the number 0 for no row."""
    data = _import_pycocotools("coco").COCO()
    data.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, 1)],
    }
    data.createIndex()
    return data


def _valid_mean(values):
    """Returns the mean of what pycocotools found; it writes -1 where there is nothing."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")


def _to_xywh(boxes):
    return np.concatenate([boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clip(0)], -1)


def _import_pycocotools(name):
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ImportError as error:
        raise UsageError(
            "average precision needs pycocotools, by: pip install 'keras-zoo[detection]'"
        ) from error
