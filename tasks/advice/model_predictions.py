"""A model's answers to some hundred images of a data set, and the truth where it is comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

from tasks.advice import layer_statistics
from tasks.advice.findings import (
    LOOK,
    MIN_STANDARD_ERRORS,
    WRONG,
    CheckSkipped,
    Finding,
    join_names,
    significantly_better,
)
from tasks.data import decoding
from zoo.errors import UsageError
from zoo.lazy import np

MIN_IMAGES = 40  # images without which accuracies say nothing
MIN_MATCH_ACCURACY = 0.5  # accuracy below which a match of classes may be that of another task's
DEFAULT_IMAGE_SIZE = 224  # of images for a model that takes any


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """A model and images that it can be tried on.

    Attributes:
        model: a `keras.Model` from images.
        images: uint8 `(images, height, width, channels)`.
        labels: int64 `(images,)`, positions in the model's answers; -1 where there is none.
        numbers: int64 `(images,)`, positions in the data set's classes.
        classes: the names of the model's classes, or `()`.
        known: the names of the data set's.
        incomparable: why answers cannot be compared with labels, or `""`.
    """

    model: object
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    numbers: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    known: tuple[str, ...]
    incomparable: str = ""

    @cached_property
    def seen(self):
        """What entered each batch normalisation, and the answers to all images."""
        return layer_statistics.batch_norm_moments(self.model, self.images)

    @property
    def answers(self):
        """The positions that the model answers, `(images,)`."""
        return argmax_classes(self.seen[1])

    @property
    def right(self):
        """Whether each answer is right; raises `Unchecked` where that cannot be told."""
        if self.incomparable:
            raise CheckSkipped(self.incomparable)
        return self.answers == self.labels

    @property
    def better_than_majority(self):
        """Whether the model is clearly better than always to name the commonest class."""
        return self.beats_majority(self.right)

    def beats_majority(self, right):
        """Tells whether answers are clearly better than always to name the commonest class."""
        share = np.bincount(self.labels[self.labels >= 0]).max() / len(self.labels)
        error = math.sqrt(max(share * (1 - share), 1e-9) / len(self.labels))
        return bool(right.mean() > share + MIN_STANDARD_ERRORS * error)


def predict_sample(model, about, source, split, images, seed=0):
    """Returns a `Trial` of a model on some examples of a split.

    Args:
        model: a `keras.Model`.
        about: what is known of it, as `zoo.model_files.load` gives it.
        source: a `sources.Source`.
        split: one of its `Split`s.
        images: how many examples at most, drawn at random.
        seed: of the draw.

    Raises:
        UsageError: the model does not take images, or has several outputs, as a detector has.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise UsageError(f"{model.name} takes {shape}, not images (batch, height, width, channels)")
    if len(getattr(model, "outputs", None) or "x") > 1:
        raise UsageError(
            f"{model.name} has several outputs ({', '.join(model.output_names)}); zoo doctor "
            "examines models of one output, such as classifiers; zoo evaluate judges this one"
        )
    shape = (shape[1] or DEFAULT_IMAGE_SIZE, shape[2] or DEFAULT_IMAGE_SIZE, shape[3])
    order = np.random.default_rng(seed).permutation(len(split))[:images]
    examples = decoding.decode(split.take(np.sort(order)), shape, about.get("resize", "stretch"))
    classes = tuple(map(str, about.get("classes", ())))
    guessed = _has_no_names(source.classes) and len(classes) == len(source.classes)
    if guessed:
        classes = source.classes  # where one side has no names, numbers must do
    reason = _incomparable_reason(model, classes, source, len(examples))
    numbers = np.asarray(examples.labels)
    labels = numbers
    if not reason and classes:
        places = [classes.index(name) if name in classes else -1 for name in source.classes]
        labels = np.array(places)[numbers]
        if (labels >= 0).sum() < MIN_IMAGES:
            reason = "too few images are of classes that the model was taught"
    pixels = np.asarray(examples.pixels[np.arange(len(examples))])
    trial = ModelPredictions(model, pixels, labels, numbers, classes, source.classes, reason)
    if guessed and not reason and not trial.better_than_majority:
        return replace(trial, incomparable="the classes of the data have no names")
    return trial


def check_class_order(trial):
    """Finds that a model's answers are numbered in another order than the labels."""
    right = trial.right
    if set(trial.classes) == set(trial.known) and trial.classes != trial.known:
        by_number = trial.answers == trial.numbers
        differ = [
            f"{number} is {own!r} to the model and {other!r} in the data"
            for number, (own, other) in enumerate(zip(trial.classes, trial.known, strict=True))
            if own != other
        ]
        figures = f"accuracy {right.mean():.2f} by name, {by_number.mean():.2f} by number"
        wrong = significantly_better(by_number, right)
        yield Finding(
            "class order",
            WRONG if wrong else LOOK,
            f"classes stand in another order: {join_names(differ)}; {figures}",
            "the names in the model's file are in a wrong order: save it with those of the data"
            if wrong
            else "compare by name, as `zoo evaluate` does; anything that compares the number of "
            "the largest logit with these labels is wrong",
        )
        if wrong:
            return
    matched, swaps = _match_classes(trial)
    if significantly_better(matched, right) and matched.mean() >= MIN_MATCH_ACCURACY:
        yield Finding(
            "class order",
            WRONG,
            f"answers are right for {right.mean():.0%} of {len(right):,} images, and for "
            f"{matched.mean():.0%} if classes are matched otherwise: {join_names(swaps)}",
            "the model was taught its classes in another order, such as that of folder names: "
            "give the labels, or the list of its classes, that order",
        )


def argmax_classes(logits):
    """Returns the positions of the largest logits."""
    return logits.argmax(-1)


def cross_entropies(answers, labels):
    """Returns the cross-entropy of each answer, of logits or of probabilities, in nats."""
    answers = np.asarray(answers, "float64")
    if answers.min() >= 0 and np.allclose(answers.sum(-1), 1, atol=1e-3):
        answers = np.log(np.maximum(answers, 1e-12))
    answers = answers - answers.max(-1, keepdims=True)
    logs = answers - np.log(np.exp(answers).sum(-1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


def _has_no_names(classes):
    return tuple(classes) == tuple(map(str, range(len(classes))))


def _incomparable_reason(model, classes, source, count):
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] < 2:
        return "the model does not answer with a logit for each class"
    if source.multi_label:
        return "images have several labels"
    if count < MIN_IMAGES:
        return f"{count} images are too few; {MIN_IMAGES} are needed"
    if classes and len(classes) != shape[-1]:
        return (
            f"the model answers with {shape[-1]} numbers, but has names for {len(classes)} classes"
        )
    if classes and len(set(classes) & set(source.classes)) < 2:
        return "the model was taught other classes than the data have"
    if not classes and shape[-1] != len(source.classes):
        return f"the model has {shape[-1]} classes without names, the data {len(source.classes)}"
    return ""


def _match_classes(trial):
    """Matches the model's classes to those of the labels by what it answers.

    Half of the images decide for the other half, so that chance gains nothing.

    Returns:
        Whether each answer is then right, and what the match changes, in words.
    """
    answers, labels = trial.answers, trial.labels
    size = int(max(answers.max(), labels.max())) + 1
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    matched = np.zeros(len(labels), bool)
    for half in (0, 1):
        match = _greedy_matching(answers[halves != half], labels[halves != half], size)
        matched[halves == half] = match[answers[halves == half]] == labels[halves == half]
    match = _greedy_matching(answers, labels, size)
    name = trial.classes or trial.known
    swaps = [
        f"{name[own]!r} for what is {name[true]!r}"
        for own, true in enumerate(match)
        if own != true and (answers == own).any()
    ]
    return matched, swaps


def _greedy_matching(answers, labels, size):
    """Returns which label each answer stands for: the commonest pairs first, each used once."""
    table = np.zeros((size, size))
    np.add.at(table, (answers[labels >= 0], labels[labels >= 0]), 1)
    table += 0.5 * np.eye(size)  # an answer that was never given keeps its meaning if it can
    match = np.full(size, -1)
    for place in np.argsort(-table, axis=None, kind="stable"):
        own, true = divmod(int(place), size)
        if match[own] < 0 and true not in match:
            match[own] = true
    return match
