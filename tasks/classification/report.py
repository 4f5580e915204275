"""The report of a classifier: lead sentence, sections on the test split, and warnings.

Examples are any object with `labels`, with `pixels`, which is indexed by arrays of indices, and
with `title(index)`, which returns the caption of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.classification import calibration, metrics, multilabel
from tasks.data import data_splits
from tasks.report import confusion_plot, page, plots
from tasks.report.baselines import compare_to_baseline
from tasks.report.evaluation_report import EvaluatedModel, EvaluationReport
from tasks.report.formatting import format_value
from zoo.lazy import np

SHOWN_MISTAKES = 24
_MAX_LISTED_LABELS = 6  # per line of a caption


def evaluation_report(data, logits, *, model: str, dataset: str, seed: int) -> EvaluationReport:
    """Returns the report of a classifier on its test split.

    Args:
        data: A `data_splits.DataSplits`.
        logits: Of the test images, `(count, classes)`.
        model, dataset: Their names.
        seed: The seed of the bootstrap.
    """
    labels, classes = data.test.labels, data.source.classes
    figures = metrics.metrics_with_intervals(logits, labels, seed=seed)
    figures |= metrics.deduplicated_metrics(logits, labels, data.copies)
    sections = multi_label_sections if data.source.multi_label else single_label_sections
    evaluated = EvaluatedModel(model, dataset, len(data.test), len(data.train), len(data.copies))
    return EvaluationReport(
        figures=figures,
        title=f"{model} on {dataset}",
        lead=lead(evaluated, figures, len(classes)),
        sections=sections(data.test, classes, logits),
        warnings=[*data_splits.class_notes(data), *data.warnings()],
        metric_warnings=classification_warnings(figures, labels, classes),
    )


def lead(evaluated: EvaluatedModel, figures: Mapping[str, float], num_classes: int) -> str:
    """Returns a sentence that summarizes the result.

    Args:
        evaluated: What was evaluated.
        figures: The metrics, from `metrics.metrics_with_intervals`.
        num_classes: The number of classes.
    """
    images = evaluated.training_images
    for name in ("accuracy", "map"):
        if deduplicated := figures.get(f"deduplicated_{name}"):
            images += f", and without these it is {format_value(name, deduplicated)}"
    if "map" in figures:
        return (
            f"{evaluated.model} predicts the labels of {evaluated.test_images} with a mean average "
            f"precision of {format_value('map', figures['map'])} over {num_classes} classes; "
            f"{images}."
        )
    baseline = ""
    if share := figures.get("majority_share"):
        baseline = f" (always predicting the most frequent class: {share:.1%})"
    return (
        f"{evaluated.model} classifies {figures['accuracy']:.1%} of {evaluated.test_images} "
        f"correctly, with {num_classes} classes{baseline}; {images}."
    )


def single_label_sections(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns the sections `(title, HTML)` of a single-label classifier.

    Args:
        examples: The images with their true classes, `labels` of shape `(count,)`.
        classes: The class names, in the order of the logits.
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
            f"{_prediction_caption(classes, predicted[index], confidence[rank])}"
            f"\n{examples.title(index)}"
            for rank, index in enumerate(worst)
        ]
        pictures = zip(examples.pixels[worst], captions, strict=True)
        sections.append(("Worst mistakes", plots.image_gallery(pictures)))
    return sections


def multi_label_sections(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns the sections `(title, HTML)` of a multi-label classifier.

    Args:
        examples: The images with their true `labels`, multi-hot `(count, classes)`.
        classes: The class names, in the order of the logits.
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


def _prediction_caption(classes, index, confidence):
    return f"predicted {classes[index]}, {confidence:.0%}" if index >= 0 else "no prediction: NaN"


def _label_differences(classes, present, predicted):
    """Returns the caption of an image: its labels, the false negatives, the false positives."""
    groups = {
        "": present,
        "missed: ": present & ~predicted,
        "false positives: ": predicted & ~present,
    }
    lines = [
        title + _join_labels([classes[index] for index in np.flatnonzero(group)])
        for title, group in groups.items()
        if group.any() or not title
    ]
    return "\n".join(lines)


def _join_labels(names):
    more = f" and {len(names) - _MAX_LISTED_LABELS} more" if len(names) > _MAX_LISTED_LABELS else ""
    return (", ".join(names[:_MAX_LISTED_LABELS]) or "no label") + more


def classification_warnings(figures, labels, classes: Sequence[str]) -> list[str]:
    """Returns a warning if a classifier is not better than a trivial baseline.

    The baseline of a single-label classifier always predicts the most frequent class of the test
    images. That of a multi-label classifier ranks the images at random: its mean average precision
    is the mean over classes of the share of images with the label.

    Args:
        figures: The metrics, from `metrics.metrics_with_intervals`.
        labels: The labels of the test images, `(count,)`, or multi-hot `(count, classes)`.
        classes: The class names.

    Returns:
        At most one line.
    """
    labels = np.asarray(labels)
    if "map" in figures:
        shares = labels.mean(axis=0)
        chance = float(shares[shares > 0].mean()) if (shares > 0).any() else 0.0
        baseline = f"a random ranking ({format_value('map', chance)})"
        return compare_to_baseline("map", "mean average precision", figures, chance, baseline)
    counts = np.bincount(labels, minlength=len(classes))
    share = float(counts.max() / counts.sum())
    majority = classes[counts.argmax()]
    baseline = f"always predicting {majority} ({format_value('accuracy', share)})"
    return compare_to_baseline("accuracy", "accuracy", figures, share, baseline)
