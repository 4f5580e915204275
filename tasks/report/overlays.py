"""Pictures of masks: their colours, masks over images, and the sections of a report.

Examples are anything with `pixels` and `labels`, images and masks that an array of indices
selects.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence

from tasks.report import bands, masks, page, plots
from tasks.report.words import escape, image_name, number, unseen
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

GROUNDS = ("ground", "background")  # classes that are shown black, and not over an image
GOLDEN = 0.618034  # part of the circle of hues between one class and the next
IGNORED_COLOUR = (128, 128, 128)
OPACITY = 0.55
SHOWN_WORST, SHOWN_BEST = 8, 4


def colours(classes: Sequence[str]):
    """Returns a colour for each class, uint8 `(classes, 3)`, that only its position decides.

    A class called as one of `GROUNDS` is black.
    """
    tones = []
    for place, name in enumerate(classes):
        bright = (1.0, 0.75, 0.9)[place % 3]
        tone = colorsys.hsv_to_rgb(place * GOLDEN % 1, (0.85, 1.0, 0.6)[place % 3], bright)
        tones.append((0, 0, 0) if name in GROUNDS else tone)
    return np.rint(255 * np.array(tones)).astype("uint8")


def picture(labels, classes: Sequence[str]):
    """Returns a mask, `(height, width)`, as an indexed picture of Pillow.

    Its indices are the labels, so that a saved one is a mask to learn from.
    """
    indexed = Image.fromarray(np.asarray(labels).astype("uint8"), mode="P")
    palette = np.full((256, 3), IGNORED_COLOUR, "uint8")
    palette[: len(classes)] = colours(classes)
    indexed.putpalette(palette.tobytes())
    return indexed


def overlay(image, labels, classes: Sequence[str]):
    """Returns an image with its mask laid over it, and a line round each region.

    Args:
        image: uint8 `(height, width, channels)`, of which `bands.rgb` are shown.
        labels: whole numbers `(height, width)`; where they are `masks.IGNORED` the image is grey.
        classes: the names of all; the ground is not covered.

    Returns:
        uint8 `(height, width, 3)`.
    """
    image, labels = bands.rgb(image), np.asarray(labels)
    palette = np.full((256, 3), IGNORED_COLOUR, "float32")
    palette[: len(classes)] = colours(classes)
    opacity = np.full(256, OPACITY, "float32")
    opacity[[place for place, name in enumerate(classes) if name in GROUNDS]] = 0
    shown = opacity[labels][..., None]
    shown = np.where(_borders(labels)[..., None] & (shown > 0), 1, shown)
    return np.rint((1 - shown) * image + shown * palette[labels]).astype("uint8")


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    tested: int,
    taught: int,
    classes: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `masks.judged`.
        tested, taught, copies: as `words.unseen` takes them.
        classes: how many there are.
    """
    images = "1 test image" if tested == 1 else f"{tested:,} test images"
    return (
        f"{model} finds what is where in {images} of {dataset} with a mean IoU of "
        f"{number('miou', figures['miou'])} over {classes} classes, and names "
        f"{number('accuracy', figures['pixel_accuracy'])} of the pixels right; "
        f"{unseen(tested, taught, copies)}."
    )


def sections(
    examples, classes: Sequence[str], count: masks.Count, predict: Callable
) -> list[tuple[str, str]]:
    """Returns sections on a model that labels pixels.

    Args:
        examples: the images with their true masks.
        classes: the names of the classes.
        count: what was counted of all examples, in their order.
        predict: takes indices of examples and returns their predicted labels, `(some, height,
            width)`; it is asked for those that are shown.
    """
    rows = masks.per_class(count.matrix)
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    found = [
        ("Classes", page.table(rows, list(rows[0]))),
        ("Confusion of pixels", plots.confusion(count.matrix, classes)),
    ]
    scores = masks.of_images(count.tallies)
    order = np.argsort(scores, kind="stable")  # NaN comes last
    order = order[: len(order) - int(np.isnan(scores).sum())]
    best = order[::-1][:SHOWN_BEST]
    worst = order[: max(0, len(order) - len(best))][:SHOWN_WORST]
    for title, chosen in (("Worst images", worst), ("Best images", best)):
        if len(chosen):
            shown = _gallery(examples, classes, chosen, scores, predict)
            found.append((title, legend(classes) + shown))
    return found


def legend(classes: Sequence[str]) -> str:
    """Returns the key to the colours of classes, as HTML."""
    tones = zip(classes, colours(classes).tolist(), strict=True)
    names = (
        f'<span style="border-left:.8em solid rgb{tuple(tone)};padding-left:.3em;'
        f'margin-right:1em">{escape(name)}</span>'
        for name, tone in tones
        if name not in GROUNDS
    )
    return f"<p>{' '.join(names)}</p>"


def _gallery(examples, classes, chosen, scores, predict):
    """Shows each image twice, with its true mask and with the predicted one."""
    pictures = []
    chosen = np.asarray(chosen)
    groups = (examples.pixels[chosen], examples.labels[chosen], np.asarray(predict(chosen)))
    for index, image, truth, said in zip(chosen, *groups, strict=True):
        score = number("miou", float(scores[index]))
        pictures.append((overlay(image, truth, classes), f"{image_name(examples, index)}\ntruth"))
        pictures.append((overlay(image, said, classes), f"predicted\nmean IoU {score}"))
    return plots.gallery(pictures)


def _borders(labels):
    """Returns which pixels have another label than the one to the right or below."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders
