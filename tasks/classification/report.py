"""The sections of a report that show what a classifier said of the examples of its test split.

Examples are anything with `labels`, with `pixels`, images that an array of indices selects, and
with `title(index)`, what to call one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.classification import calibration, metrics, multilabel
from tasks.report import confusion_plot, page, plots
from tasks.report.baselines import compare_to_baseline
from tasks.report.formatting import describe_test_images, format_value
from zoo.lazy import np

SHOWN_MISTAKES = 24
_MAX_LISTED_LABELS = 6  # labels of one kind under a picture


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
        num_test, num_train: examples of the test and of the training split.
        classes: how many there are.
        copies: near copies of training images among the test images.
    """
    seen = describe_test_images(num_test, num_train, copies)
    for name in ("accuracy", "map"):
        if rest := figures.get(f"deduplicated_{name}"):
            seen += f", and without these it is {format_value(name, rest)}"
    many = f"{num_test:,} test image{'' if num_test == 1 else 's'} of {dataset}"
    if "map" in figures:
        return (
            f"{model} finds the labels of {many} with a mean average precision of "
            f"{format_value('map', figures['map'])} over {classes} classes; {seen}."
        )
    constant = ""
    if share := figures.get("majority_share"):
        constant = f" (always the most frequent one would be {share:.1%})"
    return (
        f"{model} names {figures['accuracy']:.1%} of {many} right, out of {classes} classes"
        f"{constant}; {seen}."
    )


def single_label_sections(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns sections on a classifier that names one class for each image.

    Args:
        examples: the images with their true class numbers, `labels` of shape `(count,)`.
        classes: the names of the classes, in the order of the logits.
        logits: `(count, classes)`.
    """
    labels, predicted = examples.labels, metrics.predictions(logits)
    matrix = metrics.confusion_matrix(labels, predicted, len(classes))
    sections = [
        ("Classes", _table(classes, metrics.per_class_metrics(matrix))),
        ("Confusion matrix", confusion_plot.confusion_matrix(matrix, classes)),
        (
            "Calibration",
            calibration.reliability_diagram(metrics.confidences(logits), predicted == labels),
        ),
    ]
    worst = metrics.worst_mistakes(logits, labels, SHOWN_MISTAKES)
    if len(worst):
        confidence = metrics.confidences(logits[worst])
        captions = [
            f"{classes[labels[index]]}\n"
            f"{_prediction_caption(classes, predicted[index], confidence[place])}"
            f"\n{examples.title(index)}"
            for place, index in enumerate(worst)
        ]
        pictures = zip(examples.pixels[worst], captions, strict=True)
        sections.append(("Worst mistakes", plots.image_gallery(pictures)))
    return sections


def multi_label_sections(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns sections on a classifier that gives each image any number of labels.

    Args:
        examples: the images with their true `labels`, 1 and 0 of shape `(count, classes)`.
        classes: the names of the classes, in the order of the logits.
        logits: `(count, classes)`.
    """
    labels = np.asarray(examples.labels).astype(bool)
    sections = [("Classes", _table(classes, multilabel.per_class_metrics(logits, labels)))]
    worst = multilabel.worst_mistakes(logits, labels, SHOWN_MISTAKES)
    if len(worst):
        predicted = np.asarray(logits)[worst] > 0
        captions = [
            f"{_label_differences(classes, *pair)}\n{examples.title(index)}"
            for index, *pair in zip(worst, labels[worst], predicted, strict=True)
        ]
        pictures = zip(examples.pixels[worst], captions, strict=True)
        sections.append(("Worst mistakes", plots.image_gallery(pictures)))
    return sections


def _table(classes, rows):
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    return page.table(rows, list(rows[0]))


def _prediction_caption(classes, number, confidence):
    return f"taken for {classes[number]}, {confidence:.0%}" if number >= 0 else "no answer: NaN"


def _label_differences(classes, present, predicted):
    """Returns the caption of an image: its labels, those that were missed, those made up."""
    groups = {"": present, "missed: ": present & ~predicted, "not there: ": predicted & ~present}
    lines = [
        title + _listed([classes[index] for index in np.flatnonzero(group)])
        for title, group in groups.items()
        if group.any() or not title
    ]
    return "\n".join(lines)


def _listed(names):
    more = f" and {len(names) - _MAX_LISTED_LABELS} more" if len(names) > _MAX_LISTED_LABELS else ""
    return (", ".join(names[:_MAX_LISTED_LABELS]) or "no label") + more


def classification_warnings(figures, labels, classes: Sequence[str]) -> list[str]:
    """Compares a classifier with the answer that is the most frequent class of the test images.

    Where an image has several labels, mean average precision is compared with that of a ranking
    by chance, which is the mean share of the images that have a label.

    Args:
        figures: those of `metrics.metrics_with_intervals`.
        labels: of the test images, `(count,)`, or multi-hot `(count, classes)`.
        classes: their names.

    Returns:
        At most one line.
    """
    labels = np.asarray(labels)
    if "map" in figures:
        shares = labels.mean(axis=0)
        chance = float(shares[shares > 0].mean()) if (shares > 0).any() else 0.0
        answer = f"a ranking by chance ({format_value('map', chance)})"
        return compare_to_baseline("map", "mean average precision", figures, chance, answer)
    counts = np.bincount(labels, minlength=len(classes))
    share = float(counts.max() / counts.sum())
    answer = f"always answering {classes[counts.argmax()]} ({format_value('accuracy', share)})"
    return compare_to_baseline("accuracy", "accuracy", figures, share, answer)
