"""The report of a segmenter: color-coded masks, overlays, sections and warnings.

Examples are any object with `pixels` and `labels`, images and masks that are indexed by arrays of
indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tasks.report import (
    confidence_intervals,
    confusion_plot,
    image_channels,
    page,
    palette,
    plots,
)
from tasks.report.baselines import compare_to_baseline
from tasks.report.evaluation_report import EvaluatedModel
from tasks.report.formatting import escape, format_value, image_name
from tasks.report.image_results import ImageResults, of_examples
from tasks.segmentation import metrics
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

IGNORED_COLOUR = (128, 128, 128)
OPACITY = 0.55
NUM_WORST, NUM_BEST = 8, 4


def indexed_mask(labels, classes: Sequence[str]):
    """Returns a mask `(height, width)` as a Pillow image with a palette.

    Its indices are the labels, so a saved mask can be used for training.
    """
    indexed = Image.fromarray(np.asarray(labels).astype("uint8"), mode="P")
    colours = np.full((256, 3), IGNORED_COLOUR, "uint8")
    colours[: len(classes)] = palette.class_colours(classes)
    indexed.putpalette(colours.tobytes())
    return indexed


def overlay(image, labels, classes: Sequence[str]):
    """Returns an image with a translucent mask and an opaque outline around each region.

    Args:
        image: uint8 `(height, width, channels)`, shown as `image_channels.to_rgb` of it.
        labels: Integers `(height, width)`. Pixels of `IGNORE_LABEL` are covered with gray.
        classes: The class names. The background is not covered.

    Returns:
        uint8 `(height, width, 3)`.
    """
    image, labels = image_channels.to_rgb(image), np.asarray(labels)
    colours = np.full((256, 3), IGNORED_COLOUR, "float32")
    colours[: len(classes)] = palette.class_colours(classes)
    opacity = np.full(256, OPACITY, "float32")
    opacity[[label for label, name in enumerate(classes) if name in palette.BACKGROUND_NAMES]] = 0
    alpha = opacity[labels][..., None]
    alpha = np.where(_borders(labels)[..., None] & (alpha > 0), 1, alpha)
    return np.rint((1 - alpha) * image + alpha * colours[labels]).astype("uint8")


def lead(evaluated: EvaluatedModel, figures: Mapping[str, float], num_classes: int) -> str:
    """Returns a sentence that summarizes the result.

    Args:
        evaluated: What was evaluated.
        figures: The metrics, from `metrics.metrics_with_intervals`.
        num_classes: The number of classes.
    """
    return (
        f"{evaluated.model} segments {evaluated.test_images} with a mean IoU of "
        f"{format_value('miou', figures['miou'])} over {num_classes} classes and a pixel accuracy "
        f"of {format_value('accuracy', figures['pixel_accuracy'])}; "
        f"{evaluated.training_clause(figures)}."
    )


def sections(
    examples, classes: Sequence[str], counter: metrics.ConfusionCounter, predict: Callable
) -> list[tuple[str, str]]:
    """Returns the sections `(title, HTML)` of a segmenter.

    Args:
        examples: The images with their true masks.
        classes: The class names.
        counter: The pixel counts of all examples, in their order.
        predict: A function of indices of examples that returns their predicted labels, `(indices,
            height, width)`. It is called for the images that are shown.
    """
    rows = metrics.per_class_metrics(counter.matrix)
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    found = [
        ("Classes", page.table(rows, list(rows[0]))),
        ("Confusion matrix of pixels", confusion_plot.confusion_matrix(counter.matrix, classes)),
    ]
    scores = metrics.miou_per_image(counter.counts_per_image)
    order = np.argsort(scores, kind="stable")  # NaN comes last
    order = order[: len(order) - int(np.isnan(scores).sum())]
    best = order[::-1][:NUM_BEST]
    worst = order[: max(0, len(order) - len(best))][:NUM_WORST]
    for title, indices in (("Worst images", worst), ("Best images", best)):
        if len(indices):
            gallery = _gallery(examples, classes, indices, scores, predict)
            found.append((title, legend(classes) + gallery))
    return found


def legend(classes: Sequence[str]) -> str:
    """Returns the legend of the class colors, as HTML."""
    colours = zip(classes, palette.class_colours(classes).tolist(), strict=True)
    names = (
        f'<span style="border-left:.8em solid rgb{tuple(colour)};padding-left:.3em;'
        f'margin-right:1em">{escape(name)}</span>'
        for name, colour in colours
        if name not in palette.BACKGROUND_NAMES
    )
    return f"<p>{' '.join(names)}</p>"


def image_results(examples, counter: metrics.ConfusionCounter) -> ImageResults:
    """Returns the results on each image: its mean IoU over its classes and its pixel accuracy.

    Args:
        examples: The images.
        counter: The pixel counts of all images, in their order.
    """
    counts = counter.counts_per_image
    columns = {
        "image_miou": metrics.miou_per_image(counts),
        "image_pixel_accuracy": metrics.pixel_accuracy_per_image(counts),
    }
    return of_examples(examples, columns)


def class_figures(counter: metrics.ConfusionCounter, classes: Sequence[str], *, seed: int):
    """Returns the metrics of each class, with a 95% bootstrap interval of the IoU.

    Args:
        counter: The pixel counts of all images.
        classes: The class names.
        seed: The seed of the bootstrap.
    """
    rows = metrics.per_class_metrics(counter.matrix)
    ends = metrics.class_iou_intervals(counter.counts_per_image, seed=seed)
    return [
        {"class": name, **confidence_intervals.with_interval("iou", row.pop("iou"), end), **row}
        for name, row, end in zip(classes, rows, ends, strict=True)
    ]


def _gallery(examples, classes, indices, scores, predict):
    """Returns a gallery of each image with its ground truth and with its prediction."""
    overlays = []
    indices = np.asarray(indices)
    groups = (examples.pixels[indices], examples.labels[indices], np.asarray(predict(indices)))
    for index, image, target, predicted in zip(indices, *groups, strict=True):
        score = format_value("miou", float(scores[index]))
        title = f"{image_name(examples, index)}\nground truth"
        overlays.append((overlay(image, target, classes), title))
        overlays.append((overlay(image, predicted, classes), f"prediction\nmean IoU {score}"))
    return plots.image_gallery(overlays)


def _borders(labels):
    """Returns which pixels differ from their neighbor to the right or below, a bool array."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def segmentation_warnings(figures, matrix, classes: Sequence[str]) -> list[str]:
    """Returns a warning if a segmenter is not better than a constant prediction.

    The baseline predicts the most frequent class for every pixel.

    Args:
        figures: The metrics, from `metrics.metrics_with_intervals`.
        matrix: The confusion matrix of pixels, `(classes, classes)`.
        classes: The class names.

    Returns:
        At most one line.
    """
    class_pixels = np.asarray(matrix).sum(axis=1)
    majority = class_pixels.argmax()
    constant = np.zeros_like(matrix)
    constant[:, majority] = class_pixels
    miou = metrics.segmentation_metrics(constant)["miou"]
    baseline = f"predicting {classes[majority]} for every pixel ({format_value('miou', miou)})"
    return compare_to_baseline("miou", "mean IoU", figures, miou, baseline)
