"""Predictions of a model on a sample of images, compared with the ground truth if possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from tasks.data.dataset import ItemView
from zoo.errors import UsageError
from zoo.lazy import np

MIN_IMAGES = 40  # images that an accuracy needs
MIN_MATCH_ACCURACY = 0.5  # of a matching of classes, below which it may be that of another task
DEFAULT_IMAGE_SIZE = 224  # of images for a model without a fixed size


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """A model and its predictions on a sample of images.

    Attributes:
        model: a `keras.Model` whose input is a batch of images.
        images: uint8 `(images, height, width, channels)`.
        labels: int64 `(images,)`, indices of the model's logits; -1 for classes it does not have.
        numbers: int64 `(images,)`, indices of the classes of the data set.
        classes: the names of the model's classes, or `()`.
        dataset_classes: the names of the classes of the data set.
        incomparable: why predictions cannot be compared with labels, or `""`.
        items: the images before they were decoded, as in `dataset.Split`.
        resize: how they were resized: `stretch`, `crop` or `pad`.
    """

    model: object
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    numbers: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    dataset_classes: tuple[str, ...]
    incomparable: str = ""
    items: Sequence = field(default=(), repr=False)
    resize: str = "stretch"

    @cached_property
    def seen(self):
        """Moments of the inputs of each batch normalization, and the logits of all images."""
        return layer_statistics.batch_norm_moments(self.model, self.images)

    @property
    def predictions(self):
        """The predicted classes, indices of logits `(images,)`."""
        return argmax_classes(self.seen[1])

    @property
    def right(self):
        """Whether each prediction is correct; raises `CheckSkipped` if there is no ground truth."""
        if self.incomparable:
            raise CheckSkipped(self.incomparable)
        return self.predictions == self.labels

    @property
    def better_than_majority(self):
        """Whether the model is significantly better than predicting the most frequent class."""
        return self.beats_majority(self.right)

    def beats_majority(self, right):
        """Returns whether predictions are significantly better than the most frequent class."""
        share = np.bincount(self.labels[self.labels >= 0]).max() / len(self.labels)
        error = math.sqrt(max(share * (1 - share), 1e-9) / len(self.labels))
        return bool(right.mean() > share + MIN_STANDARD_ERRORS * error)


def predict_sample(model, about, source, split, images, seed=0):
    """Returns the `ModelPredictions` of a model on a random sample of a split.

    Args:
        model: a `keras.Model`.
        about: its metadata, as `zoo.model_files.load` returns them.
        source: a `sources.Source`.
        split: one of its `Split`s.
        images: the maximum number of images.
        seed: the random seed of the sample.

    Raises:
        UsageError: the model does not take images, or has several outputs, such as a detector.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise UsageError(f"{model.name} takes {shape}, not images (batch, height, width, channels)")
    if len(getattr(model, "outputs", None) or "x") > 1:
        raise UsageError(
            f"{model.name} has several outputs ({', '.join(model.output_names)}); zoo doctor "
            "checks models with one output, such as classifiers; use zoo evaluate"
        )
    shape = (shape[1] or DEFAULT_IMAGE_SIZE, shape[2] or DEFAULT_IMAGE_SIZE, shape[3])
    order = np.random.default_rng(seed).permutation(len(split))[:images]
    resize = about.get("resize", "stretch")
    examples = decoding.decode(split.take(np.sort(order)), shape, resize)
    items = ItemView([(examples.items, index) for index in examples.item_indices])
    classes = tuple(map(str, about.get("classes", ())))
    guessed = _has_no_names(source.classes) and len(classes) == len(source.classes)
    if guessed:
        classes = source.classes  # compare by index if one side has no names
    reason = _incomparable_reason(model, classes, source, len(examples))
    numbers = np.asarray(examples.labels)
    labels = numbers
    if not reason and classes:
        indices = [classes.index(name) if name in classes else -1 for name in source.classes]
        labels = np.array(indices)[numbers]
        if (labels >= 0).sum() < MIN_IMAGES:
            reason = "too few images have a class of the model"
    pixels = np.asarray(examples.pixels[np.arange(len(examples))])
    sample = ModelPredictions(
        model, pixels, labels, numbers, classes, source.classes, reason, items, resize
    )
    if guessed and not reason and not sample.better_than_majority:
        return replace(sample, incomparable="the classes of the data set have no names")
    return sample


def check_class_order(sample):
    """Yields a finding if the order of the logits differs from that of the labels."""
    right = sample.right
    if (
        set(sample.classes) == set(sample.dataset_classes)
        and sample.classes != sample.dataset_classes
    ):
        by_number = sample.predictions == sample.numbers
        differ = [
            f"{number} is {own!r} in the model and {other!r} in the data"
            for number, (own, other) in enumerate(
                zip(sample.classes, sample.dataset_classes, strict=True)
            )
            if own != other
        ]
        figures = f"accuracy {right.mean():.2f} by name, {by_number.mean():.2f} by number"
        wrong = significantly_better(by_number, right)
        yield Finding(
            "class order",
            WRONG if wrong else LOOK,
            f"the order of classes differs: {join_names(differ)}; {figures}",
            "the class names in the model file are in a wrong order; save those of the data"
            if wrong
            else "compare classes by name, as `zoo evaluate` does, not the index of the largest "
            "logit with these labels",
        )
        if wrong:
            return
    matched, swaps = _match_classes(sample)
    if significantly_better(matched, right) and matched.mean() >= MIN_MATCH_ACCURACY:
        yield Finding(
            "class order",
            WRONG,
            f"predictions are correct for {right.mean():.0%} of {len(right):,} images, and for "
            f"{matched.mean():.0%} if classes are permuted: {join_names(swaps)}",
            "the model was trained with another order of classes, such as that of folder names; "
            "reorder the labels or the class names of the model",
        )


def argmax_classes(logits):
    """Returns the indices of the largest logits."""
    return logits.argmax(-1)


def cross_entropies(outputs, labels):
    """Returns the cross-entropy of each output, of logits or probabilities, in nats."""
    logits = np.asarray(outputs, "float64")
    if logits.min() >= 0 and np.allclose(logits.sum(-1), 1, atol=1e-3):
        logits = np.log(np.maximum(logits, 1e-12))
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


def _has_no_names(classes):
    return tuple(classes) == tuple(map(str, range(len(classes))))


def _incomparable_reason(model, classes, source, count):
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] < 2:
        return "the model does not output one logit per class"
    if source.multi_label:
        return "the data set is multi-label"
    if count < MIN_IMAGES:
        return f"{count} images are too few; at least {MIN_IMAGES} are needed"
    if classes and len(classes) != shape[-1]:
        return f"the model outputs {shape[-1]} logits, but has names for {len(classes)} classes"
    if classes and len(set(classes) & set(source.classes)) < 2:
        return "the model was trained on other classes"
    if not classes and shape[-1] != len(source.classes):
        return f"the model has {shape[-1]} classes without names, the data {len(source.classes)}"
    return ""


def _match_classes(sample):
    """Matches the model's classes to those of the labels by their co-occurrence.

    The matching is estimated on one half of the images and tested on the other.

    Returns:
        Whether each prediction is then correct, and descriptions of the permuted classes.
    """
    predictions, labels = sample.predictions, sample.labels
    size = int(max(predictions.max(), labels.max())) + 1
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    matched = np.zeros(len(labels), bool)
    for half in (0, 1):
        match = _greedy_matching(predictions[halves != half], labels[halves != half], size)
        matched[halves == half] = match[predictions[halves == half]] == labels[halves == half]
    match = _greedy_matching(predictions, labels, size)
    name = sample.classes or sample.dataset_classes
    swaps = [
        f"{name[own]!r} is {name[true]!r}"
        for own, true in enumerate(match)
        if own != true and (predictions == own).any()
    ]
    return matched, swaps


def _greedy_matching(predictions, labels, size):
    """Returns the label of each predicted class: the most frequent pairs first, each used once."""
    table = np.zeros((size, size))
    np.add.at(table, (predictions[labels >= 0], labels[labels >= 0]), 1)
    table += 0.5 * np.eye(size)  # a class that was never predicted keeps its label if possible
    match = np.full(size, -1)
    for cell in np.argsort(-table, axis=None, kind="stable"):
        own, true = divmod(int(cell), size)
        if match[own] < 0 and true not in match:
            match[own] = true
    return match
