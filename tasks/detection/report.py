"""Pictures of detections: boxes drawn into images, and the sections of a report.

Examples are anything with `boxes`, `labels` and `ignored`, and with `pixels`, images that an
array of indices selects; answers are what `metrics.detection_metrics` takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.detection import metrics as metrics
from tasks.report import image_channels, page, palette, plots
from tasks.report.formatting import describe_test_images, format_value, image_name
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

CORRECT_COLOUR, FALSE_COLOUR, MISSED_COLOUR = (
    (0, 114, 178),
    (213, 94, 0),
    (240, 228, 66),
)  # seen apart by everybody
MIN_AP = 0.01  # average precision below which a detector finds next to nothing
MIN_DRAWN_SIZE = 256  # pixels; the longer side of a smaller image is brought to this or more
NUM_WORST, NUM_BEST = 12, 4
_DASH_LENGTH = 4  # pixels of a dashed line, and between its dashes
_MIN_FONT_SIZE = 11  # pixels high


class DrawnBox(NamedTuple):
    """A box to draw: where, what to write at its corner, in which colour, and whether dashed."""

    box: Sequence[float]
    text: str
    colour: tuple[int, int, int]
    dashed: bool = False


def draw_boxes(image, drawn_boxes: Iterable[DrawnBox]):
    """Returns an image with boxes in it, enlarged by a whole number if it is small.

    Args:
        image: uint8 `(height, width, channels)`, of which `image_channels.to_rgb` are shown.
        drawn_boxes: boxes in pixels of the image; the last lies on top.

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
        # A box whose numbers are wild may be drawn anywhere, but in finite time.
        edges = np.clip(np.asarray(drawn_box.box, "float64") * times, -1, max(picture.size) + 1)
        _draw_outline(pen, np.rint(edges).astype(int).tolist(), drawn_box, line_width)
        if drawn_box.text:
            _draw_caption(pen, picture.size, edges, drawn_box, font)
    return np.asarray(picture)


def boxes_of_classes(boxes, scores, labels, classes: Sequence[str]) -> list[DrawnBox]:
    """Returns what is drawn of a model's answers to an image: each class in its own colour.

    Args:
        boxes, scores, labels: of the answers to show, the best first.
        classes: the names of all.
    """
    tones = palette.class_colours([f"class {name}" for name in classes]).tolist()  # none is ground
    drawn_boxes = [
        DrawnBox(box, f"{classes[label]} {score:.0%}", tuple(tones[label]))
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]
    return drawn_boxes[::-1]


def match_predictions(
    examples, predictions, index: int, score_threshold: float
) -> tuple[list[int], list[int], list[int]]:
    """Tells the right answers to an image from the false ones, and what was missed.

    Answers are taken in the order of their scores; each finds the object of its class that it
    overlaps most, by half or more, of those that are not found yet.

    Args:
        examples, predictions: of all images.
        index: of the image.
        score_threshold: score of the answers to look at.

    Returns:
        Positions in `metrics.image_predictions` that are right and that are false, and positions in
        the labels of what was missed.
    """
    boxes, scores, classes = metrics.image_predictions(predictions, index)
    labels, ignored = examples.labels[index], examples.ignored[index]
    ious = metrics.pairwise_iou(boxes, examples.boxes[index])
    found, correct, false = set(), [], []
    for place in np.flatnonzero(scores >= score_threshold).tolist():
        fits = (labels == classes[place]) & (ious[place] >= metrics.VOC_IOU_THRESHOLD)
        free = [n for n in np.flatnonzero(fits & ~ignored).tolist() if n not in found]
        if free:
            found.add(max(free, key=lambda n: ious[place, n]))
            correct.append(place)
        elif not (fits & ignored).any():
            false.append(place)
    missed = [n for n in np.flatnonzero((labels >= 0) & ~ignored).tolist() if n not in found]
    return correct, false, missed


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    num_test: int,
    num_train: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `metrics.metrics_with_interval`.
        num_test, num_train, copies: as `formatting.describe_test_images` takes them.
    """
    images = "1 test image" if num_test == 1 else f"{num_test:,} test images"
    return (
        f"{model} finds the objects in {images} of {dataset} with an average precision (AP) of "
        f"{format_value('ap', figures['ap'])}, and of {format_value('ap', figures['ap50'])} where "
        "boxes need "
        f"to overlap by half only; {describe_test_images(num_test, num_train, copies)}."
    )


def sections(examples, classes: Sequence[str], predictions) -> list[tuple[str, str]]:
    """Returns sections on a model that finds objects.

    Args:
        examples: the images with their true boxes.
        classes: the names of the classes.
        predictions: the model's, to all of them.
    """
    score_threshold = metrics.best_score_threshold(examples, predictions, len(classes))
    rows = metrics.per_class_metrics(
        examples, predictions, len(classes), score_threshold=score_threshold
    )
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    threshold_note = (
        "<p>Precision, recall and the pictures below count answers with a score of "
        f"{score_threshold:.2f} "
        "or more, for which F1 is best.</p>"
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
            shown = _gallery(examples, classes, predictions, chosen, matches)
            found.append((title, _legend() + shown))
    return found


def _gallery(examples, classes, predictions, chosen, matches):
    images = examples.pixels[np.asarray(chosen)]
    pictures = []
    for image, index in zip(images, chosen, strict=True):
        correct, false, missed = matches[index]
        boxes, scores, labels = metrics.image_predictions(predictions, index)
        drawn_boxes = [
            DrawnBox(
                examples.boxes[index][n], classes[examples.labels[index][n]], MISSED_COLOUR, True
            )
            for n in missed
        ]
        for colour, places in ((CORRECT_COLOUR, correct), (FALSE_COLOUR, false)):
            drawn_boxes += [
                DrawnBox(boxes[n], f"{classes[labels[n]]} {scores[n]:.0%}", colour) for n in places
            ]
        counts = f"{len(correct)} right, {len(false)} false, {len(missed)} missed"
        pictures.append(
            (draw_boxes(image, drawn_boxes), f"{image_name(examples, index)}\n{counts}")
        )
    return plots.image_gallery(pictures)


def _legend():
    """Returns the key to the colours of boxes, as HTML."""
    kinds = {
        "right": (CORRECT_COLOUR, "solid"),
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
    left, top, correct, bottom = edges
    correct, bottom = max(left, correct - 1), max(top, bottom - 1)
    if not drawn_box.dashed:
        pen.rectangle((left, top, correct, bottom), outline=drawn_box.colour, width=line_width)
        return
    for start in range(left, correct + 1, 2 * _DASH_LENGTH):
        stop = min(start + _DASH_LENGTH, correct)
        for y in (top, bottom - line_width + 1):
            pen.rectangle((start, y, stop, y + line_width - 1), fill=drawn_box.colour)
    for start in range(top, bottom + 1, 2 * _DASH_LENGTH):
        stop = min(start + _DASH_LENGTH, bottom)
        for x in (left, correct - line_width + 1):
            pen.rectangle((x, start, x + line_width - 1, stop), fill=drawn_box.colour)


def _draw_caption(pen, size, edges, drawn_box, font):
    """Writes the text of a mark above its box, or in it where there is no room above."""
    left, top, correct, bottom = pen.textbbox((0, 0), drawn_box.text, font=font)
    wide, tall = correct - left + 4, bottom - top + 4
    x = max(0, min(edges[0], size[0] - wide))
    y = edges[1] - tall if edges[1] >= tall else max(0, edges[1])
    pen.rectangle((x, y, x + wide, y + tall), fill=drawn_box.colour)
    bright = np.dot(drawn_box.colour, (0.299, 0.587, 0.114)) > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    pen.text((x + 2 - left, y + 2 - top), drawn_box.text, fill=ink, font=font)


def detection_warnings(figures) -> list[str]:
    """Says, in at most one line, where a detector finds next to nothing."""
    if figures["ap"] >= MIN_AP:
        return []
    return [
        "the model finds next to nothing: its average precision is "
        f"{format_value('ap', figures['ap'])}; "
        "it needs more epochs, more images, or another learning rate"
    ]
