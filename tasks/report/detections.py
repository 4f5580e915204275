"""Pictures of detections: boxes drawn into images, and the sections of a report.

Examples are anything with `boxes`, `labels` and `ignored`, and with `pixels`, images that an
array of indices selects; answers are what `boxes.figures` takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.report import bands, overlays, page, plots
from tasks.report import boxes as measures
from tasks.report.words import image_name, number, unseen
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

RIGHT, FALSE, MISSED = (0, 114, 178), (213, 94, 0), (240, 228, 66)  # seen apart by everybody
SMALLEST_DRAWN = 256  # pixels; the longer side of a smaller image is brought to this or more
SHOWN_WORST, SHOWN_BEST = 12, 4
_DASH = 4  # pixels of a dashed line, and between its dashes
_LETTERS = 11  # pixels high


class Mark(NamedTuple):
    """A box to draw: where, what to write at its corner, in which colour, and whether dashed."""

    box: Sequence[float]
    text: str
    colour: tuple[int, int, int]
    dashed: bool = False


def drawn(image, marks: Iterable[Mark]):
    """Returns an image with boxes in it, enlarged by a whole number if it is small.

    Args:
        image: uint8 `(height, width, channels)`, of which `bands.rgb` are shown.
        marks: boxes in pixels of the image; the last lies on top.

    Returns:
        uint8 `(height, width, 3)`, or a multiple of that size.
    """
    image = bands.rgb(image)
    times = max(1, -(-SMALLEST_DRAWN // max(image.shape[:2])))
    picture = Image.fromarray(image.repeat(times, 0).repeat(times, 1))
    pen = ImageDraw.Draw(picture)
    thick = max(2, round(max(picture.size) / 320))
    font = ImageFont.load_default(max(_LETTERS, max(picture.size) // 45))
    for mark in marks:
        # A box whose numbers are wild may be drawn anywhere, but in finite time.
        edges = np.clip(np.asarray(mark.box, "float64") * times, -1, max(picture.size) + 1)
        _outline(pen, np.rint(edges).astype(int).tolist(), mark, thick)
        if mark.text:
            _tag(pen, picture.size, edges, mark, font)
    return np.asarray(picture)


def of_classes(boxes, scores, labels, classes: Sequence[str]) -> list[Mark]:
    """Returns what is drawn of a model's answers to an image: each class in its own colour.

    Args:
        boxes, scores, labels: of the answers to show, the best first.
        classes: the names of all.
    """
    tones = overlays.colours([f"class {name}" for name in classes]).tolist()  # none is ground
    marks = [
        Mark(box, f"{classes[label]} {score:.0%}", tuple(tones[label]))
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]
    return marks[::-1]


def compared(examples, answers, index: int, least: float) -> tuple[list[int], list[int], list[int]]:
    """Tells the right answers to an image from the false ones, and what was missed.

    Answers are taken in the order of their scores; each finds the object of its class that it
    overlaps most, by half or more, of those that are not found yet.

    Args:
        examples, answers: of all images.
        index: of the image.
        least: score of the answers to look at.

    Returns:
        Positions in `boxes.answered` that are right and that are false, and positions in
        the labels of what was missed.
    """
    boxes, scores, classes = measures.answered(answers, index)
    labels, ignored = examples.labels[index], examples.ignored[index]
    shared = measures.overlaps(boxes, examples.boxes[index])
    found, right, false = set(), [], []
    for place in np.flatnonzero(scores >= least).tolist():
        fits = (labels == classes[place]) & (shared[place] >= measures.VOC_OVERLAP)
        free = [n for n in np.flatnonzero(fits & ~ignored).tolist() if n not in found]
        if free:
            found.add(max(free, key=lambda n: shared[place, n]))
            right.append(place)
        elif not (fits & ignored).any():
            false.append(place)
    missed = [n for n in np.flatnonzero((labels >= 0) & ~ignored).tolist() if n not in found]
    return right, false, missed


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    tested: int,
    taught: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `boxes.judged`.
        tested, taught, copies: as `words.unseen` takes them.
    """
    images = "1 test image" if tested == 1 else f"{tested:,} test images"
    return (
        f"{model} finds the objects in {images} of {dataset} with an average precision (AP) of "
        f"{number('ap', figures['ap'])}, and of {number('ap', figures['ap50'])} where boxes need "
        f"to overlap by half only; {unseen(tested, taught, copies)}."
    )


def sections(examples, classes: Sequence[str], answers) -> list[tuple[str, str]]:
    """Returns sections on a model that finds objects.

    Args:
        examples: the images with their true boxes.
        classes: the names of the classes.
        answers: the model's, to all of them.
    """
    least = measures.best_threshold(examples, answers, len(classes))
    rows = measures.per_class(examples, answers, len(classes), least=least)
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    said = (
        f"<p>Precision, recall and the pictures below count answers with a score of {least:.2f} "
        "or more, for which F1 is best.</p>"
    )
    found = [("Classes", page.table(rows, list(rows[0])) + said)]
    judged = [compared(examples, answers, n, least) for n in range(len(examples.labels))]
    wrong = np.array([len(false) + len(missed) for _, false, missed in judged])
    right = np.array([len(right) for right, _, _ in judged])
    order = np.lexsort((right, -wrong))
    groups = {
        "Worst images": [n for n in order if wrong[n]][:SHOWN_WORST],
        "Best images": [n for n in np.argsort(-right, kind="stable") if not wrong[n]],
    }
    groups["Best images"] = [n for n in groups["Best images"] if right[n]][:SHOWN_BEST]
    for title, chosen in groups.items():
        if chosen:
            shown = _gallery(examples, classes, answers, chosen, judged)
            found.append((title, _legend() + shown))
    return found


def _gallery(examples, classes, answers, chosen, judged):
    images = examples.pixels[np.asarray(chosen)]
    pictures = []
    for image, index in zip(images, chosen, strict=True):
        right, false, missed = judged[index]
        boxes, scores, labels = measures.answered(answers, index)
        marks = [
            Mark(examples.boxes[index][n], classes[examples.labels[index][n]], MISSED, True)
            for n in missed
        ]
        for colour, places in ((RIGHT, right), (FALSE, false)):
            marks += [
                Mark(boxes[n], f"{classes[labels[n]]} {scores[n]:.0%}", colour) for n in places
            ]
        counts = f"{len(right)} right, {len(false)} false, {len(missed)} missed"
        pictures.append((drawn(image, marks), f"{image_name(examples, index)}\n{counts}"))
    return plots.gallery(pictures)


def _legend():
    """Returns the key to the colours of boxes, as HTML."""
    kinds = {"right": (RIGHT, "solid"), "false": (FALSE, "solid"), "missed": (MISSED, "dashed")}
    names = (
        f'<span style="border:.2em {style} rgb{colour};padding:0 .3em;margin-right:1em">{name}'
        "</span>"
        for name, (colour, style) in kinds.items()
    )
    return f"<p>{' '.join(names)}</p>"


def _outline(pen, edges, mark, thick):
    left, top, right, bottom = edges
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if not mark.dashed:
        pen.rectangle((left, top, right, bottom), outline=mark.colour, width=thick)
        return
    for start in range(left, right + 1, 2 * _DASH):
        stop = min(start + _DASH, right)
        for y in (top, bottom - thick + 1):
            pen.rectangle((start, y, stop, y + thick - 1), fill=mark.colour)
    for start in range(top, bottom + 1, 2 * _DASH):
        stop = min(start + _DASH, bottom)
        for x in (left, right - thick + 1):
            pen.rectangle((x, start, x + thick - 1, stop), fill=mark.colour)


def _tag(pen, size, edges, mark, font):
    """Writes the text of a mark above its box, or in it where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), mark.text, font=font)
    wide, tall = right - left + 4, bottom - top + 4
    x = max(0, min(edges[0], size[0] - wide))
    y = edges[1] - tall if edges[1] >= tall else max(0, edges[1])
    pen.rectangle((x, y, x + wide, y + tall), fill=mark.colour)
    bright = np.dot(mark.colour, (0.299, 0.587, 0.114)) > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    pen.text((x + 2 - left, y + 2 - top), mark.text, fill=ink, font=font)
