"""The report of a classifier: lead sentence, sections on the test split, and warnings.

Examples are any object with `labels`, with `pixels`, which is indexed by arrays of indices, and
with `title(index)`, which returns the caption of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.classification import calibration, metrics, multilabel
from tasks.data import data_splits
from tasks.report import confidence_intervals, confusion_plot, cross_entropy, page, plots
from tasks.report.baselines import compare_to_baseline
from tasks.report.evaluation_report import EvaluatedModel, EvaluationReport
from tasks.report.formatting import format_value
from tasks.report.image_results import ImageResults, of_examples
from zoo.lazy import LazyModule, np

evidence = LazyModule("tasks.classification.evidence")
ranking = LazyModule("tasks.classification.ranking")

SHOWN_MISTAKES = 24
_MAX_LISTED_LABELS = 6  # per line of a caption


def evaluation_report(
    data, logits, network, *, model: str, dataset: str, seed: int
) -> EvaluationReport:
    """Returns the report of a classifier on its test split.

    Args:
        data: A `data_splits.DataSplits`.
        logits: Of the test images, `(count, classes)`.
        network: The `keras.Model`, whose saliency maps are shown.
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
        sections=[
            *sections(data.test, classes, logits),
            *evidence.sections(network, data.test, classes, logits),
        ],
        warnings=[*data_splits.class_notes(data), *data.warnings()],
        metric_warnings=classification_warnings(figures, labels, classes),
        image_results=image_results(data.test, classes, logits),
        class_figures=class_figures(labels, classes, logits, seed=seed),
    )


def image_results(examples, classes: Sequence[str], logits) -> ImageResults:
    """Returns the results on each image: labels, predictions, whether they are equal, and loss.

    Args:
        examples: The images with their `labels`, `(count,)` or multi-hot `(count, classes)`.
        classes: The class names, in the order of the logits.
        logits: `(count, classes)`.
    """
    names, labels = np.asarray(classes), np.asarray(examples.labels)
    if labels.ndim == 2:
        predicted, labels = np.asarray(logits) > 0, labels.astype(bool)
        columns = {
            "label": ["|".join(names[row]) for row in labels],
            "prediction": ["|".join(names[row]) for row in predicted],
            "exact_match": (predicted == labels).all(axis=1),
            "loss": cross_entropy.sigmoid_cross_entropy(logits, labels),
        }
        return of_examples(examples, columns)
    predicted = metrics.predictions(logits)
    columns = {
        "label": names[labels],
        "prediction": [names[index] if index >= 0 else "" for index in predicted],
        "probability": metrics.confidences(logits),
        "accuracy": predicted == labels,
        "loss": cross_entropy.softmax_cross_entropy(logits, labels),
    }
    return of_examples(examples, columns)


def class_figures(labels, classes: Sequence[str], logits, *, seed: int) -> list[dict]:
    """Returns the metrics of each class, with a 95% bootstrap interval of the recall.

    Args:
        labels: `(count,)`, or multi-hot `(count, classes)`.
        classes: The class names, in the order of the logits.
        logits: `(count, classes)`.
        seed: The seed of the bootstrap.
    """
    if np.ndim(labels) == 2:
        rows = multilabel.per_class_metrics(logits, labels)
        is_label, hits = np.asarray(labels).T.astype(bool), (np.asarray(logits) > 0).T
    else:
        predicted = metrics.predictions(logits)
        matrix = metrics.confusion_matrix(labels, predicted, len(classes))
        rows = metrics.per_class_metrics(matrix)
        is_label = [labels == index for index in range(len(classes))]
        hits = [predicted == index for index in range(len(classes))]
    found = []
    for name, row, mine, hit in zip(classes, rows, is_label, hits, strict=True):
        recall = row.pop("recall")
        ends = confidence_intervals.mean_interval(hit[mine], seed=seed) if mine.any() else np.nan
        interval = confidence_intervals.with_interval("recall", recall, ends)
        found.append({"class": str(name), **interval, **row})
    return found


def lead(evaluated: EvaluatedModel, figures: Mapping[str, float], num_classes: int) -> str:
    """Returns a sentence that summarizes the result.

    Args:
        evaluated: What was evaluated.
        figures: The metrics, from `metrics.metrics_with_intervals`.
        num_classes: The number of classes.
    """
    images = evaluated.training_clause(figures)
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
    probabilities = np.nan_to_num(metrics.softmax(np.asarray(logits)))
    sections.append(("Precision and recall", ranking.curves_figure(probabilities, labels, classes)))
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
