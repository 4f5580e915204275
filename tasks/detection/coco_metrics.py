"""The COCO evaluation of pycocotools, on arrays instead of JSON files.

Ground truth is anything with `boxes` `(count, max_objects, 4)`, `labels` `(count, max_objects)`, -1
for padding, and `ignored` `(count, max_objects)`, true for crowds and difficult objects.
Predictions are a dict of `boxes` `(count, k, 4)`, `scores` `(count, k)` and `classes` `(count, k)`,
-1 for padding. Boxes are `x0, y0, x1, y1` in pixels of the model's input, x1 and y1 exclusive.
"""

from __future__ import annotations

import contextlib
import importlib
import io

from zoo.errors import UsageError
from zoo.lazy import np

IOU_THRESHOLDS = tuple(n / 100 for n in range(50, 100, 5))  # that COCO averages over
MAX_DETECTIONS = 100  # per image, those with the highest scores, as in COCO


def evaluate(examples, predictions, num_classes: int):
    """Returns an accumulated `pycocotools.cocoeval.COCOeval`.

    Args:
        examples, predictions: ground truth and predictions, as above.
        num_classes: the number of classes.

    Raises:
        UsageError: pycocotools is not installed.
    """
    annotations, detections = [], []
    for image in range(len(examples.labels)):
        for index in np.flatnonzero(examples.labels[image] >= 0):
            row = _annotation(image, examples.labels[image, index], examples.boxes[image, index])
            annotations.append(row | {"iscrowd": int(examples.ignored[image, index])})
        for box, score, label in zip(*image_predictions(predictions, image), strict=True):
            detections.append(
                _annotation(image, label, box) | {"score": float(score), "iscrowd": 0}
            )
    sizes = (len(examples.labels), num_classes)
    module = _import_pycocotools("cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints each step
        coco_eval = module.COCOeval(_index(annotations, *sizes), _index(detections, *sizes), "bbox")
        coco_eval.params.areaRng, coco_eval.params.areaRngLbl = [[0, float("inf")]], ["all"]
        coco_eval.params.maxDets = [MAX_DETECTIONS]
        coco_eval.params.iouThrs = np.array(IOU_THRESHOLDS)
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def pr_curves(coco_eval):
    """Returns the precision `(thresholds, recall levels, classes)` and recall `(thresholds,
    classes)` of an evaluation, -1 for classes without an object."""
    found = coco_eval.eval
    return found["precision"][..., 0, 0], found["recall"][..., 0, 0]


def pairwise_iou(boxes, others, crowd=False):
    """Returns the intersection over union of boxes, float64 `(boxes, others)`, by pycocotools.

    Args:
        boxes, others: `(boxes, 4)` and `(others, 4)`.
        crowd: whether to divide by the area of the first box alone, as COCO does for crowds.

    Raises:
        UsageError: pycocotools is not installed.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    sides = [_to_xywh(np.asarray(part, "float64")) for part in (boxes, others)]
    return _import_pycocotools("mask").iou(*sides, [int(crowd)] * len(others))


def image_predictions(predictions, index):
    """Returns the boxes, scores and classes predicted for one image, highest score first.

    Padding is left out, and so are predictions with a value that is not finite.
    """
    boxes, scores, classes = (
        np.asarray(predictions[name][index]) for name in ("boxes", "scores", "classes")
    )
    valid = (classes >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(-1)
    order = np.flatnonzero(valid)
    order = order[np.argsort(-scores[order], kind="stable")]
    return boxes[order].astype("float64"), scores[order].astype("float64"), classes[order]


def _annotation(image, label, box):
    box = np.asarray(box, "float64")
    sides = (box[2:] - box[:2]).clip(0)
    return {
        "image_id": image,
        "category_id": int(label),
        "bbox": [*box[:2].tolist(), *sides.tolist()],
        "area": float(sides.prod()),
    }


def _index(rows, num_images, num_classes):
    """Returns annotations as a `COCO` object, with identifiers from 1: 0 means no match there."""
    data = _import_pycocotools("coco").COCO()
    data.dataset = {
        "images": [{"id": image} for image in range(num_images)],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, 1)],
    }
    data.createIndex()
    return data


def _to_xywh(boxes):
    return np.concatenate([boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clip(0)], -1)


def _import_pycocotools(name):
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ImportError as error:
        raise UsageError(
            "average precision needs pycocotools; install it by: pip install 'keras-zoo[detection]'"
        ) from error
