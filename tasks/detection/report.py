"""The report of a detector: images with boxes drawn into them, and tables of metrics.

Examples are anything with `boxes`, `labels` and `ignored`, and with `pixels`, images that can be
indexed by an array; predictions are as in `coco_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.detection import coco_metrics, metrics
from tasks.report import image_channels, page, palette, plots
from tasks.report.evaluation_report import EvaluatedModel
from tasks.report.formatting import format_value, image_name
from tasks.report.image_results import ImageResults, of_examples
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

# Distinguishable with every kind of color vision.
CORRECT_COLOUR, FALSE_COLOUR, MISSED_COLOUR = (0, 114, 178), (213, 94, 0), (240, 228, 66)
MIN_AP = 0.01  # average precision below which the report has a warning
MIN_DRAWN_SIZE = 256  # pixels; smaller images are enlarged until the longer side has that many
NUM_WORST, NUM_BEST = 12, 4
_DASH_LENGTH = 4  # pixels of a dash, and between dashes
_MIN_FONT_SIZE = 11  # pixels


class DrawnBox(NamedTuple):
    """A box to draw, with a text at its corner, in a color, solid or dashed."""

    box: Sequence[float]
    text: str
    colour: tuple[int, int, int]
    dashed: bool = False


def draw_boxes(image, drawn_boxes: Iterable[DrawnBox]):
    """Returns an image with boxes, enlarged by an integer factor if it is small.

    Args:
        image: uint8 `(height, width, channels)`, converted by `image_channels.to_rgb`.
        drawn_boxes: boxes in pixels of the image; the last is on top.

    Returns:
        uint8 `(height, width, 3)`, or a multiple of that size.
    """
    image = image_channels.to_rgb(image)
    times = max(1, -(-MIN_DRAWN_SIZE // max(image.shape[:2])))
    picture = Image.fromarray(image.repeat(times, 0).repeat(times, 1))
    pen = ImageDraw.Draw(picture)
    line_width = max(2, round(max(picture.size) / 320))
    font = ImageFont.load_default(max(_MIN_FONT_SIZE, max(picture.size) // 45))
    for drawn_box in drawn_boxes:
        # A box far outside the image must not take long to draw.
        edges = np.clip(np.asarray(drawn_box.box, "float64") * times, -1, max(picture.size) + 1)
        _draw_outline(pen, np.rint(edges).astype(int).tolist(), drawn_box, line_width)
        if drawn_box.text:
            _draw_caption(pen, picture.size, edges, drawn_box, font)
    return np.asarray(picture)


def boxes_of_classes(boxes, scores, labels, classes: Sequence[str]) -> list[DrawnBox]:
    """Returns the boxes to draw for the predictions of an image, a color per class.

    Args:
        boxes, scores, labels: of the predictions to show, highest score first.
        classes: names of all classes.
    """
    # With a prefix, since the palette has special colors for names such as "background".
    colours = palette.class_colours([f"class {name}" for name in classes]).tolist()
    drawn_boxes = [
        DrawnBox(box, f"{classes[label]} {score:.0%}", tuple(colours[label]))
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]
    return drawn_boxes[::-1]


def match_predictions(
    examples, predictions, index: int, score_threshold: float
) -> tuple[list[int], list[int], list[int]]:
    """Matches the predictions of an image with its objects.

    Predictions are matched in the order of their scores, each with the object of its class that
    has the highest IoU, .5 or more, among those that are not matched yet.

    Args:
        examples, predictions: of all images.
        index: of the image.
        score_threshold: the lowest score of the predictions to match.

    Returns:
        Indices into `coco_metrics.image_predictions` of the true positives and of the false
        positives, and indices into the labels of the missed objects.
    """
    boxes, scores, classes = coco_metrics.image_predictions(predictions, index)
    labels, ignored = examples.labels[index], examples.ignored[index]
    ious = coco_metrics.pairwise_iou(boxes, examples.boxes[index])
    found, correct, false = set(), [], []
    for row in np.flatnonzero(scores >= score_threshold).tolist():
        fits = (labels == classes[row]) & (ious[row] >= metrics.VOC_IOU_THRESHOLD)
        free = [n for n in np.flatnonzero(fits & ~ignored).tolist() if n not in found]
        if free:
            found.add(max(free, key=lambda n: ious[row, n]))
            correct.append(row)
        elif not (fits & ignored).any():
            false.append(row)
    missed = [n for n in np.flatnonzero((labels >= 0) & ~ignored).tolist() if n not in found]
    return correct, false, missed


def lead(evaluated: EvaluatedModel, figures: Mapping[str, float]) -> str:
    """Returns a sentence that summarizes the result.

    Args:
        evaluated: what was evaluated.
        figures: those of `metrics.metrics_with_interval`.
    """
    return (
        f"{evaluated.model} detects the objects in {evaluated.test_images} with an average "
        f"precision (AP) of {format_value('ap', figures['ap'])}, and of "
        f"{format_value('ap', figures['ap50'])} at an IoU of .5; "
        f"{evaluated.training_clause(figures)}."
    )


def sections(examples, classes: Sequence[str], predictions) -> list[tuple[str, str]]:
    """Returns the sections of a report on a detector, pairs of title and HTML.

    Args:
        examples: the test images with their ground truth.
        classes: class names.
        predictions: those of the model for all images.
    """
    score_threshold = metrics.best_score_threshold(examples, predictions, len(classes))
    rows = class_figures(examples, classes, predictions)
    threshold_note = (
        "<p>Precision, recall and the pictures below count predictions with a score of "
        f"{score_threshold:.2f} or more, the threshold of the best F1.</p>"
    )
    found = [("Classes", page.table(rows, list(rows[0])) + threshold_note)]
    matches = [
        match_predictions(examples, predictions, n, score_threshold)
        for n in range(len(examples.labels))
    ]
    wrong = np.array([len(false) + len(missed) for _, false, missed in matches])
    correct = np.array([len(correct) for correct, _, _ in matches])
    order = np.lexsort((correct, -wrong))
    groups = {
        "Worst images": [n for n in order if wrong[n]][:NUM_WORST],
        "Best images": [n for n in np.argsort(-correct, kind="stable") if not wrong[n]],
    }
    groups["Best images"] = [n for n in groups["Best images"] if correct[n]][:NUM_BEST]
    for title, chosen in groups.items():
        if chosen:
            gallery = _gallery(examples, classes, predictions, chosen, matches)
            found.append((title, _legend() + gallery))
    return found


def class_figures(examples, classes: Sequence[str], predictions) -> list[dict]:
    """Returns the metrics of each class; arguments as in `sections`."""
    rows = metrics.per_class_metrics(
        examples,
        predictions,
        len(classes),
        score_threshold=metrics.best_score_threshold(examples, predictions, len(classes)),
    )
    return [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]


def image_results(examples, predictions, num_classes: int) -> ImageResults:
    """Returns the results on each image: its objects that are correct, false and missed, and F1.

    Predictions count from the score of the best F1 over all images, at an IoU of .5. The F1 of an
    image without objects and predictions is NaN.

    Args:
        examples: the images with their ground truth.
        predictions: those of the model for all images.
        num_classes: the number of classes.
    """
    threshold = metrics.best_score_threshold(examples, predictions, num_classes)
    matches = [
        [len(each) for each in match_predictions(examples, predictions, index, threshold)]
        for index in range(len(examples.labels))
    ]
    correct, false, missed = np.array(matches, np.int64).reshape(-1, 3).T
    with np.errstate(invalid="ignore"):
        f1 = 2 * correct / (2 * correct + false + missed)
    columns = {"correct": correct, "false": false, "missed": missed, "image_f1": f1}
    return of_examples(examples, columns)


def _gallery(examples, classes, predictions, chosen, matches):
    images = examples.pixels[np.asarray(chosen)]
    pictures = []
    for image, index in zip(images, chosen, strict=True):
        correct, false, missed = matches[index]
        boxes, scores, labels = coco_metrics.image_predictions(predictions, index)
        true_boxes, true_labels = examples.boxes[index], examples.labels[index]
        drawn_boxes = [
            DrawnBox(true_boxes[n], classes[true_labels[n]], MISSED_COLOUR, True) for n in missed
        ]
        for colour, rows in ((CORRECT_COLOUR, correct), (FALSE_COLOUR, false)):
            drawn_boxes += [
                DrawnBox(boxes[n], f"{classes[labels[n]]} {scores[n]:.0%}", colour) for n in rows
            ]
        counts = f"{len(correct)} correct, {len(false)} false, {len(missed)} missed"
        pictures.append(
            (draw_boxes(image, drawn_boxes), f"{image_name(examples, index)}\n{counts}")
        )
    return plots.image_gallery(pictures)


def _legend():
    """Returns the legend of the colors of boxes, as HTML."""
    kinds = {
        "correct": (CORRECT_COLOUR, "solid"),
        "false": (FALSE_COLOUR, "solid"),
        "missed": (MISSED_COLOUR, "dashed"),
    }
    names = (
        f'<span style="border:.2em {style} rgb{colour};padding:0 .3em;margin-right:1em">{name}'
        "</span>"
        for name, (colour, style) in kinds.items()
    )
    return f"<p>{' '.join(names)}</p>"


def _draw_outline(pen, edges, drawn_box, line_width):
    left, top, right, bottom = edges
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if not drawn_box.dashed:
        pen.rectangle((left, top, right, bottom), outline=drawn_box.colour, width=line_width)
        return
    for start in range(left, right + 1, 2 * _DASH_LENGTH):
        stop = min(start + _DASH_LENGTH, right)
        for y in (top, bottom - line_width + 1):
            pen.rectangle((start, y, stop, y + line_width - 1), fill=drawn_box.colour)
    for start in range(top, bottom + 1, 2 * _DASH_LENGTH):
        stop = min(start + _DASH_LENGTH, bottom)
        for x in (left, right - line_width + 1):
            pen.rectangle((x, start, x + line_width - 1, stop), fill=drawn_box.colour)


def _draw_caption(pen, size, edges, drawn_box, font):
    """Writes the text of a box above it, or inside where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), drawn_box.text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0, min(edges[0], size[0] - width))
    y = edges[1] - height if edges[1] >= height else max(0, edges[1])
    pen.rectangle((x, y, x + width, y + height), fill=drawn_box.colour)
    is_bright = np.dot(drawn_box.colour, (0.299, 0.587, 0.114)) > 140  # luma of ITU-R BT.601
    text_colour = (0, 0, 0) if is_bright else (255, 255, 255)
    pen.text((x + 2 - left, y + 2 - top), drawn_box.text, fill=text_colour, font=font)


def detection_warnings(figures) -> list[str]:
    """Returns a warning if the average precision is close to 0."""
    if figures["ap"] >= MIN_AP:
        return []
    return [
        f"the average precision is only {format_value('ap', figures['ap'])}; train for more "
        "epochs, on more images, or with another learning rate"
    ]
