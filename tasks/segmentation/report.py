"""Pictures of masks: their colours, masks over images, and the sections of a report.

Examples are anything with `pixels` and `labels`, images and masks that an array of indices
selects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tasks.report import confusion_plot, image_channels, page, palette, plots
from tasks.report.baselines import compare_to_baseline
from tasks.report.formatting import describe_test_images, escape, format_value, image_name
from tasks.segmentation import metrics
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

IGNORED_COLOUR = (128, 128, 128)
OPACITY = 0.55
NUM_WORST, NUM_BEST = 8, 4


def indexed_mask(labels, classes: Sequence[str]):
    """Returns a mask, `(height, width)`, as an indexed picture of Pillow.

    Its indices are the labels, so that a saved one is a mask to learn from.
    """
    indexed = Image.fromarray(np.asarray(labels).astype("uint8"), mode="P")
    palette = np.full((256, 3), IGNORED_COLOUR, "uint8")
    palette[: len(classes)] = palette.class_colours(classes)
    indexed.putpalette(palette.tobytes())
    return indexed


def overlay(image, labels, classes: Sequence[str]):
    """Returns an image with its mask laid over it, and a line round each region.

    Args:
        image: uint8 `(height, width, channels)`, of which `image_channels.to_rgb` are shown.
        labels: whole numbers `(height, width)`; where they are `metrics.IGNORED` the image is grey.
        classes: the names of all; the ground is not covered.

    Returns:
        uint8 `(height, width, 3)`.
    """
    image, labels = image_channels.to_rgb(image), np.asarray(labels)
    palette = np.full((256, 3), IGNORED_COLOUR, "float32")
    palette[: len(classes)] = palette.class_colours(classes)
    opacity = np.full(256, OPACITY, "float32")
    opacity[[place for place, name in enumerate(classes) if name in palette.BACKGROUND_NAMES]] = 0
    shown = opacity[labels][..., None]
    shown = np.where(_borders(labels)[..., None] & (shown > 0), 1, shown)
    return np.rint((1 - shown) * image + shown * palette[labels]).astype("uint8")


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    num_test: int,
    num_train: int,
    classes: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `metrics.metrics_with_intervals`.
        num_test, num_train, copies: as `formatting.describe_test_images` takes them.
        classes: how many there are.
    """
    images = "1 test image" if num_test == 1 else f"{num_test:,} test images"
    return (
        f"{model} finds what is where in {images} of {dataset} with a mean IoU of "
        f"{format_value('miou', figures['miou'])} over {classes} classes, and names "
        f"{format_value('accuracy', figures['pixel_accuracy'])} of the pixels right; "
        f"{describe_test_images(num_test, num_train, copies)}."
    )


def sections(
    examples, classes: Sequence[str], count: metrics.ConfusionCounter, predict: Callable
) -> list[tuple[str, str]]:
    """Returns sections on a model that labels pixels.

    Args:
        examples: the images with their true masks.
        classes: the names of the classes.
        count: what was counted of all examples, in their order.
        predict: takes indices of examples and returns their predicted labels, `(some, height,
            width)`; it is asked for those that are shown.
    """
    rows = metrics.per_class_metrics(count.matrix)
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    found = [
        ("Classes", page.table(rows, list(rows[0]))),
        ("Confusion of pixels", confusion_plot.confusion_matrix(count.matrix, classes)),
    ]
    scores = metrics.miou_per_image(count.counts_per_image)
    order = np.argsort(scores, kind="stable")  # NaN comes last
    order = order[: len(order) - int(np.isnan(scores).sum())]
    best = order[::-1][:NUM_BEST]
    worst = order[: max(0, len(order) - len(best))][:NUM_WORST]
    for title, chosen in (("Worst images", worst), ("Best images", best)):
        if len(chosen):
            shown = _gallery(examples, classes, chosen, scores, predict)
            found.append((title, legend(classes) + shown))
    return found


def legend(classes: Sequence[str]) -> str:
    """Returns the key to the colours of classes, as HTML."""
    tones = zip(classes, palette.class_colours(classes).tolist(), strict=True)
    names = (
        f'<span style="border-left:.8em solid rgb{tuple(tone)};padding-left:.3em;'
        f'margin-right:1em">{escape(name)}</span>'
        for name, tone in tones
        if name not in palette.BACKGROUND_NAMES
    )
    return f"<p>{' '.join(names)}</p>"


def _gallery(examples, classes, chosen, scores, predict):
    """Shows each image twice, with its true mask and with the predicted one."""
    pictures = []
    chosen = np.asarray(chosen)
    groups = (examples.pixels[chosen], examples.labels[chosen], np.asarray(predict(chosen)))
    for index, image, target, predicted in zip(chosen, *groups, strict=True):
        score = format_value("miou", float(scores[index]))
        pictures.append((overlay(image, target, classes), f"{image_name(examples, index)}\ntruth"))
        pictures.append((overlay(image, predicted, classes), f"predicted\nmean IoU {score}"))
    return plots.image_gallery(pictures)


def _borders(labels):
    """Returns which pixels have another label than the one to the right or below."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def segmentation_warnings(figures, matrix, classes: Sequence[str]) -> list[str]:
    """Compares a segmenter with the answer that is the most frequent class of all pixels.

    Args:
        figures: those of `metrics.metrics_with_intervals`.
        matrix: pixels, `(classes, classes)`: a row is a true class, a column a prediction.
        classes: their names.

    Returns:
        At most one line.
    """
    class_pixels = np.asarray(matrix).sum(axis=1)
    constant = np.zeros_like(matrix)
    constant[:, class_pixels.argmax()] = class_pixels
    best = metrics.segmentation_metrics(constant)["miou"]
    answer = f"{classes[class_pixels.argmax()]} for every pixel ({format_value('miou', best)})"
    return compare_to_baseline("miou", "mean IoU", figures, best, answer)
