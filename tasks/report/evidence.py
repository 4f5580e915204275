"""The sections of a report that show what a classifier said of the examples of its test split.

Examples are anything with `labels`, with `pixels`, images that an array of indices selects, and
with `title(index)`, what to call one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.report import calibration, metrics, multilabel, page, plots
from tasks.report.words import number, unseen
from zoo.lazy import np

SHOWN_MISTAKES = 24
_NAMED = 6  # labels of one kind under a picture


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
        figures: those of `metrics.judged`.
        tested, taught: examples of the test and of the training split.
        classes: how many there are.
        copies: near copies of training images among the test images.
    """
    seen = unseen(tested, taught, copies)
    for name in ("accuracy", "map"):
        if rest := figures.get(f"deduplicated_{name}"):
            seen += f", and without these it is {number(name, rest)}"
    many = f"{tested:,} test image{'' if tested == 1 else 's'} of {dataset}"
    if "map" in figures:
        return (
            f"{model} finds the labels of {many} with a mean average precision of "
            f"{number('map', figures['map'])} over {classes} classes; {seen}."
        )
    constant = ""
    if share := figures.get("majority_share"):
        constant = f" (always the most frequent one would be {share:.1%})"
    return (
        f"{model} names {figures['accuracy']:.1%} of {many} right, out of {classes} classes"
        f"{constant}; {seen}."
    )


def single(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns sections on a classifier that names one class for each image.

    Args:
        examples: the images with their true class numbers, `labels` of shape `(count,)`.
        classes: the names of the classes, in the order of the logits.
        logits: `(count, classes)`.
    """
    labels, said = examples.labels, metrics.predictions(logits)
    matrix = metrics.confusion(labels, said, len(classes))
    sections = [
        ("Classes", _table(classes, metrics.per_class(matrix))),
        ("Confusion matrix", plots.confusion(matrix, classes)),
        ("Calibration", calibration.reliability(metrics.confidences(logits), said == labels)),
    ]
    worst = metrics.worst_mistakes(logits, labels, SHOWN_MISTAKES)
    if len(worst):
        sure = metrics.confidences(logits[worst])
        captions = [
            f"{classes[labels[index]]}\n{_said(classes, said[index], sure[place])}"
            f"\n{examples.title(index)}"
            for place, index in enumerate(worst)
        ]
        pictures = zip(examples.pixels[worst], captions, strict=True)
        sections.append(("Worst mistakes", plots.gallery(pictures)))
    return sections


def multi(examples, classes: Sequence[str], logits) -> list[tuple[str, str]]:
    """Returns sections on a classifier that gives each image any number of labels.

    Args:
        examples: the images with their true `labels`, 1 and 0 of shape `(count, classes)`.
        classes: the names of the classes, in the order of the logits.
        logits: `(count, classes)`.
    """
    labels = np.asarray(examples.labels).astype(bool)
    sections = [("Classes", _table(classes, multilabel.per_class(logits, labels)))]
    worst = multilabel.worst_mistakes(logits, labels, SHOWN_MISTAKES)
    if len(worst):
        said = np.asarray(logits)[worst] > 0
        captions = [
            f"{_differences(classes, *pair)}\n{examples.title(index)}"
            for index, *pair in zip(worst, labels[worst], said, strict=True)
        ]
        pictures = zip(examples.pixels[worst], captions, strict=True)
        sections.append(("Worst mistakes", plots.gallery(pictures)))
    return sections


def _table(classes, rows):
    rows = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    return page.table(rows, list(rows[0]))


def _said(classes, number, sure):
    return f"taken for {classes[number]}, {sure:.0%}" if number >= 0 else "no answer: NaN"


def _differences(classes, there, said):
    """Returns the caption of an image: its labels, those that were missed, those made up."""
    groups = {"": there, "missed: ": there & ~said, "not there: ": said & ~there}
    lines = [
        title + _listed([classes[index] for index in np.flatnonzero(group)])
        for title, group in groups.items()
        if group.any() or not title
    ]
    return "\n".join(lines)


def _listed(names):
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "no label") + more
