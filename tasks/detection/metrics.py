"""Metrics of detectors: average precision as defined by COCO and by Pascal VOC.

Ground truth and predictions are those of `coco_metrics`, both in pixels of the model's input, so
that resizing makes no difference, except for what `crop` cuts away. Ignored objects (crowds,
difficult objects) count neither as found nor as missed, and a prediction that matches one counts
neither as a true nor as a false positive.
"""

from __future__ import annotations

from types import SimpleNamespace

from tasks.detection import bootstrap, coco_metrics
from tasks.report import confidence_intervals
from tasks.report.evaluation_report import deduplicated_metric
from zoo.lazy import np

ALL_POINTS, ELEVEN_POINTS = None, 11  # interpolation of Pascal VOC since 2010, and until 2009
VOC_IOU_THRESHOLD = 0.5
_RECALL_TOLERANCE = 1e-9  # so that rounding does not keep a recall from reaching a level


def detection_metrics(examples, predictions, num_classes: int) -> dict[str, float]:
    """Evaluates a detector.

    Args:
        examples: ground truth with `boxes`, `labels` and `ignored`, as in `coco_metrics`.
        predictions: a dict of `boxes`, `scores` and `classes`, as in `coco_metrics`.
        num_classes: the number of classes. Classes without an object are left out of all means.

    Returns:
        `ap`, the average precision of COCO over IoU thresholds of .5 to .95 and all classes;
        `ap50` and `ap75`, at one threshold; `ar`, the average recall of COCO with 100 predictions
        per image; `voc_map`, the mean average precision of Pascal VOC since 2010. All are in
        [0, 1], and NaN where there is no object at all.

    Raises:
        UsageError: pycocotools is not installed.
    """
    coco_eval = coco_metrics.evaluate(examples, predictions, num_classes)
    return _summarize(coco_eval, examples, predictions, num_classes)


def metrics_with_interval(
    examples, predictions, num_classes: int, *, seed: int
) -> dict[str, float]:
    """Evaluates a detector for its report: `detection_metrics`, and an interval of `ap`.

    Returns:
        The metrics, and with them `ap_low` and `ap_high`: the ends of a 95% bootstrap interval
        over images.
    """
    coco_eval = coco_metrics.evaluate(examples, predictions, num_classes)
    figures = _summarize(coco_eval, examples, predictions, num_classes)
    ends = bootstrap.confidence_interval(
        coco_eval.evalImgs, len(examples.labels), num_classes, seed=seed
    )
    return {**confidence_intervals.with_interval("ap", figures.pop("ap"), ends), **figures}


def deduplicated_ap(examples, predictions, num_classes: int, copies) -> dict[str, float]:
    """Returns `deduplicated_ap`: `ap` without near duplicates of training images.

    Args:
        examples, predictions, num_classes: as in `detection_metrics`.
        copies: the indices of the near duplicates; without any, the dict is empty.
    """

    def measure(kept):
        names = ("boxes", "labels", "ignored")
        part = SimpleNamespace(**{name: getattr(examples, name)[kept] for name in names})
        own = {name: values[kept] for name, values in predictions.items()}
        return detection_metrics(part, own, num_classes)["ap"]

    return deduplicated_metric("ap", len(examples.labels), copies, measure)


def per_class_metrics(
    examples, predictions, num_classes: int, *, score_threshold: float
) -> list[dict]:
    """Evaluates each class.

    Args:
        examples, predictions, num_classes: as in `detection_metrics`.
        score_threshold: the lowest score of predictions that `precision` and `recall` count, at
            an IoU of .5.

    Returns:
        A dict per class: `ap`, `ap50` and `ar` as in `detection_metrics`, `precision` and
        `recall`, `None` for a class without an object; and `objects`, the number of objects.
    """
    precision, recall = coco_metrics.pr_curves(
        coco_metrics.evaluate(examples, predictions, num_classes)
    )
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
    """Returns the score threshold with the best F1 over all classes at an IoU of .5; 1 where no
    prediction is correct."""
    parts = [_match_class(examples, predictions, n, VOC_IOU_THRESHOLD) for n in range(num_classes)]
    scores, true_positives, false_positives = (
        np.concatenate([part[n] for part in parts]) for n in range(3)
    )
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(true_positives[order])
    if not len(hits) or not hits[-1]:
        return 1.0
    f1 = 2 * hits / (hits + np.cumsum(false_positives[order]) + sum(part[3] for part in parts))
    last = np.append(scores[1:] < scores[:-1], True)  # ties are counted together
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

    A prediction is matched with the object of the highest IoU; of several predictions matched
    with one object the first is a true positive and the others are false positives.

    Args:
        examples, predictions, num_classes: as in `detection_metrics`.
        points: `ALL_POINTS`, the area under the curve; or `ELEVEN_POINTS`, the mean of the
            interpolated precision at recalls of 0, .1, ... 1.
        iou_threshold: the lowest IoU of a true positive.
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
    """Returns the average interpolated precision: the best at a recall or any higher one.

    Args:
        recall: of the first k predictions, for k from 1.
        precision: likewise.
        points: as in `voc_map`.
    """
    recall, precision = np.asarray(recall, "float64"), np.asarray(precision, "float64")
    if points is not ALL_POINTS:
        levels = np.linspace(0, 1, points)
        best = [precision[recall >= level - _RECALL_TOLERANCE].max(initial=0) for level in levels]
        return float(np.mean(best))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))


def _summarize(coco_eval, examples, predictions, num_classes):
    precision, recall = coco_metrics.pr_curves(coco_eval)
    at = coco_metrics.IOU_THRESHOLDS.index
    return {
        "ap": _valid_mean(precision),
        "ap50": _valid_mean(precision[at(0.5)]),
        "ap75": _valid_mean(precision[at(0.75)]),
        "ar": _valid_mean(recall),
        "voc_map": voc_map(examples, predictions, num_classes),
    }


def _match_class(examples, predictions, label, iou_threshold):
    """Matches the predictions of a class with its objects.

    Returns:
        The scores, highest first; which of them are true and which are false positives; and the
        number of objects.
    """
    rows, count = [], 0
    for index in range(len(examples.labels)):
        of_label = examples.labels[index] == label
        true_boxes, ignored = examples.boxes[index][of_label], examples.ignored[index][of_label]
        count += int((~ignored).sum())
        boxes, scores, classes = coco_metrics.image_predictions(predictions, index)
        of_class = classes == label
        ious, matched = coco_metrics.pairwise_iou(boxes[of_class], true_boxes), set()
        for score, row in zip(scores[of_class], ious, strict=True):
            best = int(row.argmax()) if len(row) else -1
            fits = best >= 0 and row[best] >= iou_threshold
            is_true_positive = fits and not ignored[best] and best not in matched
            is_false_positive = not is_true_positive and not (fits and ignored[best])
            matched.update([best] if fits else [])
            rows.append((score, is_true_positive, is_false_positive))
    rows.sort(key=lambda row: -row[0])
    scores, true_positives, false_positives = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(scores), np.array(true_positives, bool), np.array(false_positives, bool), count


def _valid_mean(values):
    """Returns the mean of values of pycocotools, which are -1 where there is no object."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")
